"""`memssl evaluate`."""

import contextlib
import pathlib
from typing import Annotated, Any

import typer

from memssl_keras.cli.common import Column, ImageSize, Json, Threads, app, errors_in_words, example, listed
from memssl_keras.cli.output import progress, say, say_json
from memssl_keras.cli.scores import show_scores

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Bundled model or folder; MODEL@VARIANT for an ONNX variant; module:function for any function.",
    ),
]
Data = Annotated[
    list[str],
    typer.Option(
        help="Folder with a subfolder per class, Parquet with a column of labels, or hub:OWNER/NAME. If it has train "
        "and test (or validation) splits, they are used. Repeat the option for several data sets."
    ),
]
Tasks = Annotated[
    str,
    typer.Option(
        "--tasks",
        "--task",
        help="Separated by commas: knn, linear, sgd, lowshot, retrieval, clustering, robustness.",
    ),
]
Label = Annotated[str, typer.Option(help="Column of labels.")]
TestShare = Annotated[
    float, typer.Option(help="Share of each class to split off as the test set, if the data has no splits.")
]
K = Annotated[
    list[int] | None,
    typer.Option(min=1, help="knn: neighbours that vote; 10, 20, 100 and 200 by default."),
]
Temperature = Annotated[float, typer.Option(help="knn: temperature of the vote.")]
Draws = Annotated[int, typer.Option(min=2, help="lowshot: draws of the labelled images.")]
Group = Annotated[
    str | None,
    typer.Option(
        help="retrieval: column that says what a picture shows; by default, pictures of a class belong together."
    ),
]
By = Annotated[
    str | None, typer.Option(help="retrieval, with --group: column that separates queries from gallery.")
]
Query = Annotated[
    str | None, typer.Option(help="retrieval, with --group: value of the --by column for queries.")
]
Gallery = Annotated[
    list[str] | None,
    typer.Option(
        help="retrieval, with --group: values of the --by column for the gallery, separated by commas; repeat the "
        "option for several galleries."
    ),
]
GroundTruth = Annotated[
    str | None,
    typer.Option(help="retrieval: JSON of revisited Oxford or Paris; --data is then the folder of pictures."),
]
Distractors = Annotated[
    str | None,
    typer.Option(help="retrieval: folder or Parquet of images that join the gallery and match no query."),
]
Scales = Annotated[
    str,
    typer.Option(
        help="retrieval: scales of the input image, such as 1,0.707,0.5; the features of all scales are averaged."
    ),
]
Blocks = Annotated[int, typer.Option(min=1, help="sgd: train on the CLS tokens of this many last blocks.")]
Patches = Annotated[bool, typer.Option(help="sgd: train on the mean patch token too.")]
Epochs = Annotated[int, typer.Option(min=1, help="sgd: epochs.")]
Baselines = Annotated[bool, typer.Option(help="Score pixels and the untrained encoder too.")]
Pixels = Annotated[
    int, typer.Option(min=1, help="Side to which pictures are resized for the pixel baseline.")
]
Keep = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Keep features in $MEMSSL_CACHE, or ~/.cache/memssl.")
]
Out = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Folder for results.json, table.md and report.html; or one file, if the name ends in .json."
    ),
]


@app.command(epilog=example("memssl evaluate runs/cifar10 --data cifar10/ --tasks knn,linear --out results/"))
def evaluate(
    models: Models,
    data: Data,
    tasks: Tasks = "knn",
    label: Label = "label",
    test_share: TestShare = 0.2,
    k: K = None,
    temperature: Temperature = 0.07,
    draws: Draws = 5,
    group: Group = None,
    by: By = None,
    query: Query = None,
    gallery: Gallery = None,
    ground_truth: GroundTruth = None,
    distractors: Distractors = None,
    scales: Scales = "1",
    blocks: Blocks = 4,
    patches: Patches = False,
    epochs: Epochs = 100,
    baselines: Baselines = True,
    pixels: Pixels = 16,
    image_size: ImageSize = None,
    threads: Threads = None,
    keep: Keep = True,
    out: Out = None,
    column: Column = None,
    as_json: Json = False,
) -> None:
    """Score encoders, with pixels and the untrained encoder as baselines.

    knn: k-NN vote of the training images on each test image.
    linear: linear probe, logistic regression on frozen features.
    sgd: DINO's linear classifier on tokens of the last blocks.
    lowshot: classification from a few labelled images per class.
    retrieval: are pictures of the same thing or class ranked first? For copy
    detection, --data is a folder with the subfolders original and strong, as
    in Copydays.
    clustering: k-means clusters compared with the classes.
    robustness: k-NN accuracy lost on degraded pictures.

    Differences come with 95 % confidence intervals.
    """
    with errors_in_words(), _named("evaluate"):
        from memssl_keras.evaluate import run
        from memssl_keras.evaluate.outcome import KS, Settings
        from memssl_keras.files import make_folder
        from memssl_keras.models import open_embedders

        if out:
            make_folder(out.parent if out.suffix == ".json" else out)
        embedders = open_embedders(
            models, baselines=baselines, pixels=pixels, threads=threads, image_size=image_size
        )
        reference = embedders[-len(models)].name
        settings = Settings(
            ks=tuple(k) if k else KS,
            temperature=temperature,
            draws=draws,
            scales=_numbers("scales", scales),
            blocks=blocks,
            patches=patches,
            epochs=epochs,
        )
        retrieval: dict[str, Any] = {"group": group, "by": by, "query": query, "galleries": gallery or []}
        retrieval |= {"ground_truth": ground_truth, "distractors": distractors}
        with progress("steps") as bar:
            evaluated = run.evaluate(
                embedders,
                data,
                listed(tasks),
                label=label,
                column=column,
                **retrieval,
                test_share=test_share,
                settings=settings,
                cache=_cache(keep),
                track=bar.track,
            )
        _report(run.results(evaluated, reference), evaluated, reference, out, as_json)


def _cache(keep):
    from memssl_keras.evaluate.cache import FeatureCache
    from memssl_keras.files import cache_folder

    return FeatureCache(cache_folder("features") if keep else None)


def _report(results, evaluated, reference, out, as_json):
    if as_json:
        say_json(results)
    else:
        show_scores(results)
    if not out:
        return
    from memssl_keras.evaluate.report.files import write_report

    write_report(out, results, evaluated, reference)
    if not as_json and out.suffix != ".json":
        say(f"report in {out / 'report.html'}")


@contextlib.contextmanager
def _named(extra):
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("sklearn", "scipy", "matplotlib"):
            raise
        raise ValueError(f"this needs {error.name}: pip install 'memssl-keras[{extra}]'") from None


def _numbers(name, text):
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"{name}: got {text!r}; expected numbers with commas between them") from None
