"""Time and memory of the streamed loss beside a dense one that follows the method's text literally.

The dense loss forms all V · B × K similarities, gathers them by the permutation, and takes 2(V - 1)
cross-entropies; a second one saves itself the log-softmax that cross-entropies of one view share. Each
measurement runs in a process of its own, so that its peak memory is its own.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import threading
import time
from typing import Annotated

import typer

FOLDER = str(pathlib.Path(__file__).parent)
DENSE = ("dense", "dense, one log-softmax a view")
DIM, BLOCK, IMAGES, VIEWS, STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 256, 16384, 32, 12, 0.1, 0.07


def dense_loss(
    student, teacher, vectors, permutation, block_size, student_temperature, teacher_temperature, once=False
):
    """The loss as the method states it, every logit at once; same arguments and value as the streamed one.

    With `once`, the student's log-softmax is taken once a view instead of in each of its cross-entropies.
    """
    import torch
    from torch.nn.functional import cross_entropy

    images = len(teacher) // 2

    def blocks(rows, temperature):
        logits = (rows @ vectors.T / temperature)[:, permutation]
        return logits.view(len(rows) // images, -1, block_size)

    logits = blocks(student, student_temperature)
    target = torch.softmax(blocks(teacher, teacher_temperature), dim=-1)
    pairs = [(i, j) for j in range(2) for i in range(len(logits)) if i != j]
    if once:
        log_student = torch.log_softmax(logits, dim=-1)
        return sum(-(target[j] * log_student[i]).sum(-1).mean() for i, j in pairs) / len(pairs)
    return sum(cross_entropy(logits[i], target[j]) for i, j in pairs) / len(pairs)


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

    def unit(rows):
        return torch.nn.functional.normalize(torch.randn(rows, DIM))

    memory, seconds = Memory(size, DIM, BLOCK), []
    student, teacher = unit(VIEWS * IMAGES).requires_grad_(), unit(2 * IMAGES)
    permutation = memory.permutation(0)
    with _PeakMemory() as memory_use:
        for _ in range(repeats + 1):
            student.grad = None
            start = time.perf_counter()
            if kind in DENSE:
                args = (student, teacher, memory.vectors.value, permutation, BLOCK)
                loss = dense_loss(*args, STUDENT_TEMPERATURE, TEACHER_TEMPERATURE, once=kind == DENSE[1])
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
        f"import json, sys; sys.path.insert(0, {FOLDER!r}); from loss_speed import measure; "
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
    if not console.is_terminal:  # a file has room
        console = Console(width=120)
    title = f"V = {VIEWS}, B = {IMAGES}, D = {DIM}, P = {BLOCK}: forward and backward"
    table = Table("K", "loss", "s", "MiB", "process MiB", "value", "faster than", "memory", title=title)

    def row(size, kind, got, others=()):
        ratios = " and ".join(f"{other['seconds'] / got['seconds']:.1f} ×" for other in others)
        memory = " and ".join(f"{got['working'] / other['working']:.3f}" for other in others)
        used = [f"{got[key] / 2**20:,.0f}" for key in ("working", "process")]
        table.add_row(f"{size:,}", kind, f"{got['seconds']:.3f}", *used, f"{got['loss']:.5f}", ratios, memory)

    for size in sizes or [65536, 131072]:
        dense = [_measure_apart(kind, size, repeats) for kind in DENSE]
        for kind, got in zip(DENSE, dense, strict=True):
            row(size, kind, got)
        row(size, "streamed", _measure_apart("streamed", size, repeats), dense)
    row(largest, "streamed", _measure_apart("streamed", largest, max(1, repeats // 2)))
    console.print(table)
