"""Several processes that train one model: the only file, with its `collectives`, that knows of ranks.

`torchrun` starts the processes and tells each its rank by environment variables; `join` makes a group of them
(NCCL where every process has a GPU of its own, gloo elsewhere). In one process everything here is the identity.

References:
    Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training, VLDB 2020
    (arXiv 2006.15704), for `DistributedDataParallel`, which averages the gradients.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from memssl_keras.annotations import Tensor

TIMEOUT = datetime.timedelta(minutes=60)  # for a process that hangs; one that dies is noticed at once


class ProcessLost(ConnectionError):
    """Another process of the run has died or hangs."""


def _group():
    """`torch.distributed` where a group has been joined; torch is not loaded for the answer no."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        return distributed
    return None


def rank() -> int:
    """Number of this process, from 0 on; it needs no group."""
    group = _group()
    return group.get_rank() if group else int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Number of processes in the group; 1 before `join`."""
    group = _group()
    return group.get_world_size() if group else 1


def is_main() -> bool:
    """Whether this process writes logs and files: the one of rank 0."""
    return rank() == 0


def join() -> None:
    """Join the group that `torchrun` started, if it did and this has not happened yet.

    On GPUs call it before the model is made: it chooses the process's own. `MaSSL.fit` and `memssl pretrain` call
    it themselves.

    Raises:
        ProcessLost: where the others cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or _group():
        return
    import torch

    local = int(os.environ.get("LOCAL_RANK", 0))
    own_gpu = torch.cuda.is_available() and local < torch.cuda.device_count()
    if own_gpu:
        torch.cuda.set_device(local)
    with noticing_loss():
        torch.distributed.init_process_group("nccl" if own_gpu else "gloo", timeout=TIMEOUT)


def leave() -> None:
    """Leave the group, if there is one; at the end of a script of your own too.

    Gloo's threads outlive a group that something still refers to, and then abort the process when it ends:
    modules that were wrapped for the group go first.
    """
    if group := _group():
        gc.collect()
        group.destroy_process_group()


@contextlib.contextmanager
def noticing_loss() -> Iterator[None]:
    """Turns what the backends raise when another process is gone into `ProcessLost`."""
    try:
        yield
    except RuntimeError as error:
        import torch

        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()
        if not lost and "connection" not in str(error).lower():
            raise
        raise ProcessLost(
            f"process {rank()} stops: another process of the run has died or hangs; the first error that any of "
            f"them printed is the cause ({str(error).strip().splitlines()[0]})"
        ) from error


def from_main(function: Callable[[], Any]) -> Any:
    """The result of `function()`, which runs in the main process alone; what it raises is raised in all."""
    group = _group()
    if not group:
        return function()
    answer: list[Any] = [None, None]
    if is_main():
        try:
            answer[0] = function()
        except Exception as error:
            answer[1] = error
    group.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def broadcast(tensors: Iterable[Any]) -> None:
    """Overwrite tensors in place with those of the main process."""
    if group := _group():
        for tensor in tensors:
            group.broadcast(tensor, src=0)


def any_of(flag: bool) -> bool:
    """Whether a flag is set in any process."""
    group = _group()
    if not group:
        return flag
    import torch

    device = "cuda" if group.get_backend() == "nccl" else "cpu"
    found = torch.tensor(int(flag), device=device)
    group.all_reduce(found, op=group.ReduceOp.MAX)
    return bool(found)


def check_same(name: str, value: Any) -> None:
    """Refuse a setting that differs from process to process.

    Raises:
        ValueError: with the value of every process.
    """
    if group := _group():
        values: list[Any] = [None] * world_size()
        group.all_gather_object(values, value)
        if any(v != values[0] for v in values):
            listed = ", ".join(f"{v!r} in process {i}" for i, v in enumerate(values))
            raise ValueError(f"{name} is {listed}: expected the same in all")


def gather(tensor: Tensor, dim: int = 0) -> Tensor:
    """Tensors of all processes, of one shape, joined along `dim` in the order of ranks; without gradient."""
    group = _group()
    if not group:
        return tensor
    import torch

    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    group.all_gather(parts, tensor.contiguous())
    return torch.cat(parts, dim)


def average(tensor: Tensor) -> Tensor:
    """Mean of a tensor over the processes, through which gradients flow to each of them."""
    return _functions().Average.apply(tensor) if _group() else tensor


def gather_with_gradient(tensor: Tensor) -> tuple[Tensor, int]:
    """`gather` along the first axis, through which gradients flow to each process, and where this one's rows begin."""
    if not _group():
        return tensor, 0
    return _functions().Gather.apply(tensor), rank() * len(tensor)


def interleaved(function: Callable[[Sequence], Any], items: Sequence) -> Any:
    """`function` of a whole sequence, each process doing its share: an array with a row per item.

    Args:
        function: Sequence → array `(len(sequence), …)`.
        items: A sequence of at least as many items as there are processes, the same in every process.
    """
    group = _group()
    if not group:
        return function(items)
    import numpy as np

    count = world_size()
    parts: list[Any] = [None] * count
    group.all_gather_object(parts, function(_Every(items, rank(), count)))
    rows = np.empty((len(items), *parts[0].shape[1:]), parts[0].dtype)
    for start, part in enumerate(parts):
        rows[start::count] = part
    return rows


class _Every(Sequence):
    """Every `count`-th item of a sequence from `start` on."""

    def __init__(self, items, start, count):
        self.items, self.places = items, range(start, len(items), count)

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        return self.items[self.places[index]]


class Parallel:
    """A module whose gradients are averaged over the processes, if `together`; called as the module is.

    With `partly`, some of its weights get no gradient in some steps.

    A plain object, so that Keras does not take the wrapper for one more layer.
    """

    def __init__(self, module: Any, together: bool = False, partly: bool = False):
        self.module, self.together = module, together and _group() is not None
        if self.together:
            from torch.nn.parallel import DistributedDataParallel

            self.module = DistributedDataParallel(module, find_unused_parameters=partly)

    def __call__(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def sharing(self, now: bool) -> contextlib.AbstractContextManager:
        """Context of a forward and a backward pass; with `now` false, gradients stay in this process and add up."""
        return self.module.no_sync() if self.together and not now else contextlib.nullcontext()


def _functions():
    from memssl_keras.training import collectives

    return collectives
