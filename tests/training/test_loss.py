"""The streamed loss against the dense one that follows the method's text, and what it must never do."""

import pytest
import torch
from loss_speed import dense_loss
from rounding import EPSILON, assert_within_rounding
from torch.utils._python_dispatch import TorchDispatchMode

from memssl_keras import Memory, MemoryConsistency, koleo
from memssl_keras.training.loss import attend

pytestmark = pytest.mark.numeric


def unit(rows, dim=16, dtype=torch.float32):
    return torch.nn.functional.normalize(torch.randn(rows, dim, dtype=dtype))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "views, batch, size, block", [(2, 3, 64, 64), (5, 4, 96, 16), (12, 1, 30, 10), (3, 7, 8, 2)]
)
def test_value_and_gradient_are_those_of_the_dense_loss(views, batch, size, block):
    memory = Memory(size, 16, block)
    permutation = memory.permutation(3)
    teacher, student = unit(2 * batch), unit(views * batch).requires_grad_()
    loss, _ = MemoryConsistency(0.1)(student, teacher, memory, permutation, 0.04)
    loss.backward()

    def dense(student, teacher, vectors):
        student.requires_grad_()
        loss = dense_loss(student, teacher, vectors, permutation, block, 0.1, 0.04)
        loss.backward()
        return {"loss": loss, "gradient": student.grad}

    ours = {"loss": loss, "gradient": student.grad}
    assert_within_rounding(ours, dense, student, teacher, memory.vectors.value)


@pytest.mark.parametrize("tile", [5, 20])
def test_logits_beyond_what_an_exponential_holds(tile):
    """A temperature of 1 / 200: the largest exponential is beyond float32, unless the peak is taken out first."""
    memory = Memory(60, 16, 20)
    vectors, queries, permutation = memory.vectors.value, unit(9) * 200, memory.permutation(0)
    queries[0] = 200 * vectors[int(permutation[19])]  # its peak comes in the last tile of a block
    ours = attend(queries, vectors, permutation, 20, tile=tile)
    keys = vectors.double()[permutation].view(3, 20, 16)
    logits = torch.einsum("rd,bkd->rbk", queries.double(), keys)
    expected = torch.einsum("rbk,bkd->rd", logits.softmax(2), keys) / 3
    torch.testing.assert_close(ours[0].double(), logits.logsumexp(2).mean(1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours[1].double(), expected, rtol=1e-4, atol=1e-4)


def test_blocks_of_one_slot_teach_nothing():
    """Their softmax is 1 whatever the similarity: terms of up to 1 / 0.1 cancel, and leave the rounding of one."""
    memory, student = Memory(8, 16, 1), unit(3 * 7).requires_grad_()
    loss, _ = MemoryConsistency(0.1)(student, unit(2 * 7), memory, memory.permutation(3), 0.04)
    loss.backward()
    assert max(abs(float(loss.detach())), float(student.grad.norm())) < EPSILON / 0.1


def test_tiles_do_not_change_the_result():
    memory = Memory(120, 16, 40)
    queries, permutation = unit(9) / 0.05, memory.permutation(0)
    whole = attend(queries, memory.vectors.value, permutation, 40, tile=40)
    for tile in (1, 7, 39):
        for ours, theirs in zip(
            attend(queries, memory.vectors.value, permutation, 40, tile=tile), whole, strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_sharp_temperatures_stay_finite():
    memory = Memory(64, 16, 16)
    student = unit(8).requires_grad_()
    loss, entropy = MemoryConsistency(1e-3)(student, unit(4), memory, memory.permutation(0), 1e-4)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(entropy) and torch.isfinite(student.grad).all()


def test_entropy_is_that_of_the_teachers_softmax():
    memory = Memory(48, 16, 12)
    teacher, permutation = unit(4), memory.permutation(0)
    _, entropy = MemoryConsistency()(unit(8), teacher, memory, permutation, 0.05)
    logits = (teacher @ memory.vectors.value.T / 0.05)[:, permutation].view(4, 4, 12)
    expected = torch.distributions.Categorical(logits=logits).entropy().mean()
    assert float(entropy) == pytest.approx(float(expected), rel=1e-5)


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation gives while it is on."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        outputs = result if isinstance(result, (list, tuple)) else [result]
        # Views of the memory itself cost nothing; what counts is what was made.
        made = [t.untyped_storage().nbytes() // 4 for t in outputs if isinstance(t, torch.Tensor)]
        self.elements = max([self.elements, *made])
        return result


def test_nothing_of_size_rows_times_memory_is_formed():
    views, batch, size = 6, 16, 8192
    memory = Memory(size, 16, size)  # one block: the case in which a block is the whole memory
    student, teacher = unit(views * batch).requires_grad_(), unit(2 * batch)
    permutation = memory.permutation(0)
    with LargestTensor() as largest:
        loss, _ = MemoryConsistency()(student, teacher, memory, permutation, 0.04)
        loss.backward()
    assert largest.elements <= size * 16  # the memory itself
    assert largest.elements < views * batch * size / 4


def test_koleo_by_hand():
    embeddings = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    nearest = [1, 0, 1]
    expected = -sum(torch.log((embeddings[i] - embeddings[j]).norm()) for i, j in enumerate(nearest)) / 3
    assert float(koleo(embeddings)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"rows": (9, 4)}, "expected V · B"),
        ({"rows": (2, 4)}, "expected V · B"),
        ({"rows": (8, 0)}, "expected V · B"),
        ({"temperature": 0.0}, "teacher_temperature=0.0"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    memory = Memory(16, 16, 4)
    students, teachers = arguments.get("rows", (8, 4))
    with pytest.raises(ValueError, match=words):
        MemoryConsistency()(
            unit(students), unit(teachers), memory, memory.permutation(0), arguments.get("temperature", 0.04)
        )
    with pytest.raises(ValueError, match="student_temperature=-1"):
        MemoryConsistency(-1)
    with pytest.raises(ValueError, match="at least 2"):
        koleo(unit(1))
