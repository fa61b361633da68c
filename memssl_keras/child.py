"""A process of its own for what is measured, and the most memory that a process has held."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_child(code: str, *arguments: Any) -> Any:
    """What Python code prints as JSON on its last line, run in a new process.

    Args:
        code: The code; `sys.argv[1:]` are the arguments.
        *arguments: As texts.

    Raises:
        ValueError: with the last line of its errors, where it fails.

    Example:
        >>> from memssl_keras.child import in_child
        >>> in_child("import sys; print(sys.argv[1])", 42)
        42
    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ValueError(f"a process that measures failed: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_mb() -> float:
    """The most memory that this process has held, in MB; what it was forked from does not count."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        status = dict(line.split(":", 1) for line in lines)
        return int(status["VmHWM"].split()[0]) / 1024
    except (OSError, KeyError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (1 << 20 if sys.platform == "darwin" else 1024)
