"""Consistency of student and teacher against blocks of the memory, streamed; KoLeo.

The cross-entropy H(q, p) of a teacher row t and a student row s over one block M of the memory is

    logsumexp(s·M/τ_s) - ⟨q, s·M⟩/τ_s  with  q = softmax(t·M/τ_t),

and ⟨q, s·M⟩ = s·(q M). So every row needs two things from the memory: its logsumexp and its *expected memory*
softmax(·)·M. The teacher's expected memory turns each pair of views into one inner product of width D; the
student's is the gradient of its logsumexp. One pass over tiles of the memory yields both for all rows, like
attention with the memory as keys and values, and nothing of size rows × memory is ever formed.

None of this changes when one vector is subtracted from every slot, as softmax weights sum to 1: the mean of the
teacher's rows is. The gradient is a small difference of expected memories where embeddings lie close together,
and float32 keeps an order of magnitude more of it without their common part.

References:
    Silva et al., Learning from Memory, ICML 2024 (arXiv 2407.17486), for the loss.
    Sablayrolles et al., Spreading vectors for similarity search, ICLR 2019 (arXiv 1806.03198), for KoLeo.
"""

from typing import Any

import torch

from memssl_keras.annotations import Tensor
from memssl_keras.training import distributed

# Slots of the memory that are looked at together: their logits stay in the processor's cache.
_TILE = {"cpu": 512, "cuda": 16384}
_SAFE = 60.0


@torch.no_grad()
def attend(
    queries: Tensor,
    vectors: Tensor,
    permutation: Tensor,
    block_size: int,
    centre: Any = 0.0,
    tile: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Logsumexp and expected memory of every row, averaged over blocks.

    Args:
        queries: Rows already divided by their temperature, `(R, D)` float32.
        vectors: The memory, `(K, D)`, unit vectors.
        permutation: Order of its slots, `(K,)` int64; consecutive runs of `block_size` are the blocks.
        block_size: Slots per block P; it divides K.
        centre: Vector `(D,)` that is subtracted from every slot first.
        tile: Slots looked at together; at most R × tile logits exist at a time.

    Returns:
        Logsumexp `(R,)` and expected memory `(R, D)`, both means over the K/P blocks.
    """
    rows, dim = queries.shape
    tile = min(tile or _TILE.get(queries.device.type, 16384), block_size)
    logsumexp, expected = queries.new_zeros(rows), queries.new_zeros(rows, dim)
    logits_buffer = queries.new_empty(rows * tile)
    # Exponentials of logits this small neither overflow nor vanish, and need no peak to be taken out first.
    # A GPU would have to be waited for to tell.
    bounded = not queries.is_cuda and _largest(queries, centre) < _SAFE
    for block in permutation.split(block_size):
        peak = queries.new_full((rows, 1), 0.0 if bounded else -torch.inf)
        total, weighted = queries.new_zeros(rows, 1), queries.new_zeros(rows, dim)
        for slots in block.split(tile):
            keys = vectors.index_select(0, slots).to(queries.dtype).sub_(centre)
            logits = logits_buffer[: rows * len(slots)].view(rows, len(slots))
            torch.mm(queries, keys.T, out=logits)
            if not bounded:
                higher = torch.maximum(peak, logits.amax(1, keepdim=True))
                rescale, peak = (peak - higher).exp_(), higher
                total.mul_(rescale)
                weighted.mul_(rescale)
                logits.sub_(higher)
            weights = logits.exp_()
            total.add_(weights.sum(1, keepdim=True))
            weighted.addmm_(weights, keys)
        logsumexp += (peak + total.log()).squeeze(1)
        expected += weighted.div_(total)
    blocks = len(permutation) // block_size
    return logsumexp / blocks, expected / blocks


def _largest(queries, centre):
    """What no logit exceeds, as slots are unit vectors."""
    return float(queries.norm(dim=1).max()) * (1 + float(torch.as_tensor(centre).norm()))


class _Consistency(torch.autograd.Function):
    """Loss value with the gradient that the forward pass has already produced."""

    @staticmethod
    def forward(ctx, student, value, gradient):
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx, outer):
        (gradient,) = ctx.saved_tensors
        return outer * gradient, None, None


class MemoryConsistency:
    """Cross-entropy between teacher and student over blocks of the memory, averaged over pairs of views.

    The average runs over blocks, the batch and all pairs of one of the V student views with another of the two
    teacher views: 2(V - 1) pairs.

    Args:
        student_temperature: τ_s > 0, by which the student's similarities are divided.

    Example:
        >>> import torch
        >>> from memssl_keras import Memory, MemoryConsistency
        >>> memory = Memory(size=64, dim=8, block_size=16)
        >>> unit = lambda rows: torch.nn.functional.normalize(torch.randn(rows, 8))
        >>> student, teacher = unit(5 * 4).requires_grad_(), unit(2 * 4)  # 5 and 2 views of 4 images
        >>> loss, entropy = MemoryConsistency()(student, teacher, memory, memory.permutation(0), 0.04)
        >>> loss.backward()
    """

    def __init__(self, student_temperature: float = 0.1):
        if not student_temperature > 0:
            raise ValueError(f"student_temperature={student_temperature}: expected a positive number")
        self.student_temperature = student_temperature

    def __call__(self, student, teacher, memory, permutation, teacher_temperature):
        """Loss and teacher entropy, both scalars, in nats.

        Args:
            student: Unit vectors `(V · B, D)`, view-major: the B images of view 0, then those of view 1, …
            teacher: Unit vectors `(2 · B, D)` of views 0 and 1.
            memory: The `Memory`.
            permutation: Order of its slots, `(K,)` int64.
            teacher_temperature: τ_t > 0.

        Raises:
            ValueError: where rows do not make whole views, there is no second view, or τ_t is not positive.
        """
        batch = len(teacher) // 2
        if not batch or len(teacher) != 2 * batch or len(student) % batch or len(student) < 2 * batch:
            raise ValueError(
                f"student has {len(student)} rows and teacher {len(teacher)}: "
                "expected V · B with V ≥ 2, and 2 · B"
            )
        if not teacher_temperature > 0:
            raise ValueError(f"teacher_temperature={teacher_temperature}: expected a positive number")
        views = len(student) // batch
        with torch.no_grad():
            scaled = student.detach().float() / self.student_temperature
            sharpened = teacher.detach().float() / teacher_temperature
            rows, centre = torch.cat([scaled, sharpened]), teacher.detach().float().mean(0)
            logsumexp, expected = attend(rows, memory.vectors.value, permutation, memory.block_size, centre)
            logsumexp, sharp_logsumexp = logsumexp.split([len(scaled), len(sharpened)])
            expected, targets = expected.split([len(scaled), len(sharpened)])
            entropy = (sharp_logsumexp - (sharpened * targets).sum(1)).mean()

            # A global view is paired with the other global view alone, a local view with both.
            targets = targets.view(2, batch, -1)
            pull = targets.sum(0).expand(views, -1, -1).clone()
            pull[:2] -= targets
            partners = torch.full((views, 1, 1), 2.0, device=pull.device)
            partners[:2].fill_(1)
            count = 2 * (views - 1) * batch
            scaled = scaled.view(views, batch, -1)
            value = (partners[..., 0] * logsumexp.view(views, batch) - (scaled * pull).sum(-1)).sum() / count
            gradient = (partners * expected.view_as(pull) - pull) / (count * self.student_temperature)
        return _Consistency.apply(student, value, gradient.view_as(student).to(student.dtype)), entropy


def koleo(embeddings: Tensor, eps: float = 1e-8) -> Tensor:
    """Kozachenko–Leonenko regulariser of unit vectors `(B, D)`: -mean log distance to the nearest neighbour.

    The nearest neighbour is the row with the largest inner product among the others of the batch, which is that of
    all processes.

    Raises:
        ValueError: for fewer than two rows.
    """
    among, first = distributed.gather_with_gradient(embeddings)
    if len(among) < 2:
        raise ValueError(f"embeddings have {len(among)} row(s): KoLeo needs at least 2")
    with torch.no_grad():
        similarities = embeddings @ among.T
        similarities.narrow(1, first, len(embeddings)).fill_diagonal_(-torch.inf)
        nearest = similarities.argmax(1)
    distances = torch.nn.functional.pairwise_distance(embeddings, among[nearest], eps=eps)
    return -torch.log(distances + eps).mean()
