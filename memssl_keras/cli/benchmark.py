"""`memssl benchmark`."""

import pathlib
import tempfile
from typing import Annotated

import typer

from memssl_keras.cli.common import ImageSize, Json, Threads, app, errors_in_words, example, listed
from memssl_keras.cli.output import say, say_error, say_json, table


@app.command(epilog=example("memssl benchmark runs/photos --out speed/"))
def benchmark(
    model: Annotated[
        str,
        typer.Argument(help="Bundled model, folder of a model, or a recipe (measured untrained)."),
    ],
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Folder for benchmark.csv, folders.csv and benchmark.png.")
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            help="Separated by commas: fp32, fp16, int8, int8-static; by default all that there are."
        ),
    ] = None,
    image_size: ImageSize = None,
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of calls; the median is reported.")] = 20,
    folders: Annotated[bool, typer.Option(help="Measure folders of JPEGs as well.")] = True,
    as_json: Json = False,
) -> None:
    """Measure the speed of a model's ONNX variants, and advise one for this machine.

    They are compared with the eager Keras encoder in one run, by file size, load
    time, time from a new process to its first embedding, peak memory, latency,
    throughput and cosine similarity to Keras. Then folders of JPEGs are embedded,
    as `memssl embed` does.
    """
    with errors_in_words():
        from memssl_keras.benchmark import COLUMNS, advice, draw, exported, measure, write_csv
        from memssl_keras.benchmark_folders import COLUMNS as FOLDERS
        from memssl_keras.benchmark_folders import measure_folders
        from memssl_keras.files import make_folder

        if out:
            make_folder(out)
        say_error("exporting")
        folder, chosen, keep = exported(model, listed(variants) if variants else None)
        say_error(
            "measuring, some 10 s for each variant" + (" and as much for its folders" if folders else "")
        )
        rows, ends = measure(folder, chosen, threads, rounds, image_size=image_size), []
        if folders:
            with tempfile.TemporaryDirectory() as scratch:
                ends = measure_folders(folder, chosen, scratch, threads, image_size=image_size)
        if as_json:
            say_json({"variants": rows, "folders": ends, "advice": advice(rows)})
        else:
            _show(rows, COLUMNS)
            if ends:
                table(FOLDERS, [row.values() for row in ends], title="From a folder of JPEGs to vectors")
                _explain(FOLDERS)
            say(advice(rows), style="bold")
        if out:
            write_csv(rows, out / "benchmark.csv")
            if ends:
                write_csv([{**row, "processor": rows[0]["processor"]} for row in ends], out / "folders.csv")
            size = f" at {image_size} px" if image_size else ""
            draw(rows, out / "benchmark.png", f"{model}{size}, {threads or 'all'} threads")
            say_error(f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
        if keep:
            keep.cleanup()


def _show(rows, columns):
    names = [name for name in columns if name not in ("variant", "processor", "instructions")]
    title = f"{rows[0]['processor']}, {rows[0]['instructions']}"
    table(
        ["", *(row["variant"] for row in rows)],
        [[name, *(row[name] for row in rows)] for name in names],
        title=title,
    )
    _explain({name: columns[name] for name in names})


def _explain(columns):
    for name, words in columns.items():
        if words:
            say(f"{name}: {words}")
