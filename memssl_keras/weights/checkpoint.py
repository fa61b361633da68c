"""Open the weight files of others without running what is in them."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import zipfile
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike

# By which a file that is not there is known.
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")


class CheckpointError(ValueError):
    """A checkpoint cannot be opened or is of no known family, or its weights do not fit."""


def _allowed():
    """What torch does not allow by itself and training checkpoints hold: their arguments, and numpy's scalars."""
    scalar = np.float32(0).__reduce__()[0]
    numbers = [
        getattr(np.dtypes, f"{kind}DType") for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")
    ]
    scalars = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, np.dtype, *numbers, *scalars]


def read_checkpoint(path: PathLike) -> Any:
    """The contents of a `.safetensors` file or of a torch checkpoint, with tensors as torch holds them.

    A pickle may hold tensors, plain containers, numbers, strings, `argparse.Namespace` and numpy's numbers. One
    that names any other class or function is refused before anything of it is called.

    Args:
        path: A file; what it is is told from its first bytes, not from its name.

    Returns:
        A dict, nested as in the file.

    Raises:
        FileNotFoundError: where there is no such file.
        CheckpointError: where it is damaged, is no checkpoint, or holds something that could be executed.

    Example:
        >>> import tempfile, numpy as np
        >>> from safetensors.numpy import save_file
        >>> from memssl_keras.weights.checkpoint import read_checkpoint
        >>> path = tempfile.mktemp(suffix=".safetensors")
        >>> save_file({"cls_token": np.zeros((1, 1, 8), "float32")}, path)
        >>> read_checkpoint(path)["cls_token"].shape
        torch.Size([1, 1, 8])
    """
    import torch

    path = pathlib.Path(path)
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":  # the length of safetensors' header, then its JSON
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: damaged or not a safetensors file ({error})") from None
    if not (zipfile.is_zipfile(path) or start[:1] == b"\x80"):
        raise CheckpointError(
            f"{path}: not a checkpoint, or truncated; expected safetensors or a file that torch.save wrote"
        )
    try:
        with torch.serialization.safe_globals(_allowed()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not found:
            raise CheckpointError(
                f"{path}: damaged or not a torch checkpoint ({_first_line(error)})"
            ) from None
        raise CheckpointError(
            f"{path}: refers to {found[1]}, which could run code when it is opened; accepted are tensors, plain "
            "containers and numbers, argparse.Namespace and numpy's numbers. Nothing of it was run"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged or not a torch checkpoint ({_first_line(error)})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a dict of weights")
    return content


def _first_line(error):
    return str(error).strip().partition("\n")[0]
