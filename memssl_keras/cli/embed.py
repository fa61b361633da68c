"""`memssl embed`."""

import contextlib
import pathlib
from typing import Annotated, Any

import typer

from memssl_keras.cli.common import (
    INDEX,
    SOME_SKIPPED,
    Column,
    ImageSize,
    Json,
    Split,
    Threads,
    Variant,
    app,
    errors_in_words,
    example,
    listed,
)
from memssl_keras.cli.output import progress, say, say_error, say_json
from memssl_keras.words import counted

ACTORS = 2
MOST_LISTED = 20  # skipped images that are printed; the file beside the output lists all

Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Images, folders of images, Parquet, WebDataset shards (.tar), or data sets as hub:OWNER/NAME.",
    ),
]
Model = Annotated[str, typer.Option(help="Bundled model, or folder of an exported model.")]
Out = Annotated[
    pathlib.Path, typer.Option(help="Parquet file to write; with --watch a folder of Parquet files.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per batch.")]
Providers = Annotated[
    str,
    typer.Option(
        help="ONNX Runtime providers, first choice first: cpu, cuda, tensorrt, coreml, openvino, xnnpack."
    ),
]
FullDecode = Annotated[
    bool,
    typer.Option("--full-decode", help="Decode JPEGs at full size: slower, with almost the same vectors."),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Keep running, and embed new files in the folder until interrupted.")
]
Engine = Annotated[str, typer.Option(help="local, or ray for a pool of processes.")]
Actors = Annotated[int, typer.Option(min=1, help="With Ray: number of processes in the pool.")]
Address = Annotated[
    str | None,
    typer.Option(help="With Ray: address of a running cluster that can read these files, such as auto."),
]
To = Annotated[str | None, typer.Option(metavar="URI", help=f"Write them into an index too: {INDEX}")]
ListOthers = Annotated[
    bool, typer.Option("--list-others", help="Print every file and folder that was not read.")
]


@app.command(epilog=example("memssl embed photos/ --model runs/photos --out photos.parquet"))
def embed(
    data: Data,
    model: Model,
    out: Out,
    split: Split = None,
    column: Column = None,
    batch_size: BatchSize = 32,
    threads: Threads = None,
    variant: Variant = None,
    providers: Providers = "cpu",
    full_decode: FullDecode = False,
    image_size: ImageSize = None,
    watch: Watch = False,
    engine: Engine = "local",
    actors: Actors = ACTORS,
    address: Address = None,
    to: To = None,
    list_others: ListOthers = False,
    as_json: Json = False,
) -> None:
    """Turn images into unit vectors, one Parquet row per image.

    A row holds the image's name, its embedding and the data's other columns.
    Embedding runs on ONNX Runtime. If it is interrupted, the same command
    resumes. Unreadable images are skipped and listed beside the file, for
    photos.parquet in photos.unreadable.csv, and the exit code is then 3.
    """
    with errors_in_words():
        options: dict[str, Any] = {"variant": variant, "threads": threads, "providers": listed(providers)}
        options |= {"scaled_decoding": not full_decode, "image_size": image_size}
        if engine == "local" and (actors != ACTORS or address):
            given = f"address={address!r}" if address else f"actors={actors}"
            raise ValueError(f"{given}: is of a pool of processes; expected --engine ray with it")
        before = _held(out)
        if watch:
            if engine != "local":
                raise ValueError(f"engine={engine!r}: with --watch expected 'local'")
            if to:
                raise ValueError(
                    f"to={to!r}: not with --watch; `memssl index {out} --to URI` writes its folder"
                )
            _watch(data, model, out, batch_size, options)
            return
        from memssl_keras.embedding import embed as embedding

        with _kept_when_interrupted(out), progress("images") as bar:
            done = embedding.embed(
                data,
                model,
                out,
                split=split,
                column=column,
                batch_size=batch_size,
                engine=engine,
                actors=actors,
                address=address,
                to=to,
                begin=lambda total: bar.start("embedding", total).advance,
                **options,
            )
    _report(out, done, before, to, list_others, as_json)
    if done.failures:
        raise typer.Exit(SOME_SKIPPED)


@contextlib.contextmanager
def _kept_when_interrupted(out):
    from memssl_keras.embedding.run import kept

    try:
        yield
    except KeyboardInterrupt:
        say_error(f"interrupted; {counted(kept(out), 'embedding')} kept, and the same command resumes")
        raise typer.Exit(130) from None


def _report(out, done, before, to, list_others, as_json):
    """One line that accounts for every file, and the names of those that were skipped."""
    source, failures, unreadable, width, written = done
    for _, error in failures[:MOST_LISTED]:
        say_error(f"skipped: {error}")
    if list_others:
        for line in source.listing.details():
            say_error(line)
    if as_json:
        skipped = [{"image": error.name, "reason": error.reason} for _, error in failures]
        counts = {"embeddings": len(source) - len(failures), "width": width, "skipped": skipped}
        indexed = {"index": {"to": to, **written._asdict()}} if written else {}
        say_json({"out": str(out), **counts, "notes": source.notes, **indexed})
        return
    parts = [f"{out}: {counted(len(source) - len(failures), 'embedding')} of width {width}"]
    if failures:
        parts.append(f"{counted(len(failures), 'unreadable image')} skipped, listed in {unreadable}")
    parts += [f"{before} replaced"] if before else []
    say("; ".join([*parts, *source.notes]))
    if written:
        say(written.account(to))


def _held(out):
    """What lies in a file that is about to be replaced, in words; empty where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from memssl_keras.embedding.run import MODEL

    try:
        metadata = pq.read_metadata(out)
    except (OSError, pa.ArrowException):
        return ""
    model = (metadata.metadata or {}).get(MODEL, b"").decode()
    return f"{counted(metadata.num_rows, 'embedding')} of {model}" if model else ""


def _watch(data, model, out, batch_size, options):
    from memssl_keras.embedding.embed import named
    from memssl_keras.embedding.watch import watch
    from memssl_keras.export.runtime import OnnxEncoder

    if len(data) != 1:
        raise ValueError(f"data: got {len(data)}; with --watch expected one folder")
    encoder, name = OnnxEncoder.from_pretrained(model, **options), named(model, options["variant"])
    say(f"watching {data[0]}; Ctrl-C ends")
    try:
        watch(encoder, data[0], out, name, batch_size=batch_size, say=say)
    except KeyboardInterrupt:
        say(f"{out} is what was seen so far")
