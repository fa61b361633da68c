"""`memssl demo`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import INDEX, SearchSize, app, errors_in_words, example
from memssl_keras.cli.output import progress, say, say_error


@app.command(epilog=example("memssl demo --gallery photos/ --compare massl_vitn4.cifar10@int8"))
def demo(
    model: Annotated[
        str | None,
        typer.Option(help="Bundled model or folder of a model; MODEL@VARIANT for an ONNX variant."),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option(
            help="Folder of images, Parquet, or a data set as hub:OWNER/NAME, in place of the icons."
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(metavar="URI", help=f"Search an index, by the model that made it. {INDEX}"),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Models to compare with the first; by default its variants and all bundled models."
        ),
    ] = None,
    image_size: SearchSize = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port; by default the first free one from 7860 on."),
    ] = None,
    space: Annotated[
        pathlib.Path | None,
        typer.Option(help="Instead, write a new folder that can be uploaded as a Space on the Hub."),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Open the demo: name icons, find look-alikes, teach classes.

    By default the model for drawings or the one for photographs is chosen, by
    what the gallery holds. The gallery's vectors are kept: the next start embeds
    only new pictures.
    """
    with errors_in_words():
        try:
            from memssl_keras.demo.app import launch
            from memssl_keras.demo.search import chosen, load, opened
        except ModuleNotFoundError as error:
            raise ValueError(f"the demo needs {error.name}: pip install 'memssl-keras[demo]'") from None
        if index and space:
            raise ValueError(f"space={str(space)!r}: expected none with --index, which a Space cannot reach")
        if index:
            model, image_size = _of_index(index, model, gallery, image_size)
            gallery, compare = index, compare or []
        if space:
            from memssl_keras.demo.space import write_space

            say(
                f"{write_space(space, model, gallery, image_size=image_size)}: to try it, python app.py in there"
            )
            return
        if not model:
            choice = chosen(opened(gallery))
            say(f"{choice.model}, because {choice.why}; --model takes another")
        with progress("images") as bar:
            advance = bar.start("gallery", len(opened(gallery))).advance
            retrieval = load(model, gallery, advance, image_size)
        say(f"{len(retrieval.gallery):,} pictures, {retrieval.fresh:,} of them embedded now")
        if retrieval.failures:
            say_error(f"{len(retrieval.failures):,} unreadable images skipped:")
            for failure in retrieval.failures[:20]:
                say_error(f"  {failure}")
        for note in retrieval.gallery.source.notes:
            say_error(note)
        options = {"host": host, "port": port, "open_browser": browser}
        launch(model, gallery, compare=compare, image_size=image_size, **options)


def _of_index(index, model, gallery, image_size):
    """The model that made an index, or where it is now, and the image size that it made it at."""
    from memssl_keras.demo.models import open_model
    from memssl_keras.demo.search import opened

    if gallery:
        raise ValueError(f"gallery={gallery!r}: expected none with --index")
    source = opened(index).source
    model, image_size = model or source.model, image_size or source.about.image_size
    encoder, made = open_model(model, image_size).encoder, source.about.image_size
    if made and image_size != made:
        raise ValueError(
            f"image_size={image_size}: the vectors of {index} were made at {made} px, and those of two sizes do not "
            f"compare; expected {made}"
        )
    if encoder.revision() != source.revision:
        raise ValueError(
            f"model={model!r}: another revision than made the vectors of {index}, which do not compare with its own; "
            "name the folder of the old model with --model"
        )
    return model, image_size
