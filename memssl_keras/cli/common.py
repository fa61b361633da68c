"""What the commands share: the app, its consoles, the arguments that recur, and how errors are said."""

import contextlib
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from memssl_keras.training.distributed import rank, world_size

console = Console()
errors = Console(stderr=True)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Self-supervised image encoders: pretrain in Keras, export to ONNX, embed and search anywhere.",
)

Data = Annotated[str, typer.Argument(help="Folder of images, one image, a Parquet file or a folder of them.")]
Model = Annotated[str, typer.Argument(help="Bundled model (see `memssl models`) or folder of a model.")]
Split = Annotated[
    str | None,
    typer.Option(help="Of a folder of Parquet files, take those whose name starts so, such as `train`."),
]
Column = Annotated[str | None, typer.Option(help="Image column of Parquet, where there are several.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; all by default.")]
Token = Annotated[
    str | None, typer.Option(help="Access token for the Hub; HF_TOKEN or the stored one by default.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a repository.")]


def example(command):
    """The line under a command's help: a real example."""
    return f"Example:  {command}"


@contextlib.contextmanager
def errors_in_words():
    """Turns the errors that a user can mend into one line and exit code 1."""
    try:
        yield
    except (ValueError, OSError, ArithmeticError) as error:
        where = f" in process {rank()}" if world_size() > 1 else ""
        errors.print(
            f"[bold red]error{where}:[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True
        )
        raise typer.Exit(1) from None


def progress_bar(unit):
    """A progress bar with count, rate and time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)]
    return Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=errors)
