"""transformers, timm and Node's transformers.js, made importable beside a processor build of torch."""

import functools
import importlib.util
import pathlib
import re
import shutil
import sys

import pytest


@functools.cache
def declare_torchvision_operators():
    """Declare the operators that torchvision's wheel brings for CUDA builds of torch alone, so that it imports.

    None of them is used here.
    """
    import torch

    origin = importlib.util.find_spec("torchvision").origin
    text = (pathlib.Path(origin).parent / "_meta_registrations.py").read_text()
    names = re.findall(r'register_(?:meta|fake)\("(?:torchvision::)?(\w+)"', text)
    library = torch.library.Library("torchvision", "DEF")
    for name in dict.fromkeys(names):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor x) -> Tensor")
    return library  # its declarations go with it


def need(name):
    """A module, or the test is skipped with the reason. timm and fastembed lie in `.readers`, with what they need."""
    readers = pathlib.Path(__file__).parents[2] / ".readers"
    if name in ("timm", "fastembed") and readers.is_dir() and str(readers) not in sys.path:
        sys.path.append(str(readers))
        importlib.invalidate_caches()
    if name == "timm" and importlib.util.find_spec("torchvision"):
        declare_torchvision_operators()
    return pytest.importorskip(name)


def node_modules():
    """Folder that holds `@huggingface/transformers` for Node, or the test is skipped with the reason."""
    root = pathlib.Path(__file__).parents[2] / ".node"
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    if not (root / "node_modules" / "@huggingface" / "transformers").is_dir():
        pytest.skip("`make test` puts transformers.js into .node; it is not there")
    return root
