"""How far a float32 computation may be from the same one in float64, measured on the processor at hand.

Float32 rounds differently from processor to processor and from one order of summation to another, so a round
number that holds on one machine fails by a hair on the next. Here an independent implementation runs in float64,
which is taken for the truth, and several times in float32, with inputs that are moved within their own rounding.
What these runs differ from the truth is the noise of float32. Tests allow `FACTOR` times that, tensor by tensor.
"""

import numpy as np
import torch
from torch.utils._pytree import tree_map, tree_map_only

# Over 80 training runs on AVX-512, AVX2 and SSE code, no tensor of the library was off by more than 5.6 times the
# noise: its gradient is a difference of two expected memories, and rounds more than the dense loss of the reference.
# A temperature or a learning rate that is wrong by one part in a thousand is off by ten times the bound, as tests
# show.
FACTOR = 16
RUNS = 12
EPSILON = float(np.finfo("float32").eps)


def cast(tree, dtype):
    """The floating-point tensors and arrays of a nested structure as torch tensors of a type; the rest as it is."""
    tree = tree_map_only(np.ndarray, torch.as_tensor, tree)
    return tree_map_only(torch.Tensor, lambda t: t.detach().to(dtype) if t.is_floating_point() else t, tree)


def nudged(tree, seed):
    """The tensors of a nested structure in float32, each value moved by at most one unit in its last place.

    Seed 0 moves nothing.
    """
    generator = torch.Generator().manual_seed(seed)

    def move(tensor):
        if not tensor.is_floating_point() or not seed:
            return tensor
        return tensor * (1 + EPSILON * (torch.rand(tensor.shape, generator=generator) - 0.5))

    return tree_map_only(torch.Tensor, move, cast(tree, torch.float32))


def norm(value):
    return float(np.linalg.norm(np.asarray(value, "float64")))


def difference(ours, exact):
    """‖ours - exact‖ in L2 over the whole tensor, in float64."""
    return norm(np.asarray(ours, "float64") - np.asarray(exact, "float64"))


def numbers(tree):
    return tree_map(lambda v: v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v), tree)


def measure(compute, *inputs, vary=nudged):
    """Run `compute(*inputs)` in float64 and in float32.

    Args:
        compute: Gives a dictionary of tensors, in the precision of the tensors that it is given.
        *inputs: Nested structures of float32 tensors or arrays.
        vary: Gives the inputs of the float32 run of a seed.

    Returns:
        Two dictionaries: the values in float64, and the noise of float32 as a number per tensor: the largest
        L2 difference of `RUNS` runs, and at least what rounding the result itself to float32 may cost.
    """
    exact = numbers(compute(*cast(inputs, torch.float64)))
    runs = [numbers(compute(*vary(inputs, seed))) for seed in range(RUNS)]
    noise = {
        name: max([EPSILON * norm(value), *(difference(run[name], value) for run in runs)])
        for name, value in exact.items()
        if np.issubdtype(value.dtype, np.floating)
    }
    return exact, noise


def times_bound(ours, exact, noise):
    """How many times its bound a tensor is off; 1 is just allowed."""
    return difference(ours, exact) / max(FACTOR * noise, 1e-300)


def assert_within_rounding(ours, compute, *inputs):
    """Fail where a tensor of the dictionary `ours` is further from `compute(*inputs)` than float32 explains."""
    exact, noise = measure(compute, *inputs)
    assert ours.keys() == exact.keys()
    for name, value in exact.items():
        assert np.shape(ours[name]) == value.shape, name
        times = times_bound(numbers(ours[name]), value, noise[name])
        assert times <= 1, f"{name} is {times:.3g} times as far from float64 as {FACTOR} times its rounding"
