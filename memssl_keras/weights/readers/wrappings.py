"""What tools put around a state dict: dictionaries within dictionaries, and words in front of every name."""

from __future__ import annotations

from collections.abc import Iterator

from memssl_keras.weights.readers.family import under

_BOXES = ("model", "state_dict", "model_state_dict", "backbone", "encoder", "network", "net", "module")
# Of compilers, of wrappers for several devices, and of frameworks around a model.
_PREFIXES = ("_orig_mod.", "module.", "model.", "encoder.", "backbone.", "network.", "net.", "vit.")
_DEPTH = 4


def unwrapped(checkpoint: dict, network: str = "teacher", depth: int = _DEPTH) -> Iterator[tuple[dict, bool]]:
    """The checkpoint itself and what is left of it without its wrappings, from the outside inwards.

    Args:
        checkpoint: A dict, nested as in the file.
        network: "teacher" or "student": `teacher.` and `student.` in front of names tell two models apart.
        depth: Wrappings that are taken off at most.

    Yields:
        A dict, and whether the network was chosen on the way to it.
    """
    yield checkpoint, False
    if not depth:
        return
    inner = [(checkpoint[name], False) for name in _BOXES if isinstance(checkpoint.get(name), dict)]
    names = [name for name in checkpoint if isinstance(name, str)]
    for prefix in (f"{network}.", *_PREFIXES):
        held = sum(name.startswith(prefix) for name in names)
        # Most of the names, or one of two models side by side.
        if held and (held > len(names) / 2 or prefix == f"{network}."):
            inner.append((under(checkpoint, prefix), prefix == f"{network}."))
    for content, chosen in inner:
        for found, deeper in unwrapped(content, network, depth - 1):
            yield found, chosen or deeper


def inner_keys(checkpoint: dict, most: int = 6) -> str:
    """Some names of the weights in a checkpoint, with the dictionaries that they lie in, for a message."""
    names = []

    def walk(content, path):
        for key, value in content.items():
            if isinstance(value, dict):
                walk(value, f"{path}{key} › ")
            else:
                names.append(f"{path}{key}")

    walk(checkpoint, "")
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "no entries") + more
