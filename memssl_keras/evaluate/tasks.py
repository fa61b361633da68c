"""Protocols on labelled images as `memssl evaluate` runs them: from features to scores and what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from memssl_keras.data.sequences import Images
from memssl_keras.evaluate.data.corruptions import CORRUPTIONS, Corrupted
from memssl_keras.evaluate.embedders import last_blocks
from memssl_keras.evaluate.outcome import Outcome, Settings
from memssl_keras.evaluate.protocols.clustering import agreement, cluster
from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.evaluate.protocols.knn import knn_predict, knn_predictions
from memssl_keras.evaluate.protocols.lowshot import low_shot
from memssl_keras.evaluate.protocols.probe import linear_probe
from memssl_keras.evaluate.protocols.sgd import BATCH, sgd_probe
from memssl_keras.evaluate.retrieval_tasks import by_class


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each class (row) became which class (column): `(classes, classes)`."""
    cells = np.bincount(np.asarray(truth) * classes + np.asarray(predicted), minlength=classes * classes)
    return cells.reshape(classes, classes)


def knn(
    data: Any, features: Any, settings: Settings, track: Callable[[Iterable], Iterable] = iter
) -> Outcome:
    """k-NN of the test images among all training images; k beyond their number are left out and said so."""
    possible = [k for k in settings.ks if k <= len(data.train)]
    if not possible:
        raise ValueError(
            f"k={min(settings.ks)}: expected 1 … {len(data.train)}, the number of training images"
        )
    left_out = [k for k in settings.ks if k not in possible]
    notes = [f"k = {k} is more than the {len(data.train)} training images: skipped" for k in left_out]
    train, test = features(data.train), features(data.test)
    found = knn_predictions(train, data.train_labels, test, possible, settings.temperature)
    right = {f"k = {k}": (predicted == data.test_labels).astype(float) for k, predicted in found.items()}
    headline = 20 if 20 in possible else possible[0]
    return Outcome(
        f"k-NN, T = {settings.temperature}, {data.protocol}",
        {name: float(values.mean()) for name, values in right.items()},
        f"k = {headline}",
        right,
        notes=notes,
        drawn={"confusion": confusion(data.test_labels, found[headline], len(data.classes))},
    )


def linear(
    data: Any, features: Any, settings: Settings, track: Callable[[Iterable], Iterable] = iter
) -> Outcome:
    """Linear probe."""
    train, test = features(data.train), features(data.test)
    predicted, about = linear_probe(train, data.train_labels, test, seed=settings.seed, track=track)
    right = (predicted == data.test_labels).astype(float)
    return Outcome(
        f"logistic regression, C chosen on a held-out fifth of train, {data.protocol}",
        {"accuracy": float(right.mean())},
        "accuracy",
        {"accuracy": right},
        notes=[]
        if about["converged"]
        else [f"{features.embedder.name}: logistic regression had not converged after its last iteration"],
        detail=about,
        drawn={"confusion": confusion(data.test_labels, predicted, len(data.classes))},
    )


def sgd(
    data: Any, features: Any, settings: Settings, track: Callable[[Iterable], Iterable] = iter
) -> Outcome:
    """Linear classifier by SGD on CLS tokens of a ViT's last blocks; on the embedding of what is no ViT in Keras."""
    embedder, notes = features.embedder, []
    if embedder.blocks is None:
        notes.append(
            f"{embedder.name}: no ViT in Keras, whose blocks could be taken; the embedding is, scaled to √D"
        )
        train, test = (unit(features(part), "features") for part in (data.train, data.test))
        train, test = (part * np.float32(part.shape[1] ** 0.5) for part in (train, test))
    else:
        of_blocks = features.of(last_blocks(embedder, settings.blocks, settings.patches))
        train, test = of_blocks(data.train), of_blocks(data.test)
    predicted, about = sgd_probe(
        train, data.train_labels, test, epochs=settings.epochs, seed=settings.seed, track=track
    )
    if (steps := settings.epochs * -(-len(train) // BATCH)) < 10000:
        notes.append(
            f"{steps:,} steps of SGD are few for features that are not standardised: see linear beside it"
        )
    right = (predicted == data.test_labels).astype(float)
    what = "embedding" if embedder.blocks is None else f"CLS of the last {settings.blocks} blocks"
    if settings.patches and embedder.blocks is not None:
        what += " and mean patch token"
    return Outcome(
        f"linear classifier by SGD, {settings.epochs} epochs, {what}, no augmentation, rate chosen on a held-out tenth "
        f"of train, {data.protocol}",
        {"accuracy": float(right.mean())},
        "accuracy",
        {"accuracy": right},
        notes=notes,
        detail=about,
        drawn={"confusion": confusion(data.test_labels, predicted, len(data.classes))},
    )


def lowshot(
    data: Any, features: Any, settings: Settings, track: Callable[[Iterable], Iterable] = iter
) -> Outcome:
    """Low-shot classification, mean over draws."""
    train, test = features(data.train), features(data.test)
    results, left_out = low_shot(
        train,
        data.train_labels,
        test,
        data.test_labels,
        settings.shots,
        settings.draws,
        seed=settings.seed,
        track=track,
    )
    cells = {
        f"{shot}{'' if isinstance(shot, str) else ' each'}, {name}": cell
        for shot, row in results.items()
        for name, cell in row.items()
    }
    if not cells:
        raise ValueError(f"shots={settings.shots}: all are more than the images of the smallest class")
    return Outcome(
        f"low-shot, mean of {settings.draws} draws, {data.protocol}",
        {name: cell["mean"] for name, cell in cells.items()},
        next(iter(cells)),
        {name: cell["draws"] for name, cell in cells.items()},
        draws=True,
        notes=[f"{shot} images per class are more than the smallest class has: skipped" for shot in left_out],
        detail={
            name: {"interval": cell["interval"], "images": cell["images"]} for name, cell in cells.items()
        },
        drawn={"lowshot": results},
        summary=tuple(name for name in cells if name.endswith(", logistic")),
    )


def clustering(
    data: Any, features: Any, settings: Settings, track: Callable[[Iterable], Iterable] = iter
) -> Outcome:
    """k-means of the test images, as many clusters as classes."""
    rows = np.random.default_rng(settings.seed).permutation(len(data.test))[: settings.clustered]
    labels = data.test_labels[rows]
    count = len(np.unique(labels))
    found = cluster(features(data.test)[rows], count, settings.seed)
    protocol = f"k-means, {count} clusters, {len(rows):,} test images"
    return Outcome(protocol, agreement(labels, found), "NMI", summary=("NMI", "ARI"))


def robustness(
    data: Any, features: Any, settings: Settings, track: Callable[[Iterable], Iterable] = iter
) -> Outcome:
    """Change in k-NN accuracy where test images are made worse; training images stay as they are."""
    chosen = np.random.default_rng(settings.seed).permutation(len(data.test))[: settings.corrupted]
    rows, labels = data.test.rows[chosen], data.test_labels[chosen]
    k, train = min(20, len(data.train)), features(data.train)

    def right(images):
        predicted = knn_predict(train, data.train_labels, features(images), k, settings.temperature)
        return (predicted == labels).astype(float)

    pictures = [data.test.source[int(row)] for row in rows]
    key = f"{data.test.key} {rows.tolist()}"
    clean, changes = right(Images(data.test.source, data.test.key, rows)), {}
    for kind, strength in track([(kind, s) for kind in CORRUPTIONS for s in range(1, 6)]):
        worse = Corrupted(pictures, key, kind, strength)
        changes[f"{kind} {strength}"] = right(Images(worse, worse.key, np.arange(len(worse)))) - clean
    changes = {"mean change": np.mean(list(changes.values()), axis=0), **changes}
    return Outcome(
        f"change in k-NN accuracy, k = {k}, blur, noise, JPEG and crop at five strengths, {len(rows):,} test images",
        {
            "unchanged": float(clean.mean()),
            **{name: float(values.mean()) for name, values in changes.items()},
        },
        "mean change",
        {"unchanged": clean, **changes},
        summary=("unchanged", "mean change"),
    )


TASKS = {
    "knn": knn,
    "linear": linear,
    "sgd": sgd,
    "lowshot": lowshot,
    "retrieval": by_class,
    "clustering": clustering,
    "robustness": robustness,
}
