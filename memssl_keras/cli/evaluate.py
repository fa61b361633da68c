"""`memssl evaluate`."""

import enum
import json
import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import Model, app, console, errors_in_words, example, progress_bar


class Task(str, enum.Enum):
    """What `memssl evaluate` can measure."""

    knn = "knn"
    retrieval = "retrieval"


@app.command(epilog=example("memssl evaluate runs/cifar10 --data cifar10/ --out results.json"))
def evaluate(
    model: Model,
    data: Annotated[
        str,
        typer.Option(
            help="knn: folder with train-*.parquet and test-*.parquet, or with train/CLASS/ and test/CLASS/; "
            "retrieval: Parquet."
        ),
    ],
    task: Annotated[
        Task, typer.Option(help="Classify by neighbours, or find other pictures of the same thing.")
    ] = Task.knn,
    label: Annotated[str, typer.Option(help="knn: column of labels.")] = "label",
    k: Annotated[int, typer.Option(min=1, help="knn: neighbours that vote.")] = 20,
    temperature: Annotated[float, typer.Option(help="knn: temperature of the vote.")] = 0.07,
    group: Annotated[str, typer.Option(help="retrieval: column that says what is shown.")] = "codepoint",
    by: Annotated[str, typer.Option(help="retrieval: column that tells queries from gallery.")] = "vendor",
    query: Annotated[str, typer.Option(help="retrieval: its value for queries.")] = "Noto",
    gallery: Annotated[str, typer.Option(help="retrieval: its value for the gallery.")] = "Twemoji",
    out: Annotated[pathlib.Path | None, typer.Option(help="Write the figures as JSON too.")] = None,
):
    """Score an encoder beside the same one untrained and raw pixels.

    knn: every training image may vote on every test image. retrieval: the share of queries that have a picture of the
    same thing as nearest, among the nearest 5, and among the nearest 10.
    """
    with errors_in_words():
        from memssl_keras.evaluate.features import extract, extractors
        from memssl_keras.pretrained import from_pretrained
        from memssl_keras.sources import open_labelled, open_source

        encoder = from_pretrained(model)
        if task is Task.knn:
            sources, labels = zip(*open_labelled(data, label), strict=True)
            title, score = _knn(sources, labels, k, temperature)
        else:
            sources = [open_source(data)]
            title, score = _retrieval(sources[0], group, by, query, gallery)
        scores = {}
        for name, extractor in extractors(encoder).items():
            with progress_bar("chunks") as progress:
                track = lambda starts: progress.track(starts, description=name)  # noqa: B023, E731
                scores[name] = score(*(extract(extractor, source, track=track) for source in sources))
        _show(title, scores)
        if out:
            figures = {"task": task.value, "protocol": title, "scores": scores}
            out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _knn(sources, labels, k, temperature):
    from memssl_keras.evaluate.knn import knn_accuracy

    title = f"k-NN, k = {k}, T = {temperature}, {len(sources[0]):,} train and {len(sources[1]):,} test images"

    def score(train, test):
        return {"accuracy": knn_accuracy(train, labels[0], test, labels[1], k, temperature)}

    return title, score


def _retrieval(source, group, by, query, gallery):
    import numpy as np

    from memssl_keras.evaluate.retrieval import recall_at
    from memssl_keras.sources import column_of

    groups, kinds = column_of(source, group), column_of(source, by)
    asked, offered = kinds == query, kinds == gallery
    for value, chosen in ((query, asked), (gallery, offered)):
        if not chosen.any():
            raise ValueError(
                f"column {by!r} has no {value!r}; it holds {', '.join(map(str, np.unique(kinds)))}"
            )
    title = f"retrieval by {group}, {asked.sum()} queries of {query}, gallery of {offered.sum()} of {gallery}"

    def score(features):
        recall, _ = recall_at(features[asked], groups[asked], features[offered], groups[offered])
        return {f"recall@{k}": value for k, value in recall.items()}

    return title, score


def _show(title, scores):
    from rich.table import Table

    table = Table("features", *next(iter(scores.values())), title=title)
    for name, row in scores.items():
        table.add_row(name, *(f"{value:.2%}" for value in row.values()))
    console.print(table)
