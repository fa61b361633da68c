"""`python zoo/benchmarks loss | views | step | knn | demo | index | peers`."""

import typer
from demo_speed import benchmark_demo
from index_speed import benchmark_index
from knn_speed import benchmark_knn
from loss_speed import benchmark_loss
from peers_speed import benchmark_peers
from step_speed import benchmark_step
from views_speed import benchmark_views

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.command("loss")(benchmark_loss)
app.command("views")(benchmark_views)
app.command("step")(benchmark_step)
app.command("knn")(benchmark_knn)
app.command("demo")(benchmark_demo)
app.command("index")(benchmark_index)
app.command("peers")(benchmark_peers)


@app.callback()
def main():
    """Measure this library against the obvious way, both sides in one run."""


if __name__ == "__main__":
    app()
