"""What processor this is, by its name and by the instructions that decide which ONNX variant is fast."""

from __future__ import annotations

import platform
from pathlib import Path

_SETS = {  # a flag of the kernel -> what people call it, the best for int8 first
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "i8mm": "NEON i8mm",
    "asimddp": "NEON dot product",
    "asimd": "NEON",
}


def processor(cpuinfo: str = "/proc/cpuinfo") -> str:
    """The processor's name, as its maker has it.

    Example:
        >>> from memssl_keras.processor import processor
        >>> processor() != ""
        True
    """
    for line in _lines(cpuinfo):
        if line.startswith("model name"):
            return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


def instruction_set(cpuinfo: str = "/proc/cpuinfo") -> str:
    """The best instruction set for int8: `AVX-512 VNNI`, `AVX2`, `NEON` and the like; where it is unknown, the machine.

    ONNX Runtime uses what the processor has; the Linux kernel says what that is.
    """
    flags = {
        word
        for line in _lines(cpuinfo)
        if line.split(":")[0].strip() in ("flags", "Features")
        for word in line.split(":", 1)[1].split()
    }
    return next((name for flag, name in _SETS.items() if flag in flags), platform.machine())


def _lines(cpuinfo):
    try:
        return Path(cpuinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
