"""`memssl export`, `memssl embed` and `memssl search`."""

import pathlib
from importlib import resources
from typing import Annotated

import typer

from memssl_keras.cli.common import (
    Column,
    Data,
    Model,
    Split,
    Threads,
    app,
    console,
    errors,
    errors_in_words,
    example,
    progress_bar,
)

SOME_SKIPPED = 3

Variant = Annotated[
    str, typer.Option(help="Of the model's ONNX files: fp32, fp16, int8, int8-static.", show_default=True)
]
Providers = Annotated[
    str,
    typer.Option(help="What runs it, first choice first: cpu, cuda, tensorrt, coreml, openvino, xnnpack."),
]


@app.command(epilog=example("memssl export runs/photos --variants all --raw-pixels --images photos/"))
def export(
    model: Model,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Folder to write to; the model's own by default.")
    ] = None,
    variants: Annotated[
        str, typer.Option(help="fp32, fp16, int8, int8-static (takes --images), separated by commas, or all.")
    ] = "fp32",
    raw_pixels: Annotated[
        bool,
        typer.Option(
            "--raw-pixels", help="Also files that take any uint8 picture: the preprocessing within."
        ),
    ] = False,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Fix the input to squares of this side: smaller and faster.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Folder or Parquet of images like those to come: to calibrate, and to check on."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Label column of that Parquet: k-NN is then checked too.")
    ] = None,
    split: Split = None,
    ort: Annotated[
        bool, typer.Option("--ort", help="Also ONNX Runtime's own format, for its mobile builds.")
    ] = False,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators.")] = 18,
    web: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Instead, write a static page into this new folder: the model in the browser, searching --images."
        ),
    ] = None,
):
    """Write an encoder as ONNX, every file compared with the Keras one before it is left behind.

    A file that is further from it than 1e-4 (fp16: 5e-3; int8: a mean cosine of .99), or loses more than half a point
    and two images of recall@1 or k-NN on --images, is not written, and the exit code is then 3. What was measured lies
    beside each file.
    """
    with errors_in_words():
        if web:
            _export_web(model, web, images, split, variants)
            return
        from memssl_keras.data.labels import numbered_labels
        from memssl_keras.data.sources import open_source
        from memssl_keras.export.onnx import ParityError, export_onnx
        from memssl_keras.pretrained import from_pretrained

        encoder, folder = from_pretrained(model), out or pathlib.Path(model)
        if not out and not folder.is_dir():
            raise ValueError(f"model={model!r} is no folder of yours; --out FOLDER says where to write")
        source = open_source(images, split=split) if images else None
        settings = {"image_size": image_size, "raw_pixels": raw_pixels, "ort": ort, "opset": opset}
        settings["labels"] = numbered_labels(source, label) if source and label else None
        settings["variants"] = "all" if variants == "all" else variants.split(",")
        try:
            with console.status("tracing and comparing"):
                written = export_onnx(encoder, folder, images=source, **settings)
        except ParityError as error:
            if not error.written:
                raise
            _show(folder, error.written)
            errors.print(f"left out: {error}", highlight=False, markup=False, soft_wrap=True)
            raise typer.Exit(SOME_SKIPPED) from None
        _show(folder, written)


def _show(folder, written):
    from rich.table import Table

    on_images = any(found.images for found in written.values())
    table = Table("file", "MB", "difference", "cosine", *(["found again"] if on_images else []))
    for name, found in written.items():
        row = [
            name,
            f"{found.bytes / 1e6:.1f}",
            f"{found.largest_difference:.1e}",
            f"{found.mean_cosine:.6f}",
        ]
        table.add_row(*row, *([f"{found.images['recall@1']:.2%}"] if on_images else []))
    console.print(table)
    console.print(f"in {folder / 'onnx'}, each with what was measured beside it")


def _export_web(model, web, images, split, variants):
    from memssl_keras.data.sources import open_source
    from memssl_keras.export.web import export_web

    def open_encoder(name):
        from memssl_keras.pretrained import from_pretrained

        return from_pretrained(name)

    if images:
        source = open_source(images, split=split)
        names = [pathlib.PurePath(name).name for name in source.ids]
    else:
        source = open_source(resources.files("memssl_keras.demo") / "gallery" / "emoji.parquet")
        names = source.columns["name"].to_pylist()
    with console.status("gathering the page"):
        count = export_web(model, web, source, names=names, variant=variants, open_encoder=open_encoder)
    console.print(
        f"{web}: a page with {count:,} pictures to search. To look at it: python -m http.server -d {web}"
    )


@app.command(epilog=example("memssl embed photos/ --model runs/photos --out photos.parquet"))
def embed(
    data: Data,
    model: Annotated[str, typer.Option(help="Bundled model or folder of one, exported.")],
    out: Annotated[pathlib.Path, typer.Option(help="Parquet file to write; with --watch a folder of them.")],
    split: Split = None,
    column: Column = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    threads: Threads = None,
    variant: Variant = "fp32",
    providers: Providers = "cpu",
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and embed what arrives in the folder, until interrupted.")
    ] = False,
    engine: Annotated[str, typer.Option(help="local, or ray for a pool of processes.")] = "local",
    actors: Annotated[int, typer.Option(min=1, help="With Ray: processes of the pool.")] = 2,
    address: Annotated[
        str | None, typer.Option(help="With Ray: a running cluster, such as auto, that shares these files.")
    ] = None,
):
    """Turn images into unit vectors, one Parquet row each: image, embedding, and the data's other columns.

    Runs on ONNX Runtime. Interrupted, the same command goes on. Unreadable images are left out and listed, and the exit
    code is then 3.
    """
    with errors_in_words():
        from memssl_keras.data.sources import open_source
        from memssl_keras.embedding.run import write_embeddings
        from memssl_keras.export.runtime import OnnxEncoder

        if engine not in ("local", "ray"):
            raise ValueError(f"engine={engine!r}: expected 'local' or 'ray'")
        name = str(model) if variant == "fp32" else f"{model}@{variant}"
        settings = {"variant": variant, "threads": threads, "providers": providers.split(",")}
        encoder = OnnxEncoder.from_pretrained(model, **settings)
        if watch:
            _watch(encoder, data, out, name, batch_size)
            return
        source = open_source(data, split=split, column=column)
        with progress_bar("images") as progress:
            task = progress.add_task("embedding", total=len(source))
            advance = lambda count: progress.advance(task, count)  # noqa: E731
            if engine == "local":
                failures = write_embeddings(
                    encoder, source, out, name, batch_size, advance, encoder.revision()
                )
            else:
                from memssl_keras.embedding.ray_engine import embed_with_ray

                failures = embed_with_ray(
                    {"data": data, "split": split, "column": column},
                    {"name_or_folder": model, **settings, "threads": threads or 1},
                    {"path": str(out), "model": name, "key": encoder.revision()},
                    batch_size=batch_size,
                    actors=actors,
                    address=address,
                    embed_dim=encoder.embed_dim,
                    advance=advance,
                )
    console.print(f"{out}: {len(source) - len(failures):,} embeddings of width {encoder.embed_dim}")
    if failures:
        errors.print(f"{len(failures):,} left out:", highlight=False)
        for _, error in failures:
            errors.print(f"  {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(SOME_SKIPPED)


def _watch(encoder, folder, out, name, batch_size):
    from memssl_keras.embedding.watch import watch

    console.print(f"watching {folder}; Ctrl-C ends")
    try:
        watch(encoder, folder, out, name, batch_size=batch_size, say=console.print)
    except KeyboardInterrupt:
        console.print(f"{out} is what was seen so far")


@app.command(epilog=example("memssl search photos.parquet holiday.jpg --k 5 --sheet neighbours.png"))
def search(
    index: Annotated[
        pathlib.Path, typer.Argument(help="Parquet file that `memssl embed` wrote, or the folder of --watch.")
    ],
    image: Annotated[list[str], typer.Argument(help="One or more images to look for.")],
    k: Annotated[int, typer.Option(min=1, help="Neighbours to show.")] = 10,
    model: Annotated[str | None, typer.Option(help="In place of the model that embedded the index.")] = None,
    sheet: Annotated[
        pathlib.Path | None, typer.Option(help="Draw queries and neighbours into this PNG.")
    ] = None,
):
    """Find the images that look most like an image."""
    from rich.table import Table

    with errors_in_words():
        from memssl_keras.embedding.table import draw_sheet, nearest, read_embeddings
        from memssl_keras.export.runtime import OnnxEncoder
        from memssl_keras.weights.config import split_variant

        stored = read_embeddings(index)
        name, variant = split_variant(stored.model)
        encoder = OnnxEncoder.from_pretrained(model or name, variant=variant or "fp32")
        found = nearest(stored, encoder.embed(image), k)
        for query, rows in zip(image, found, strict=True):
            table = Table("rank", "similarity", "image", title=query)
            for rank, (row, similarity) in enumerate(rows, 1):
                table.add_row(str(rank), f"{similarity:.4f}", stored.images[row])
            console.print(table)
        if sheet:
            draw_sheet(stored, image, found, sheet)
            console.print(f"drawn into {sheet}")
