"""The figures of an evaluation's report, each a PNG in memory."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from memssl_keras.evaluate.protocols.retrieval import RECALL_LEVELS
from memssl_keras.images import read_image, thumbnail

CONFUSED = 30  # classes in a confusion matrix, at most
RIGHT, WRONG = "#15803d", "#b91c1c"
LINES = ("#4338ca", "#b45309", "#0f766e", "#be185d", "#475569", "#7c3aed", "#0369a1", "#a16207")


def _figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def low_shot_curves(by_model: dict[str, dict]) -> bytes:
    """Accuracy over labelled images with 95 % intervals: a panel per classifier, a line per model.

    Args:
        by_model: Name → what `low_shot` returned first.
    """
    first = next(iter(next(iter(by_model.values())).values()))
    figure = _figure(4.2 * len(first), 3.6)
    for axes, classifier in zip(
        figure.subplots(1, len(first), sharey=True, squeeze=False)[0], first, strict=True
    ):
        for colour, (name, results) in zip(LINES * len(by_model), by_model.items(), strict=False):
            cells = sorted((row[classifier] for row in results.values()), key=lambda cell: cell["images"])
            images, mean, half = (np.array([c[key] for c in cells]) for key in ("images", "mean", "interval"))
            axes.plot(images, mean, ".-", color=colour, label=name)
            axes.fill_between(images, mean - half, mean + half, color=colour, alpha=0.15, lw=0)
        axes.set(title=classifier, xlabel="labelled images in all", xscale="log")
        marks: list[int] = []
        for count in sorted(
            {int(cell[classifier]["images"]) for cell in next(iter(by_model.values())).values()}
        ):
            if not marks or count > 1.7 * marks[-1]:
                marks.append(count)
        axes.set_xticks(marks, [f"{count:,}" for count in marks], fontsize=8)
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[-1].legend(fontsize=7)
    return _png(figure)


def precision_recall(by_model: dict[str, np.ndarray]) -> bytes:
    """Interpolated precision over recall, a line per model; `by_model`: name → `Retrieval.curve`."""
    figure = _figure(5.2, 3.8)
    axes = figure.subplots()
    for colour, (name, curve) in zip(LINES * len(by_model), by_model.items(), strict=False):
        axes.plot(RECALL_LEVELS, curve, ".-", color=colour, label=name)
    axes.set(xlabel="recall", ylabel="precision, interpolated", ylim=(0, 1.02))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7)
    return _png(figure)


def found_within(by_model: dict[str, np.ndarray], limit: int = 100) -> bytes:
    """Share of queries that find a positive among the first k, over k, a line per model.

    Args:
        by_model: Name → place of the first positive of each query, from 1 on.
        limit: Largest k.
    """
    figure = _figure(5.2, 3.8)
    axes = figure.subplots()
    ks = np.arange(1, limit + 1)
    for colour, (name, places) in zip(LINES * len(by_model), by_model.items(), strict=False):
        axes.plot(ks, [(np.asarray(places) <= k).mean() for k in ks], color=colour, label=name)
    axes.set(xlabel="k", ylabel="recall@k", ylim=(0, 1.02), xscale="log")
    axes.set_xticks(marks := [k for k in (1, 2, 5, 10, 20, 50, 100) if k <= limit], marks)
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7)
    return _png(figure)


def confusion_matrix(counts: np.ndarray, classes: Sequence[str], limit: int = CONFUSED) -> bytes:
    """Share of each class (row) that became each class (column).

    Of more than `limit` classes those that are confused most are shown.
    """
    counts = np.asarray(counts)
    shown = np.arange(len(classes))
    if len(classes) > limit:
        errors = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
        shown = np.sort(np.argsort(-errors, kind="stable")[:limit])
    shares = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[np.ix_(shown, shown)]
    side = 2.4 + (0.33 if len(shown) <= 12 else 0.2) * len(shown)
    figure = _figure(side + 0.8, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [classes[int(i)] for i in shown]
    axes.set_xticks(range(len(shown)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.set(xlabel="became", ylabel="class")
    if len(shown) <= 12:
        for row, column in np.ndindex(shares.shape):
            if not (share := shares[row, column]):
                continue
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{share:.0%}"[:-1], ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, shrink=0.5)
    return _png(figure)


def neighbour_page(rows: Sequence[tuple], side: int = 64, gap: int = 5) -> bytes:
    """Queries on the left, beside each what came first, framed green where right and red where wrong.

    Args:
        rows: Of query images, row of the query, gallery images, rows of what came first, and which of them are right.
    """
    columns, border = 1 + max(len(row[3]) for row in rows), 3
    cell = side + 2 * border + gap
    sheet = Image.new("RGB", (columns * cell + 4 * gap, len(rows) * cell + gap), "white")
    for line, (queries, query, gallery, found, right) in enumerate(rows):
        top = gap + line * cell
        sheet.paste(thumbnail(read_image(queries[query]), side), (gap + border, top + border))
        for column, (row, is_right) in enumerate(zip(found, right, strict=True), 1):
            left = 4 * gap + column * cell
            frame = Image.new("RGB", (side + 2 * border,) * 2, RIGHT if is_right else WRONG)
            frame.paste(thumbnail(read_image(gallery[int(row)]), side), (border, border))
            sheet.paste(frame, (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def embedding_map(features: np.ndarray, images: Any, width: int = 1100, seed: int = 0) -> bytes:
    """A map of features `(N, D)`, drawn with the pictures themselves; alike ones lie close.

    The places that t-SNE finds are moved onto a grid, each by as little as possible in all, so that no picture hides
    another.

    References:
        van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 9 (2008).
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30, max((len(features) - 1) / 3, 1))
    tsne = TSNE(2, perplexity=perplexity, init="random", random_state=seed)
    with threadpool_limits(1):  # its thousands of short steps are slower on several threads of a busy machine
        places = tsne.fit_transform(features)
    columns = int(np.ceil(np.sqrt(1.8 * len(features))))
    rows = -(-len(features) // columns)
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)
    low, high = places.min(0), places.max(0)
    places = (places - low) / np.maximum(high - low, 1e-9) * [columns - 1, rows - 1]
    _, cells = linear_sum_assignment(cdist(places, grid, "sqeuclidean"))
    cell = min(width // columns, 76)
    sheet = Image.new("RGB", (columns * cell, rows * cell), "white")
    for (column, row), image in zip(grid[cells], images, strict=True):
        sheet.paste(thumbnail(read_image(image), cell - 2), (int(column) * cell + 1, int(row) * cell + 1))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
