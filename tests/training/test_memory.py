"""The FIFO memory: wrapping, filling, blocks, and what it refuses."""

import numpy as np
import pytest
import torch

from memssl_keras import Memory

pytestmark = pytest.mark.numeric


def rows(first, count, dim=4):
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].repeat(1, dim)


def test_starts_as_unit_vectors_that_the_seed_decides():
    one, same, other = Memory(64, 8, 16, seed=1), Memory(64, 8, 16, seed=1), Memory(64, 8, 16, seed=2)
    np.testing.assert_allclose(np.linalg.norm(one.vectors.numpy(), axis=1), 1, rtol=1e-6)
    assert np.array_equal(one.vectors.numpy(), same.vectors.numpy())
    assert not np.array_equal(one.vectors.numpy(), other.vectors.numpy())


@pytest.mark.parametrize("batches", [[3, 3, 3, 3], [10], [7, 8], [20], [25, 1], [0, 4], [1] * 23])
def test_wraps_at_any_batch_size(batches):
    memory, expected, start = Memory(10, 4, 5), {}, 0
    for count in batches:
        memory.update(rows(start, count))
        for value in range(start, start + count):
            expected[value % 10] = value
        start += count
    vectors = memory.vectors.numpy()
    for slot, value in expected.items():
        assert vectors[slot, 0] == value
    assert int(memory.pointer.numpy()) == start % 10
    assert memory.filled == min(start, 10) / 10


def test_update_writes_in_place():
    memory = Memory(10, 4, 5)
    address = memory.vectors.value.data_ptr()
    memory.update(rows(0, 3))
    assert memory.vectors.value.data_ptr() == address


def test_blocks_are_disjoint_and_follow_seed_and_step():
    memory = Memory(60, 4, 12, seed=5)
    permutation = memory.permutation(7)
    assert sorted(permutation.tolist()) == list(range(60))
    assert torch.equal(permutation, Memory(60, 4, 12, seed=5).permutation(7))
    assert not torch.equal(permutation, memory.permutation(8))
    assert not torch.equal(permutation, Memory(60, 4, 12, seed=6).permutation(7))


def test_refuses_a_block_that_does_not_divide_it():
    with pytest.raises(ValueError, match=r"block_size=48 does not divide memory size=100; .* 50"):
        Memory(100, 4, 48)


@pytest.mark.parametrize("arguments", [(0, 4, 1), (4, 0, 1), (4, 4, 0), (4.0, 4, 1)])
def test_refuses_sizes_below_one(arguments):
    with pytest.raises(ValueError, match="expected an integer of at least 1"):
        Memory(*arguments)


def test_refuses_embeddings_of_another_width():
    with pytest.raises(ValueError, match=r"expected \(N, 4\)"):
        Memory(10, 4, 5).update(torch.zeros(3, 5))
