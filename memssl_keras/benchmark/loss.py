"""Time and memory of the streamed loss beside a dense one that follows the method's text literally.

The dense loss forms all V · B × K similarities, gathers them by the permutation, and takes 2(V - 1)
cross-entropies. Each measurement runs in a process of its own, so that its peak memory is its own.
"""

import json
import statistics
import subprocess
import sys
import threading
import time
from typing import Annotated

import typer

DIM, BLOCK, IMAGES, VIEWS, STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 256, 16384, 32, 12, 0.1, 0.07


def dense_loss(student, teacher, vectors, permutation, block_size, student_temperature, teacher_temperature):
    """The loss as the method states it, every logit at once; same arguments and value as the streamed one."""
    import torch

    images = len(teacher) // 2

    def blocks(rows, temperature):
        logits = (rows @ vectors.T / temperature)[:, permutation]
        return logits.view(len(rows) // images, images, -1, block_size)

    log_student = torch.log_softmax(blocks(student, student_temperature), dim=-1)
    target = torch.softmax(blocks(teacher, teacher_temperature), dim=-1)
    pairs = [(i, j) for j in range(2) for i in range(len(log_student)) if i != j]
    return sum(-(target[j] * log_student[i]).sum(-1).mean() for i, j in pairs) / len(pairs)


class _PeakMemory:
    """Largest resident memory of this process while it is open, beyond what was resident before, in bytes."""

    def _resident(self):
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def _watch(self):
        while not self.done.wait(0.002):
            self.peak = max(self.peak, self._resident())

    def __enter__(self):
        self.before = self.peak = self._resident()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.bytes = self.peak - self.before


def measure(kind, size, repeats):
    """Seconds (median), peak bytes and value of one loss, forward and backward, in this process."""
    import torch

    from memssl_keras import Memory, MemoryConsistency

    torch.manual_seed(0)
    unit = lambda rows: torch.nn.functional.normalize(torch.randn(rows, DIM))  # noqa: E731
    memory, seconds = Memory(size, DIM, BLOCK), []
    student, teacher = unit(VIEWS * IMAGES).requires_grad_(), unit(2 * IMAGES)
    permutation = memory.permutation(0)
    with _PeakMemory() as memory_use:
        for _ in range(repeats + 1):
            student.grad = None
            start = time.perf_counter()
            if kind == "dense":
                args = (student, teacher, memory.vectors.value, permutation, BLOCK)
                loss = dense_loss(*args, STUDENT_TEMPERATURE, TEACHER_TEMPERATURE)
            else:
                consistency = MemoryConsistency(STUDENT_TEMPERATURE)
                loss, _ = consistency(student, teacher, memory, permutation, TEACHER_TEMPERATURE)
            loss.backward()
            seconds.append(time.perf_counter() - start)
    total = memory_use.peak
    return {
        "seconds": statistics.median(seconds[1:]),
        "working": memory_use.bytes,
        "process": total,
        "loss": float(loss.detach()),
        "gradient": float(student.grad.norm()),
    }


def _measure_apart(kind, size, repeats):
    code = (
        "import json; from memssl_keras.benchmark.loss import measure; "
        f"print(json.dumps(measure({kind!r}, {size}, {repeats})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"measuring {kind} at K = {size} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def benchmark_loss(
    sizes: Annotated[list[int] | None, typer.Option(help="Memory sizes K for both losses.")] = None,
    largest: Annotated[int, typer.Option(help="Memory size for the streamed loss alone.")] = 1048576,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; the median counts.")] = 5,
):
    """Time and peak memory of the streamed loss and of a dense one, forward and backward."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("K", "loss", "seconds", "working memory", "whole process", "value", "faster", "memory")
    table.title = f"V = {VIEWS}, B = {IMAGES}, D = {DIM}, P = {BLOCK}: forward and backward"

    def row(size, kind, got, *ratios):
        sizes = [f"{got[key] / 2**20:,.0f} MiB" for key in ("working", "process")]
        table.add_row(f"{size:,}", kind, f"{got['seconds']:.3f}", *sizes, f"{got['loss']:.6f}", *ratios)

    for size in sizes or [65536, 131072]:
        dense, streamed = (_measure_apart(kind, size, repeats) for kind in ("dense", "streamed"))
        row(size, "dense", dense, "1.0 ×", "1.00")
        faster, memory = dense["seconds"] / streamed["seconds"], streamed["working"] / dense["working"]
        row(size, "streamed", streamed, f"{faster:.1f} ×", f"{memory:.2f}")
    row(largest, "streamed", _measure_apart("streamed", largest, max(1, repeats // 2)))
    console.print(table)
