"""A run that starts from the weights of a trained encoder."""

import numpy as np
import pytest
from small_models import pictures, same_weights, small_vit, varied

from memssl_keras import ResNet, get_recipe
from memssl_keras.data.pairs import Paired
from memssl_keras.training.pretrain import pretrain
from memssl_keras.training.settings import SettingsChanged
from memssl_keras.training.start import fingerprint, start_from

SMALL = {"blocks": (1, 1), "width": 4, "stem": "half"}


def recipe(**changes):
    import dataclasses

    base = get_recipe("resnet12_icons")
    settings = {"encoder": SMALL, "batch_size": 8, "memory_size": 16, "block_size": 8, "epochs": 1}
    return dataclasses.replace(base, **{**settings, **changes})


def test_weights_are_those_of_the_same_layers():
    source = ResNet(**SMALL, pooling_grid=(1, 2), whitening={"rank": 4})
    source.set_weights(
        [np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(source.get_weights())]
    )
    encoder = start_from(ResNet(**SMALL, pooling_grid=2), source)
    for layer in encoder.layers:
        for ours, theirs in zip(layer.get_weights(), source.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert len(encoder.get_weights()) == len(source.get_weights()) - 4  # without the whitening's


def test_other_widths_are_refused_by_name():
    with pytest.raises(
        ValueError, match=r"init='resnet': its layer stem has \[\(3, 3, 3, 8\)\] weights; expected"
    ):
        start_from(ResNet(**SMALL), ResNet(**{**SMALL, "width": 8}))


def test_tokens_and_positions_of_a_vit_are_weights_too():
    source = varied(small_vit(register_tokens=2))
    encoder = start_from(small_vit(register_tokens=2), source)
    assert same_weights(encoder, source)
    moved = small_vit(register_tokens=2)
    moved.set_weights(source.get_weights())
    moved.pos_embed.assign(moved.pos_embed + 1)
    assert fingerprint(moved)["crc32"] != fingerprint(source)["crc32"]
    with pytest.raises(ValueError, match=r"its pos_embed is \(1, 17, 24\); expected \(1, 65, 24\)"):
        start_from(small_vit(image_size=64), small_vit())
    with pytest.raises(ValueError, match="it has block_2, block_3, which the recipe's encoder has not"):
        start_from(small_vit(), small_vit(depth=4))


def test_the_run_begins_there_and_its_record_says_so(tmp_path):
    source = ResNet(**SMALL)
    none = recipe(learning_rate=0.0, final_learning_rate=0.0, momentum=1.0, warmup_epochs=0)
    trained = pretrain(none, pictures(16), tmp_path / "run", init=source, say=lambda line: None)
    np.testing.assert_array_equal(
        trained.encoder.get_layer("stem").get_weights()[0], source.get_layer("stem").get_weights()[0]
    )
    assert fingerprint(source) != fingerprint(ResNet(**SMALL))
    with pytest.raises(SettingsChanged, match="init was"):
        pretrain(none, pictures(16), tmp_path / "run", say=lambda line: None)


@pytest.mark.slow
def test_a_run_with_pairs_is_resumed_bit_for_bit(tmp_path):
    paired = Paired(pictures(32), [i // 4 for i in range(32)], 0.7)
    pretrain(recipe(epochs=2), paired, tmp_path / "whole", say=lambda line: None)

    class Stop(Exception):
        pass

    import keras

    class StopAt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.step == 6:
                raise Stop

    with pytest.raises(Stop):
        pretrain(
            recipe(epochs=2),
            paired,
            tmp_path / "cut",
            checkpoint_every=1,
            callbacks=[StopAt()],
            say=lambda line: None,
        )
    again = pretrain(recipe(epochs=2), paired, tmp_path / "cut", say=lambda line: None)
    whole = pretrain(recipe(epochs=2), paired, tmp_path / "whole", say=lambda line: None)
    assert all((a == b).all() for a, b in zip(again.get_weights(), whole.get_weights(), strict=True))
    with pytest.raises(SettingsChanged, match="pairs was"):
        pretrain(recipe(epochs=2), pictures(32), tmp_path / "cut", say=lambda line: None)
