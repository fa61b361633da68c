"""`memssl demo`."""

from typing import Annotated

import typer

from memssl_keras.cli.common import app, errors_in_words, example


@app.command(epilog=example("memssl demo --port 7860"))
def demo(
    model: Annotated[str | None, typer.Option(help="Bundled model or folder of one.")] = None,
    gallery: Annotated[str | None, typer.Option(help="Parquet gallery in place of the emoji.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The first free one from 7860 by default.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
):
    """Open the retrieval demo in the browser."""
    with errors_in_words():
        try:
            from memssl_keras.demo.app import launch
        except ModuleNotFoundError as error:
            raise ValueError(f"the demo needs {error.name}: pip install 'memssl-keras[demo]'") from None
        launch(model, gallery, host=host, port=port, open_browser=browser)
