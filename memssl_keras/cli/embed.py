"""`memssl embed`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import (
    SOME_SKIPPED,
    Column,
    Json,
    Split,
    Threads,
    Variant,
    app,
    errors_in_words,
    example,
)
from memssl_keras.cli.output import progress, say, say_error, say_json

MOST_LISTED = 20  # skipped images that are printed; the file beside the output lists all


@app.command(epilog=example("memssl embed photos/ --model runs/photos --out photos.parquet"))
def embed(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Images, folders of them, Parquet, WebDataset shards (.tar), or hub:OWNER/NAME of a data set.",
        ),
    ],
    model: Annotated[str, typer.Option(help="Bundled model or folder of one, exported.")],
    out: Annotated[pathlib.Path, typer.Option(help="Parquet file to write; with --watch a folder of them.")],
    split: Split = None,
    column: Column = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    threads: Threads = None,
    variant: Variant = "fp32",
    providers: Annotated[
        str,
        typer.Option(
            help="What runs it, first choice first: cpu, cuda, tensorrt, coreml, openvino, xnnpack."
        ),
    ] = "cpu",
    full_decode: Annotated[
        bool, typer.Option("--full-decode", help="Decode JPEGs at full size, slower and hardly different.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and embed what arrives in the folder, until interrupted.")
    ] = False,
    engine: Annotated[str, typer.Option(help="local, or ray for a pool of processes.")] = "local",
    actors: Annotated[int, typer.Option(min=1, help="With Ray: processes of the pool.")] = 2,
    address: Annotated[
        str | None, typer.Option(help="With Ray: a running cluster, such as auto, that shares these files.")
    ] = None,
    list_others: Annotated[
        bool, typer.Option("--list-others", help="Print every file and folder that was not read.")
    ] = False,
    as_json: Json = False,
):
    """Turn images into unit vectors, one Parquet row each: image, embedding, and the data's other columns.

    Runs on ONNX Runtime. Interrupted, the same command resumes. Unreadable images are skipped and listed in
    OUT.unreadable.csv, and the exit code is then 3.
    """
    with errors_in_words():
        from memssl_keras.data.sources import open_sources
        from memssl_keras.embedding.run import write_embeddings, write_unreadable
        from memssl_keras.export.runtime import OnnxEncoder

        if engine not in ("local", "ray"):
            raise ValueError(f"engine={engine!r}: expected 'local' or 'ray'")
        name = str(model) if variant == "fp32" else f"{model}@{variant}"
        settings = {"variant": variant, "threads": threads, "providers": providers.split(",")}
        settings["scaled_decoding"] = not full_decode
        encoder = OnnxEncoder.from_pretrained(model, **settings)
        if watch:
            _watch(encoder, data, out, name, batch_size)
            return
        source = open_sources(data, split=split, column=column)
        with progress("images") as bar:
            advance = bar.start("embedding", len(source)).advance
            if engine == "local":
                failures = write_embeddings(encoder, source, out, name, batch_size, advance)
            else:
                from memssl_keras.embedding.ray_engine import embed_with_ray

                failures = embed_with_ray(
                    {"data": data, "split": split, "column": column},
                    {"name_or_folder": model, **settings, "threads": threads or 1},
                    {"path": str(out), "model": name, "revision": encoder.revision()},
                    batch_size=batch_size,
                    actors=actors,
                    address=address,
                    embed_dim=encoder.embed_dim,
                    advance=advance,
                )
        listed = write_unreadable(out, failures)
    _report(out, source, failures, listed, encoder.embed_dim, list_others, as_json)
    if failures:
        raise typer.Exit(SOME_SKIPPED)


def _report(out, source, failures, listed, width, list_others, as_json):
    """One line that accounts for every file, and the names of those that were skipped."""
    for _, error in failures[:MOST_LISTED]:
        say_error(f"skipped: {error}")
    if list_others:
        for line in source.listing.details():
            say_error(line)
    if as_json:
        skipped = [{"image": error.name, "reason": error.reason} for _, error in failures]
        counts = {"embeddings": len(source) - len(failures), "width": width, "skipped": skipped}
        say_json({"out": str(out), **counts, "notes": source.notes})
        return
    parts = [f"{out}: {len(source) - len(failures):,} embeddings of width {width}"]
    parts += [f"{len(failures):,} unreadable images skipped, listed in {listed}"] if failures else []
    say("; ".join([*parts, *source.notes]))


def _watch(encoder, data, out, name, batch_size):
    from memssl_keras.embedding.watch import watch

    if len(data) != 1:
        raise ValueError(f"data: got {len(data)}; with --watch expected one folder")
    say(f"watching {data[0]}; Ctrl-C ends")
    try:
        watch(encoder, data[0], out, name, batch_size=batch_size, say=say)
    except KeyboardInterrupt:
        say(f"{out} is what was seen so far")
