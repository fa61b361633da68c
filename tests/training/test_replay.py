"""Which image each slot of a memory holds, against trainings that note what they feed it with."""

import numpy as np
import pytest
import torch
from small_models import pictures, small_massl

from memssl_keras.data.view_sets import normalise
from memssl_keras.training.replay import images_in_memory


def numbered(count):
    """Pictures `(count, 24, 24, 3)` of one colour each, which is their number."""
    return np.arange(count, dtype="uint8")[:, None, None, None] * np.ones((1, 24, 24, 3), "uint8")


class Marks:
    """In place of `MultiCrop`: two views that are the picture itself."""

    def __call__(self, image, rng):
        return [image, image]


@pytest.mark.parametrize(
    "count, batch, memory, epochs, accumulate",
    [
        (20, 5, 40, 1, 1),  # half of the slots have their random start
        (23, 5, 40, 4, 1),  # an incomplete last batch; the memory spans three epochs
        (17, 6, 40, 5, 2),  # K is no multiple of the batch, and the pointer wraps within one
        (11, 10, 40, 7, 1),
        (90, 8, 40, 1, 1),
    ],
)
def test_slots_hold_what_was_fed(count, batch, memory, epochs, accumulate):
    model, fed = small_massl(memory_size=memory), []
    update = model.memory.update

    def record(embeddings):
        fed.append(embeddings.detach().numpy().copy())
        update(embeddings)

    model.memory.update = record
    teacher, seen = model.teacher.call, []

    def look(views, training=None):
        seen.append(views[1][:, 0, 0, 0].numpy() * 0.229 + 0.485)
        return teacher(views, training=training)

    model.teacher.call = look
    settings = {"batch_size": batch, "epochs": epochs, "seed": 3, "accumulate": accumulate, "verbose": 0}
    model.fit(numbered(count), views=Marks(), **settings)
    numbers = np.rint(255 * np.concatenate(seen)).astype(int)
    vectors, written = np.concatenate(fed), int(model.memory.written.value)
    slots = images_in_memory(count, batch_size=batch, seed=3, memory_size=memory, written=written)
    assert written == len(vectors) == epochs * (count // batch) * batch
    expected = np.full(memory, -1)
    for place, number in enumerate(numbers):
        expected[place % memory] = number
    np.testing.assert_array_equal(slots, expected)
    held = model.memory.vectors.numpy()
    for place in range(max(0, written - memory), written):
        np.testing.assert_array_equal(held[place % memory], vectors[place])


@pytest.mark.numeric
def test_each_vector_is_that_of_its_picture():
    """With a teacher that stands still and views that are the picture, embeddings tell the pictures apart."""
    images = pictures(40, size=32, seed=2)
    model = small_massl(memory_size=20, teacher_momentum=1.0)
    model.fit(images, views=Marks(), batch_size=6, epochs=3, seed=1, verbose=0)
    slots = images_in_memory(40, batch_size=6, seed=1, memory_size=20, written=3 * 36)
    embedded = model.teacher([normalise(torch.from_numpy(images))], training=False).detach().numpy()
    np.testing.assert_allclose(model.memory.vectors.numpy(), embedded[slots], atol=1e-5)
    assert len({row.tobytes() for row in embedded.round(3)}) == 40


@pytest.mark.parametrize(
    "change, message",
    [
        ({"length": 0}, "length=0: expected at least 1"),
        ({"memory_size": 0}, "memory_size=0: expected at least 1"),
        ({"batch_size": 11}, "batch_size=11: expected at most the 10 images"),
        ({"written": 7}, "written=7: expected a multiple of batch_size=5"),
        ({"written": -5}, "written=-5"),
    ],
)
def test_numbers_that_fit_no_run_are_named(change, message):
    numbers = {"length": 10, "batch_size": 5, "seed": 0, "memory_size": 6, "written": 5} | change
    with pytest.raises(ValueError, match=message):
        images_in_memory(numbers.pop("length"), **numbers)
