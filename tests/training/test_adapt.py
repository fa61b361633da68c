"""A run that goes on from a trained encoder: what is frozen, what moves how far, and what is chosen."""

import dataclasses
import json

import datasets
import keras
import numpy as np
import pytest
import torch
from PIL import Image
from small_models import pictures, same_weights, small_crops, small_vit, varied

from memssl_keras import AdamW, ResNet, from_pretrained
from memssl_keras.data.huggingface import Stream
from memssl_keras.data.pairs import Paired
from memssl_keras.data.view_pairs import view_pairs
from memssl_keras.data.views import MultiCrop
from memssl_keras.encoders.copies import without_whitening
from memssl_keras.encoders.whitening import Whitening
from memssl_keras.training.adapt import adapt_recipe, sizes_for
from memssl_keras.training.choose import MANY, choose_recipe
from memssl_keras.training.pretrain import pretrain
from memssl_keras.training.refit import refitted
from memssl_keras.training.whiten import raw_features, whitening_of

RESNET = {"blocks": (1, 1), "width": 4, "stem": "half"}


def quiet(line):
    pass


def recipe(encoder, images=32, **changes):
    settings = {"epochs": 4, "batch_size": 8, "memory_size": 16, "hidden_dim": 16, "output_dim": 8}
    return adapt_recipe(encoder, images, views=small_crops(), **{**settings, **changes})


def whitened_resnet():
    encoder = ResNet(**RESNET, whitening={"rank": 6, "reduce": True})
    raw = without_whitening(encoder)
    features = np.asarray(raw.predict(pictures(40).astype("float32") / 255, verbose=0))
    whitening_of(encoder).fit(features)
    return encoder


class Watch(keras.callbacks.Callback):
    """Weights of student's encoder, student's head and memory after every step."""

    def on_train_begin(self, logs=None):
        self.seen = [self.now()]

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.now())

    def now(self):
        parts = (self.model.student.encoder, self.model.student.head, self.model.memory)
        return [[w.copy() for w in map(np.array, part.get_weights())] for part in parts]

    def moved(self, part):
        """Whether each step changed it."""
        pairs = zip(self.seen, self.seen[1:], strict=False)
        return [
            any((a != b).any() for a, b in zip(before[part], after[part], strict=True))
            for before, after in pairs
        ]


def test_first_the_memory_then_the_head_then_the_encoder(tmp_path):
    encoder, watch = varied(small_vit()), Watch()
    settings = recipe(encoder, frozen_epochs=2, thaw_epochs=1)
    pretrain(settings, pictures(32), tmp_path, init=encoder, callbacks=[watch], say=quiet)
    steps, fill, frozen = 16, 2, 8  # 16 slots in batches of 8; two epochs of 4 steps
    assert watch.moved(2) == [True] * steps
    assert watch.moved(1) == [False] * fill + [True] * (steps - fill)
    assert watch.moved(0) == [False] * frozen + [True] * (steps - frozen)
    vectors = [seen[2][0] for seen in watch.seen]
    # No slot of the random memory is left at the first step that trains something.
    assert not (vectors[fill][:, None] == vectors[0][None]).all(-1).any()


def test_the_memory_is_filled_with_embeddings_of_the_encoder_as_it_came(tmp_path):
    encoder, watch = varied(small_vit()), Watch()
    settings = recipe(encoder, frozen_epochs=2, batch_norm=False)
    model = pretrain(settings, pictures(32), tmp_path, init=encoder, callbacks=[watch], say=quiet)
    del model
    first = watch.seen[2][2][0]
    again = settings.build(varied(small_vit()), seed=0)
    again.student.head.set_weights(watch.seen[0][1])
    from memssl_keras.data.loader import view_loader

    loader = view_loader(pictures(32), views=settings.views, batch_size=8, seed=0)
    expected = []
    for _, (views,) in zip(range(2), loader, strict=False):
        seen = again.normalised([views[1]])
        expected.append(again.student(seen, training=False).detach().numpy())
    np.testing.assert_allclose(first, np.concatenate(expected), atol=1e-5)


def test_the_first_layers_move_least(tmp_path):
    encoder = varied(small_vit(depth=4))
    settings = recipe(
        encoder, first_layer_rate=0.01, encoder_rate=0.5, frozen_epochs=1, weight_decay=(0.0, 0.0)
    )
    model = pretrain(settings, pictures(32), tmp_path, init=encoder, say=quiet)
    shares = model.optimizer.shares
    layers = len(encoder.trainable_variables)
    assert shares[0] == pytest.approx(0.005) and shares[layers - 1] == pytest.approx(0.5)
    assert set(shares[layers:]) == {1.0} and shares[:layers] == sorted(shares[:layers])
    kernels = [(encoder.blocks[i].fc1, model.student.encoder.blocks[i].fc1) for i in (0, 3)]
    first, last = (
        np.mean([np.abs(a - b).mean() for a, b in zip(x.get_weights(), y.get_weights(), strict=True)])
        for x, y in kernels
    )
    assert 0 < first < last / 5


def test_the_encoder_reaches_the_full_rate(tmp_path):
    encoder = varied(small_vit())
    settings = recipe(encoder, first_layer_rate=1.0, encoder_rate=1.0, frozen_epochs=1, thaw_epochs=1)
    model = pretrain(settings, pictures(32), tmp_path, init=encoder, say=quiet)
    assert set(model.optimizer.shares) == {1.0}
    assert model.optimizer.starts[0] == 4 and model.optimizer.starts[-1] == 2


def test_shares_and_late_starts_are_torchs_groups_and_new_optimisers():
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(3, 4)).astype("float32") for _ in range(2)]
    variables = [keras.Variable(value) for value in start]
    ours = AdamW(1e-2, weight_decay=0.1)
    ours.build(variables)
    ours.shares, ours.starts = [0.1, 1.0], [5, 0]
    theirs = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in start]
    others = [
        torch.optim.AdamW([w], lr=r, weight_decay=0.1) for w, r in zip(theirs, (1e-3, 1e-2), strict=True)
    ]
    for step in range(12):
        gradients = [rng.normal(size=(3, 4)) for _ in range(2)]
        chosen = range(0 if step >= 5 else 1, 2)
        ours.apply([torch.from_numpy(gradients[i]).float() for i in chosen], [variables[i] for i in chosen])
        for i in chosen:
            theirs[i].grad = torch.from_numpy(gradients[i])
            others[i].step()
    for a, b in zip(variables, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("fixed", [True, False])
def test_statistics_of_batch_norm_stay_where_they_are_to_be_fixed(tmp_path, fixed):
    encoder = ResNet(**RESNET)
    settings = recipe(encoder, fixed_statistics=fixed, frozen_epochs=1)
    model = pretrain(settings, pictures(32), tmp_path, init=encoder, say=quiet)
    pairs = zip(encoder.non_trainable_weights, model.encoder.non_trainable_weights, strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs) == fixed


def test_a_whitening_is_fitted_anew_to_the_new_pictures(tmp_path):
    encoder = whitened_resnet()
    model = pretrain(recipe(encoder), pictures(64, seed=9), tmp_path, init=encoder, say=quiet)
    kept = from_pretrained(tmp_path)
    assert kept.embed_dim == 6 and same_weights(kept, model.encoder)
    assert model.student.encoder.embed_dim == 8  # the head sees the features themselves
    expected = Whitening(6, True)
    expected.build((None, 8))
    images, views = pictures(64, seed=9), recipe(encoder).views
    first, second, _ = view_pairs(images, views, 64, draws=2)
    plain = dataclasses.replace(encoder.preprocess, resize_size=encoder.preprocess.image_size)
    parts = [encoder.preprocess.batch(images), plain.batch(first), plain.batch(second)]
    raw = [np.asarray(model.teacher.encoder.predict(part, verbose=0)) for part in parts]
    expected.fit_pairs(*raw, shrinkage=0.1, within=0.75, power=0.1)
    for ours, theirs in zip(whitening_of(kept).get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-3, atol=1e-3)


def test_images_on_any_scale_and_in_a_folder_are_whitened_and_counted_alike(tmp_path):
    encoder, images, folder = whitened_resnet(), pictures(32, seed=9), tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(images):
        Image.fromarray(picture).save(folder / f"{number:02d}.png")
    kept = [
        pretrain(recipe(encoder, epochs=1), given, tmp_path / name, init=encoder, say=quiet).encoder
        for name, given in (("uint8", images), ("floats", images.astype("float32")), ("folder", str(folder)))
    ]
    for other in kept[1:]:
        assert same_weights(kept[0], other)
    for name in ("uint8", "floats", "folder"):
        assert json.loads((tmp_path / name / "run.json").read_text())["images"] == 32


def test_a_whitening_is_not_refitted_to_a_stream(tmp_path):
    rows = datasets.Dataset.from_dict({"image": [Image.fromarray(image) for image in pictures(16)]})
    stream = Stream(rows.to_iterable_dataset(), 16)
    encoder = whitened_resnet()
    with pytest.raises(ValueError, match="its whitening is refitted to the pictures, and a stream cannot"):
        pretrain(recipe(encoder), stream, tmp_path / "run", init=encoder, say=quiet)
    assert not (tmp_path / "run" / "run.json").exists()
    with pytest.raises(ValueError, match="images: got a Stream; expected a sequence"):
        Paired(stream, [0] * 16)


def test_fewer_pictures_than_axes_tell_no_whitening():
    encoder = whitened_resnet()
    before = whitening_of(encoder)
    for count, kept in ((before.rank - 1, True), (before.rank, False)):
        images, views = pictures(count, seed=9), recipe(encoder).views
        after = refitted(without_whitening(encoder), images, before, views)
        equal = [
            np.array_equal(a, b)
            for a, b in zip(whitening_of(after).get_weights(), before.get_weights(), strict=True)
        ]
        assert all(equal) if kept else not any(equal)


def test_a_whitening_that_keeps_all_features_is_fitted_anew_without_views():
    encoder = ResNet(**RESNET, whitening={"rank": 6})
    raw, images, like = without_whitening(encoder), pictures(32, seed=9), whitening_of(encoder)
    expected = Whitening(6)
    expected.build((None, 8))
    expected.fit(raw_features(raw, images), 0.1, 0.5)
    after = whitening_of(refitted(raw, images, like, recipe(encoder).views))
    for ours, theirs in zip(after.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_views_are_shown_as_they_were_cut():
    """Neither trimmed nor resized and cropped once more, as whole pictures are."""
    from memssl_keras.training.refit import _of_views

    encoder = whitened_resnet()
    raw, images = without_whitening(encoder), pictures(4, seed=9)
    size = raw.preprocess.image_size
    raw.preprocessing = {**raw.preprocess.to_dict(), "resize_size": 300, "trim": 0.1}
    views = MultiCrop(size, 16, 0)
    first, second, _ = view_pairs(images, views, 4, draws=2)
    mean, std = (np.array(getattr(raw.preprocess, name), "float32") for name in ("mean", "std"))
    for found, part in zip(_of_views(raw, images, views), (first, second), strict=True):
        expected = np.asarray(raw.predict((np.stack(part) / 255 - mean).astype("float32") / std, verbose=0))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_is_left_without_whitening_is_what_it_is_given():
    encoder = whitened_resnet()
    raw, images = without_whitening(encoder), pictures(4).astype("float32") / 255
    features = keras.ops.convert_to_tensor(raw.predict(images, verbose=0))
    white = np.asarray(whitening_of(encoder)(features))
    np.testing.assert_allclose(white, encoder.predict(images, verbose=0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 6, 11])  # filling, frozen, moving
def test_a_run_is_resumed_bit_for_bit(tmp_path, step):
    class Stop(Exception):
        pass

    class StopAt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.step == step:
                raise Stop

    encoder = whitened_resnet()
    settings = recipe(encoder, frozen_epochs=2, thaw_epochs=1)
    whole = pretrain(settings, pictures(32), tmp_path / "whole", init=encoder, say=quiet)
    with pytest.raises(Stop):
        pretrain(
            settings,
            pictures(32),
            tmp_path / "cut",
            init=encoder,
            checkpoint_every=1,
            callbacks=[StopAt()],
            say=quiet,
        )
    again = pretrain(settings, pictures(32), tmp_path / "cut", init=encoder, say=quiet)
    assert same_weights(whole, again) and same_weights(whole.encoder, again.encoder)


@pytest.mark.parametrize(
    ("images", "memory", "batch"), [(16, 8, 2), (100, 32, 8), (800, 256, 64), (50_000, 16384, 64)]
)
def test_sizes_follow_the_number_of_pictures(images, memory, batch):
    sizes = sizes_for(images)
    assert (sizes["memory_size"], sizes["batch_size"]) == (memory, batch)
    assert sizes["memory_size"] <= images // 2 and sizes["memory_size"] % sizes["block_size"] == 0
    assert 5 <= sizes["epochs"] <= 100


def test_too_few_pictures_are_refused():
    with pytest.raises(ValueError, match="images: got 15; expected 16 or more to train on"):
        choose_recipe(pictures(15))
    with pytest.raises(ValueError, match="images: got 15; expected 16 or more"):
        adapt_recipe(small_vit(), 15)


class Many:
    """One picture, as often as the published recipe asks for."""

    def __init__(self, picture):
        self.picture = picture

    def __len__(self):
        return MANY

    def __getitem__(self, index):
        return self.picture


def test_a_recipe_is_chosen_and_said(monkeypatch):
    small, words = choose_recipe(pictures(20))
    assert small.name.endswith("cifar10") and "chosen for 20 pictures, pictures of about 40 px" in words[0]
    assert "--init MODEL" in words[1]
    large, _ = choose_recipe(pictures(20, size=120), epochs=3)
    # A GPU alone does not make small or few pictures those of the published recipe.
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        many, few = Many(pictures(1, size=40)[0]), pictures(20, size=120)
        assert choose_recipe(many)[0].name == "resnet14_cifar10"
        assert choose_recipe(few)[0].name == "resnet14_photos"
        assert choose_recipe(Many(pictures(1, size=120)[0]))[0].name == "vits16_in1k"
    assert large.name == "resnet14_photos" and large.epochs == 3
    on, words = choose_recipe(pictures(20), init=small_vit())
    assert on.name == "adapt" and "starting from a ViT of width 24" in words[0]
    named, words = choose_recipe(pictures(20), "resnet12_icons")
    assert named.name == "resnet12_icons" and not words


def test_the_recipe_has_no_encoder_of_its_own():
    with pytest.raises(ValueError, match="recipe='adapt': has no encoder of its own"):
        recipe(small_vit()).build()
    assert dataclasses.replace(recipe(small_vit()), epochs=2).build(small_vit()).fill_steps == 2
