"""A student that learns a frozen teacher's similarities to the memory."""

import dataclasses

import keras
import numpy as np
import pytest
from small_models import pictures, same_weights, small_crops, small_recipe

from memssl_keras import AdamW, ResNet
from memssl_keras.data.loader import view_loader
from memssl_keras.data.pairs import Paired
from memssl_keras.data.targets import WithTargets
from memssl_keras.evaluate.embedders import Embedder, pixels
from memssl_keras.training.adapt import adapt_recipe
from memssl_keras.training.distilled import DistilledMaSSL, with_targets
from memssl_keras.training.pretrain import pretrain

RESNET = {"blocks": (1, 1), "width": 4, "stem": "half"}
TARGETS = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")


def quiet(line):
    pass


def small(encoder=None, **changes):
    sizes = {"memory_size": 24, "block_size": 12, "hidden_dim": 32, "output_dim": 6, "batch_norm": True}
    model = DistilledMaSSL(encoder or ResNet(**RESNET), **{**sizes, **changes})
    model.compile(AdamW(5e-3))
    return model


def teacher(calls=None):
    def embed(images):
        if calls is not None:
            calls.append(len(images))
        return pixels(images, 4, centred=True)

    return Embedder("pixels", {"kind": "pixels"}, embed)


def test_the_memory_is_filled_in_random_order_without_what_could_not_be_read():
    targets = np.concatenate([TARGETS, TARGETS + 10])
    targets[3] = np.nan
    filled = []
    for seed in (0, 0, 1):
        model = small(seed=seed)
        model.fill(targets)
        filled.append(model.memory.vectors.value.cpu().numpy())
    first, same, other = filled
    np.testing.assert_array_equal(first, same)
    assert np.isfinite(first).all() and not np.array_equal(first, other)
    known = np.nan_to_num(targets / np.linalg.norm(targets, axis=1, keepdims=True))
    rows = [int(np.argmax(known @ vector)) for vector in first]
    assert sorted(rows) != list(range(24)) and len(set(rows)) == 24


@pytest.mark.slow
def test_similarities_become_the_teachers():
    images = WithTargets(pictures(24), pixels(list(pictures(24)), 3, centred=True))
    model = small(output_dim=27, student_temperature=0.1, teacher_temperature=0.1)
    model.fill(images.targets)
    views = small_crops(local_views=0, global_scale=(0.8, 1.0), flip=0.0, jitter=0.0, grey=0.0, solarize=0.0)
    history = model.fit(images, views=views, batch_size=8, epochs=30, verbose=0).history
    gap = np.array(history["loss"]) - np.array(history["teacher_entropy"])  # the divergence
    assert gap[-1] < gap[0] / 3


def test_the_memory_holds_the_teachers_embeddings_and_no_random_ones():
    model = small(memory_size=48)
    model.fill(TARGETS)
    unit = TARGETS / np.linalg.norm(TARGETS, axis=1, keepdims=True)
    vectors = model.memory.vectors.numpy()
    distances = np.abs(vectors[:, None] - unit[None]).max(-1)
    assert (distances.min(1) < 1e-6).all() and (distances < 1e-6).sum(0).tolist() == [2] * 24
    model.fit(WithTargets(pictures(24), TARGETS), views=small_crops(), batch_size=8, epochs=1, verbose=0)
    distances = np.abs(model.memory.vectors.numpy()[:, None] - unit[None]).max(-1)
    assert (distances.min(1) < 1e-6).all()


def test_a_student_that_was_trained_before_fills_the_memory_with_nothing_of_its_own(tmp_path):
    start = ResNet(**RESNET)
    recipe = adapt_recipe(
        start, 24, views=small_crops(), epochs=2, batch_size=8, memory_size=8, hidden_dim=16
    )
    assert recipe.fill_memory
    images = pictures(24)
    model = pretrain(recipe, images, tmp_path, init=start, teacher=teacher(), say=quiet)
    targets = with_targets(teacher(), images, tmp_path / "teacher").targets
    unit = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    distances = np.abs(model.memory.vectors.numpy()[:, None] - unit[None]).max(-1)
    assert model.fill_steps == 0 and (distances.min(1) < 1e-5).all()


def test_what_is_kept_is_the_mean_of_the_students_weights_statistics_too():
    model = small(teacher_momentum=0.0)
    model.fit(WithTargets(pictures(24), TARGETS), views=small_crops(), batch_size=8, epochs=1, verbose=0)
    assert same_weights(model.teacher, model.student)
    assert not same_weights(model.encoder, ResNet(**RESNET))


def test_an_unreadable_picture_brings_no_target_to_another_one(tmp_path):
    images = [*pictures(5)]
    images[2] = tmp_path / "broken.png"
    images[2].write_bytes(b"no picture")
    data = WithTargets(images, TARGETS[:5].copy())
    data.targets[4] = np.nan  # read by the student alone
    loader = view_loader(data, views=small_crops(), batch_size=5, max_unreadable=1.0)
    ((*_, targets),) = next(iter(loader))
    found = sorted(int(np.abs(TARGETS[:5] - row).max(1).argmin()) for row in targets.numpy())
    assert found == [0, 0, 1, 3, 3]  # 2 became 3, and 4 became 0


def test_batches_without_targets_are_refused():
    with pytest.raises(ValueError, match=r"its batches end with .*; expected targets \(B, 6\)"):
        small().fit(pictures(8), views=small_crops(), batch_size=8, verbose=0)
    with pytest.raises(ValueError, match=r"its batches end with \(8, 5\); expected targets \(B, 6\)"):
        small().fit(WithTargets(pictures(8), TARGETS[:8, :5]), views=small_crops(), batch_size=8, verbose=0)
    with pytest.raises(ValueError, match=r"targets: got shape \(3, 6\) for 8 images; expected \(8, D\)"):
        WithTargets(pictures(8), TARGETS[:3])


def test_pairs_have_no_targets(tmp_path):
    with pytest.raises(ValueError, match="images: got a Paired; expected a sequence"):
        with_targets(teacher(), Paired(pictures(4), list("aabb")), tmp_path)


def test_the_teacher_embeds_each_picture_once(tmp_path):
    calls = []
    for _ in range(2):
        made = with_targets(teacher(calls), pictures(6), tmp_path)
    assert calls == [6] and made.targets.mean(0) == pytest.approx(0, abs=1e-3)
    with_targets(teacher(calls), pictures(6, seed=1), tmp_path)  # other pictures
    assert calls == [6, 6]


@pytest.mark.slow
def test_a_run_is_resumed_bit_for_bit(tmp_path):
    class Stop(Exception):
        pass

    class StopAt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.step == 4:
                raise Stop

    settings = dataclasses.replace(small_recipe("tiny_test", {}), epochs=3, batch_size=4)
    runs = {"teacher": teacher(), "checkpoint_every": 1, "say": quiet}
    whole = pretrain(settings, pictures(9), tmp_path / "whole", **runs)
    with pytest.raises(Stop):
        pretrain(settings, pictures(9), tmp_path / "cut", callbacks=[StopAt()], **runs)
    again = pretrain(settings, pictures(9), tmp_path / "cut", **runs)
    assert isinstance(again, DistilledMaSSL) and same_weights(whole, again)
    assert whole.memory.dim == 48  # the width of the teacher's embeddings, 4 × 4 × 3
