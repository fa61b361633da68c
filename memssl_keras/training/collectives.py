"""Collective operations that gradients flow through; `memssl_keras.training.distributed` decides when they are used.

Torch's own, in `torch.distributed.nn`, are deprecated, and what is to take their place is not public yet.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed


class Average(torch.autograd.Function):
    """Mean over the processes. Each process's result depends on every process's input, and so its gradient."""

    @staticmethod
    def _mean(tensor):
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.div_(distributed.get_world_size())

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return Average._mean(tensor)

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> torch.Tensor:
        return Average._mean(outer)


class Gather(torch.autograd.Function):
    """Rows of all processes in the order of ranks."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        ctx.rows = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> torch.Tensor:
        total = outer.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.split(ctx.rows)[distributed.get_rank()]
