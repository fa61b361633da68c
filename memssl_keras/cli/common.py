"""What the commands share: the app, the arguments that recur, and how errors are said."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer

from memssl_keras.cli.output import errors, say_error
from memssl_keras.training.distributed import rank, world_size

SOME_SKIPPED = 3  # exit code where something was skipped

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Self-supervised image encoders: pretrain in Keras, export to ONNX, embed and search anywhere.",
)

INDEX = "Folder NAME.db on this machine, or http://HOST:PORT of a Milvus server; #COLLECTION after it."

Data = Annotated[
    str,
    typer.Argument(
        help="Folder of images, one image, Parquet, WebDataset shards (.tar), or a data set as hub:OWNER/NAME."
    ),
]
Model = Annotated[str, typer.Argument(help="Bundled model (memssl models lists them) or folder of a model.")]
Split = Annotated[
    str | None,
    typer.Option(
        help="Read only the Parquet files whose name starts with this, or this subfolder; such as train."
    ),
]
Column = Annotated[
    str | None,
    typer.Option(
        help="Image column, if the Parquet file has several; sample.image for the field of a struct."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; all by default.")]
Token = Annotated[
    str | None, typer.Option(help="Access token for the Hub; by default HF_TOKEN or the stored token.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a repository.")]
Run = Annotated[str, typer.Argument(help="Folder of a finished run of memssl pretrain.")]
Exports = Annotated[
    str,
    typer.Option(help="Write files for these too, separated by commas: transformers, keras, fp32 (ONNX)."),
]
Half = Annotated[bool, typer.Option("--half", help="Store weights in float16, in half the bytes.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for other programs.")]
Variant = Annotated[
    str | None,
    typer.Option(
        help="Which of the model's ONNX files: fp32, fp16, int8, int8-static; by default fp32 if there is one."
    ),
]

ImageSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Side in pixels of the square that the model sees, of a ViT a multiple of its patch. By default the "
        "model's own.",
    ),
]
SearchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Side in pixels of the square that the model sees, of a ViT a multiple of its patch. By default that of "
        "the vectors that are searched, or else the model's own.",
    ),
]


def example(command: str) -> str:
    """The line under a command's help: a real example."""
    return f"Example:  {command}"


def listed(text: str) -> list[str]:
    """What stands between the commas of an option."""
    return [part.strip() for part in text.split(",") if part.strip()]


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """Turns the errors that a user can mend into one line and exit code 1."""
    try:
        yield
    except (ValueError, OSError, ArithmeticError) as error:
        where = f" in process {rank()}" if world_size() > 1 else ""
        errors.print(f"[bold red]error{where}:[/bold red]", end=" ")
        say_error(error)
        raise typer.Exit(1) from None


def _version(asked: bool):
    if asked:
        from memssl_keras import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Self-supervised image encoders: pretrain in Keras, export to ONNX, embed and search anywhere."""
