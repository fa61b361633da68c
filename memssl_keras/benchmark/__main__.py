"""`python -m memssl_keras.benchmark loss | views`."""

import typer

from memssl_keras.benchmark.loss import benchmark_loss
from memssl_keras.benchmark.views import benchmark_views

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.command("loss")(benchmark_loss)
app.command("views")(benchmark_views)


@app.callback()
def main():
    """Measure this library against the obvious way, both sides in one run."""


if __name__ == "__main__":
    app()
