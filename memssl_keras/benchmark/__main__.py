"""`python -m memssl_keras.benchmark loss`."""

import typer

from memssl_keras.benchmark.loss import benchmark_loss

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.command("loss")(benchmark_loss)


@app.callback()
def main():
    """Measure this library against the obvious way, both sides in one run."""


if __name__ == "__main__":
    app()
