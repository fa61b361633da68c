"""`memssl benchmark`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import Json, Threads, app, errors_in_words, example
from memssl_keras.cli.output import say, say_error, say_json, table


@app.command(epilog=example("memssl benchmark runs/photos --out speed/"))
def benchmark(
    model: Annotated[
        str,
        typer.Argument(help="Bundled model, folder of a model, or a recipe (measured untrained)."),
    ],
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Folder for benchmark.csv and benchmark.png.")
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            help="Separated by commas: fp32, fp16, int8, int8-static; by default all that there are."
        ),
    ] = None,
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of calls; the median is reported.")] = 20,
    as_json: Json = False,
) -> None:
    """Measure the speed of a model's ONNX variants.

    They are compared with the eager Keras encoder in one run, by file size, load
    time, time from a new process to its first embedding, peak memory, latency,
    throughput and cosine similarity to Keras.
    """
    with errors_in_words():
        from memssl_keras.benchmark import COLUMNS, draw, exported, measure, write_csv

        say_error("exporting")
        folder, chosen, keep = exported(model, variants.split(",") if variants else None)
        say_error("measuring, some 10 s for each variant")
        rows = measure(folder, chosen, threads, rounds)
        if as_json:
            say_json(rows)
        else:
            _show(rows, COLUMNS)
        if out:
            out.mkdir(parents=True, exist_ok=True)
            write_csv(rows, out / "benchmark.csv")
            draw(rows, out / "benchmark.png", f"{model}, {threads or 'all'} threads")
            say_error(f"written to {out / 'benchmark.csv'} and {out / 'benchmark.png'}")
        if keep:
            keep.cleanup()


def _show(rows, columns):
    names = list(columns)[1:]
    table(["", *(row["variant"] for row in rows)], [[name, *(row[name] for row in rows)] for name in names])
    for name in names:
        say(f"{name}: {columns[name]}")
