"""The report of a run: settings, curves, and nearest neighbours by its encoder."""

import csv
import json
import pathlib
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.files import write_bytes
from memssl_keras.images import draw_rows
from memssl_keras.weights.folder import read_encoder
from memssl_keras.words import counted

FIGURES = {
    "loss": "Loss (it does not show whether the encoder learns)",
    "teacher_entropy": "Teacher entropy in nats; near log P all pictures seem equally similar",
    "spread": "Spread of the teacher's embeddings; 1 is uniform, 0 collapsed",
    "agreement": "Cosine of student and teacher across the global views",
    "memory_nearest": "Cosine of a vector in memory to its nearest neighbour there",
    "knn": "Online k-NN accuracy",
    "view_retrieval": "Retrieval of pictures by another view of themselves, recall@1",
}


def read_metrics(path: PathLike) -> dict[str, np.ndarray]:
    """Columns of a `metrics.csv` as float arrays by name; empty cells become NaN."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path}: holds no epoch yet")

    def number(text):
        return float(text) if text not in ("", None, "NA") else np.nan

    return {name: np.array([number(row[name]) for row in rows]) for name in rows[0]}


def draw_curves(metrics: dict[str, np.ndarray], path: PathLike) -> None:
    """Draw a curve over the epochs for each of `FIGURES` that was measured."""
    from matplotlib.figure import Figure

    shown = [name for name in FIGURES if name in metrics and np.isfinite(metrics[name]).any()]
    figure = Figure(figsize=(10, 2.6 * ((len(shown) + 1) // 2)), layout="constrained")
    for axes, name in zip(figure.subplots(-(-len(shown) // 2), 2, squeeze=False).flat, shown, strict=False):
        known = np.isfinite(metrics[name])
        axes.plot(metrics["epoch"][known] + 1, metrics[name][known], ".-", color="#4338ca")
        axes.set_title(FIGURES[name], fontsize=8)
        axes.set_xlabel("epoch", fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    for axes in figure.axes[len(shown) :]:
        axes.remove()
    figure.savefig(path, dpi=110)


def write_report(folder: PathLike, held_out: Any = None, queries: int = 6, neighbours: int = 8) -> None:
    """Write `report.md` and its pictures into the folder of a run.

    Args:
        folder: Holds `run.json`, `metrics.csv`, perhaps `unreadable.csv`, and the encoder, as `pretrain` leaves them.
        held_out: Images that training did not see, as a sequence of what `read_image` takes; with them a picture
            of nearest neighbours is drawn.
        queries: Rows of that picture.
        neighbours: Neighbours in a row.
    """
    folder = pathlib.Path(folder)
    metrics = read_metrics(folder / "metrics.csv")
    settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    draw_curves(metrics, folder / "curves.png")
    last = {
        name: values[-1] for name, values in metrics.items() if name != "epoch" and np.isfinite(values[-1])
    }
    lines = [
        f"# {settings['name']}",
        "",
        f"{counted(settings['images'], 'image')}, {counted(len(metrics['epoch']), 'epoch')}.",
        "",
    ]
    if (verdict := folder / "verdict.json").exists():
        lines += verdict_table(json.loads(verdict.read_text(encoding="utf-8")))
    if (unreadable := folder / "unreadable.csv").exists():
        with unreadable.open(encoding="utf-8", newline="") as file:
            count = len(list(csv.DictReader(file)))
        lines += [
            f"Replaced by others: {counted(count, 'unreadable image')}; see `unreadable.csv`.",
            "",
        ]
    lines += [
        "| at the end | |",
        "|---|---|",
        *(f"| {name} | {value:.4f} |" for name, value in last.items()),
        "",
    ]
    lines += ["![Curves](curves.png)", ""]
    if held_out is not None and len(held_out) > neighbours:
        draw_neighbours(folder, held_out, folder / "neighbours.png", queries, neighbours)
        lines += ["Held-out images and their nearest neighbours among the held-out ones:", ""]
        lines += ["![Neighbours](neighbours.png)", ""]
    lines += [
        "<details><summary>Settings</summary>",
        "",
        "```json",
        json.dumps(settings, indent=2),
        "```",
        "",
    ]
    lines += ["</details>", ""]
    write_bytes(folder / "report.md", "\n".join(lines).encode())


def verdict_table(verdict: dict[str, Any]) -> list[str]:
    """Lines of Markdown: what `verdict.json` says, and its figures."""
    best = verdict["best"]
    lines = [
        f"**Verdict: {verdict['words']}.**",
        "",
        f"| {verdict['measure']} | | encoder's lead |",
        "|---|---|---|",
    ]
    lines.append(f"| the encoder | {verdict['score']:.1%} | |")
    for one in verdict["references"]:
        low, high = (100 * end for end in one["interval"])
        lead = f"{100 * one['difference']:+.1f} points (95 % interval {low:+.1f} … {high:+.1f})"
        lines.append(f"| {one['name']} | {one['score']:.1%} | {lead} |")
    if best:
        lines.append(f"| its best epoch, {best['epoch']}, in `best/` | {best['score']:.1%} | |")
    return [*lines, ""]


def draw_neighbours(
    folder: PathLike, images: Any, path: PathLike, queries: int, neighbours: int, limit: int = 2000
) -> None:
    """Draw some of `images`, spread evenly, and what the encoder in `folder` finds nearest among the first `limit`."""
    images = [images[i] for i in range(min(len(images), limit))]
    vectors = read_encoder(folder).embed(images, batch_size=250)
    chosen = [(2 * i + 1) * len(images) // (2 * queries) for i in range(queries)]
    rows = []
    for query in chosen:
        similarities = vectors @ vectors[query]
        similarities[query] = -np.inf
        best = np.argsort(-similarities, kind="stable")[:neighbours]
        rows.append((images[query], [(images[i], float(similarities[i])) for i in best]))
    draw_rows(rows, path)
