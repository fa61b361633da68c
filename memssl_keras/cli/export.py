"""`memssl export`."""

import pathlib
from typing import Annotated, Any

import typer

from memssl_keras.cli.common import SOME_SKIPPED, Model, Split, app, errors_in_words, example, listed
from memssl_keras.cli.output import console, say, say_error, table

Out = Annotated[pathlib.Path | None, typer.Option(help="Folder to write to; the model's own by default.")]
Variants = Annotated[
    str | None,
    typer.Option(
        help="Separated by commas: fp32, fp16, int8, int8-static (needs --images), or all; by default fp32, and int8 "
        "for a page that names icons."
    ),
]
RawPixels = Annotated[
    bool,
    typer.Option(
        "--raw-pixels", help="Also write files that contain the preprocessing and take any uint8 picture."
    ),
]
FixedSize = Annotated[
    int | None,
    typer.Option(min=1, help="Fix the input to squares of this side, for a smaller and faster file."),
]
Images = Annotated[
    str | None,
    typer.Option(help="Folder or Parquet of typical images, to calibrate and verify int8."),
]
Label = Annotated[
    str | None, typer.Option(help="Label column of --images: k-NN accuracy is then verified too.")
]
Ort = Annotated[
    bool, typer.Option("--ort", help="Also write ONNX Runtime's own format, for its mobile builds.")
]
Opset = Annotated[int, typer.Option(help="ONNX opset version.")]
Web = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Instead, write a static page into this new folder: in the browser, the model searches --images or "
        "names icons."
    ),
]


@app.command(epilog=example("memssl export runs/photos --variants all --raw-pixels --images photos/"))
def export(
    model: Model,
    out: Out = None,
    variants: Variants = None,
    raw_pixels: RawPixels = False,
    image_size: FixedSize = None,
    images: Images = None,
    label: Label = None,
    split: Split = None,
    ort: Ort = False,
    opset: Opset = 18,
    web: Web = None,
) -> None:
    """Export an encoder to ONNX, or write a page for the browser.

    Every file is verified against the Keras model before it is saved.
    A file is not written, and the exit code is 3, if it differs by more than
    1e-4 (fp16: 5e-3; int8: a mean cosine below .99). With --images, int8 must
    also keep recall@1 and k-NN to half a point or two images. The measured
    differences are in a .verify.json beside each file.
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
        settings: dict[str, Any] = {
            "image_size": image_size,
            "raw_pixels": raw_pixels,
            "ort": ort,
            "opset": opset,
        }
        settings["labels"] = numbered_labels(source, label) if source and label else None
        settings["variants"] = "all" if variants == "all" else listed(variants or "fp32")
        try:
            with console.status("tracing and comparing"):
                written = export_onnx(encoder, folder, images=source, **settings)
        except ParityError as error:
            if not error.written:
                raise
            _show(folder, error.written)
            say_error(f"not written: {error}")
            raise typer.Exit(SOME_SKIPPED) from None
        _show(folder, written)


def _show(folder, written):
    for name, found in written.items():
        if found.speedup is not None and found.speedup < 1:
            say(
                f"warning: {name} is slower than float32 on this processor ({found.speedup:.2f} times as fast)"
            )
    on_images = any(found.images for found in written.values())
    rows = [
        [
            name,
            f"{found.bytes / 1e6:.1f}",
            f"{found.largest_difference:.1e}",
            f"{found.mean_cosine:.6f}",
            "" if found.speedup is None else f"{found.speedup:.2f} ×",
            *([f"{found.images['recall@1']:.2%}"] if on_images else []),
        ]
        for name, found in written.items()
    ]
    table(["file", "MB", "difference", "cosine", "speed", *(["recall@1"] if on_images else [])], rows)
    say(f"in {folder / 'onnx'}, each with what was measured beside it")


def _export_web(model, web, images, split, variants):
    from memssl_keras.export.web import export_web

    def open_encoder(name):
        from memssl_keras.pretrained import from_pretrained

        return from_pretrained(name)

    with console.status("gathering the page"):
        if images:
            from memssl_keras.data.sources import open_source

            source = open_source(images, split=split)
            names = [pathlib.PurePath(name).name for name in source.ids]
            count = export_web(
                model, web, source, names=names, variant=variants or "fp32", open_encoder=open_encoder
            )
            found = f"{count:,} pictures to search"
        else:
            from memssl_keras.demo.static_page import export_icons  # which needs what the demo needs

            found = f"{export_icons(model, web, variant=variants, open_encoder=open_encoder):,} icons to name"
    say(f"{web}: a page with {found}. To look at it: python -m http.server -d {web}")
