"""The protocols as `memssl evaluate` runs them: from features of a data set to scores, intervals and what is drawn."""

import dataclasses
import functools

import numpy as np

from memssl_keras.evaluate.clustering import agreement, cluster
from memssl_keras.evaluate.data import Images
from memssl_keras.evaluate.knn import knn_predict, knn_predictions
from memssl_keras.evaluate.lowshot import SHOTS, low_shot
from memssl_keras.evaluate.probe import linear_probe
from memssl_keras.evaluate.retrieval import retrieve
from memssl_keras.evaluate.robustness import CORRUPTIONS, Corrupted


@dataclasses.dataclass(frozen=True)
class Settings:
    """What can be chosen of the protocols.

    Attributes:
        ks: Neighbours that vote.
        temperature: Of their vote.
        at: Neighbours of recall@k and precision@k.
        shots: Images per class of low-shot, or shares as text.
        draws: Of low-shot.
        clustered: Test images that are clustered, at most.
        corrupted: Test images that are made worse, at most; each is embedded 20 times.
        seed: Of everything drawn.
    """

    ks: tuple = (10, 20, 100, 200)
    temperature: float = 0.07
    at: tuple = (1, 5, 10)
    shots: tuple = SHOTS
    draws: int = 5
    clustered: int = 10000
    corrupted: int = 1000
    seed: int = 0


@dataclasses.dataclass
class Outcome:
    """What one model got in one task on one set.

    Attributes:
        protocol: In words.
        scores: By name, 0 … 1; changes −1 … 1.
        headline: Name of the score that stands for the others.
        paired: Score name → figure of every test image, or of every draw (`draws`), to compare models by.
        draws: Whether `paired` holds draws, to which Student's interval fits, and not test images.
        notes: In words, what was left out.
        detail: What else goes into `results.json`.
        drawn: What the report's figures are made of.
    """

    protocol: str
    scores: dict
    headline: str
    paired: dict = dataclasses.field(default_factory=dict)
    draws: bool = False
    notes: list = dataclasses.field(default_factory=list)
    detail: dict = dataclasses.field(default_factory=dict)
    drawn: dict = dataclasses.field(default_factory=dict)


def confusion(truth, predicted, classes):
    """How many images of each class (row) became which class (column): `(classes, classes)`."""
    cells = np.bincount(np.asarray(truth) * classes + np.asarray(predicted), minlength=classes * classes)
    return cells.reshape(classes, classes)


def knn(data, features, settings, track=iter):
    """k-NN of the test images among all training images; k beyond their number are left out and said so."""
    possible = [k for k in settings.ks if k <= len(data.train)]
    if not possible:
        raise ValueError(
            f"k={min(settings.ks)}: expected 1 … {len(data.train)}, the number of training images"
        )
    left_out = [k for k in settings.ks if k not in possible]
    notes = [f"k = {k} is more than the {len(data.train)} training images: left out" for k in left_out]
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


def linear(data, features, settings, track=iter):
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
        else ["logistic regression had not converged after its last iteration"],
        detail=about,
        drawn={"confusion": confusion(data.test_labels, predicted, len(data.classes))},
    )


def lowshot(data, features, settings, track=iter):
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
        notes=[
            f"{shot} images per class are more than the smallest class has: left out" for shot in left_out
        ],
        detail={
            name: {"interval": cell["interval"], "images": cell["images"]} for name, cell in cells.items()
        },
        drawn={"lowshot": results},
    )


def clustering(data, features, settings, track=iter):
    """k-means of the test images, as many clusters as classes."""
    rows = np.random.default_rng(settings.seed).permutation(len(data.test))[: settings.clustered]
    labels = data.test_labels[rows]
    count = len(np.unique(labels))
    found = cluster(features(data.test)[rows], count, settings.seed)
    protocol = f"k-means, {count} clusters, {len(rows):,} test images"
    return Outcome(protocol, agreement(labels, found), "NMI")


def retrieval(data, features, settings, track=iter):
    """Test images among the other test images, by class."""
    test = features(data.test)
    found = retrieve(test, data.test_labels, test, data.test_labels, _at(settings, len(test) - 1), same=True)
    protocol = f"retrieval by class, {len(test):,} test images, each among the others"
    return _retrieved(found, protocol, data.test, data.test, data.test_labels, data.test_labels)


def instances(queries, query_groups, gallery, gallery_groups, words, features, settings, track=iter):
    """Queries of one origin in a gallery of another, by what they show."""
    at = _at(settings, len(gallery))
    found = retrieve(features(queries), query_groups, features(gallery), gallery_groups, at)
    return _retrieved(found, words, queries, gallery, query_groups, gallery_groups)


def robustness(data, features, settings, track=iter):
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
    )


TASKS = {
    "knn": knn,
    "linear": linear,
    "lowshot": lowshot,
    "retrieval": retrieval,
    "clustering": clustering,
    "robustness": robustness,
}


def instance_task(groups, group, query, gallery):
    """`instances` of what `open_groups` returned, called as the functions in `TASKS` are, without `data`."""
    words = (
        f"retrieval by {group}, {len(groups[0])} queries of {query}, gallery of {len(groups[2])} of {gallery}"
    )
    return functools.partial(instances, *groups, words)


def _at(settings, offered):
    return [k for k in settings.at if k <= offered] or [1]


def _retrieved(found, protocol, queries, gallery, query_groups, gallery_groups):
    paired = {f"recall@{k}": v for k, v in found.recall.items()} | {"mAP": found.average_precision}
    paired |= {f"precision@{k}": v for k, v in found.precision.items()}
    asked = np.flatnonzero(found.answered)
    pages = [
        (
            queries,
            int(asked[i]),
            gallery,
            row,
            [bool(gallery_groups[j] == query_groups[asked[i]]) for j in row],
        )
        for i, row in _some(found.nearest)
    ]
    notes = (
        [f"{found.skipped} queries without a positive in the gallery are skipped"] if found.skipped else []
    )
    headline = next(iter(found.scores))
    drawn = {"curve": found.curve, "neighbours": pages}
    return Outcome(protocol, found.scores, headline, paired, notes=notes, drawn=drawn)


def _some(rows, count=8):
    """`count` rows spread evenly, with their numbers."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return [(int(i), rows[i]) for i in chosen]
