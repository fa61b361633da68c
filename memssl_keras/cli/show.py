"""`memssl models` and `memssl demo`."""

import json
from typing import Annotated

import typer

from memssl_keras.cli.common import app, console, errors_in_words, example


@app.command(epilog=example("memssl models"))
def models():
    """List the bundled models and the recipes."""
    from rich.table import Table

    from memssl_keras.recipes import RECIPES
    from memssl_keras.zoo.registry import info, list_models, resolve

    table = Table("model", "image", "encoder", "embedding", "ONNX", "measured", title="bundled models")
    for name in list_models():
        config, folder = info(name), resolve(name)
        architecture = config["architecture"]
        measured = "nothing yet"
        if (folder / "results.json").is_file():
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            measured = ", ".join(
                f"{entry['data']} {entry['task']} {entry['headline']}: "
                f"{entry['scores'][results['reference']][entry['headline']]:.1%}"
                for entry in results["results"]
            )
        table.add_row(
            name,
            f"{config['preprocessing']['image_size']} px",
            f"ViT {architecture['embed_dim']}×{architecture['depth']}, patch {architecture['patch_size']}",
            str(config["embed_dim"]),
            f"{(folder / 'onnx' / 'model.onnx').stat().st_size / 1e6:.1f} MB",
            measured,
        )
    console.print(table)
    recipes = Table(
        "recipe", "encoder", "image", "views", "memory", "block", "epochs", "batch", title="recipes"
    )
    for name, recipe in RECIPES.items():
        encoder, views = recipe.encoder, recipe.views
        recipes.add_row(
            name,
            f"ViT {encoder['embed_dim']}×{encoder['depth']}, patch {encoder['patch_size']}",
            f"{encoder['image_size']} px",
            f"2×{views.global_size} + {views.local_views}×{views.local_size}",
            f"{recipe.memory_size:,}",
            f"{recipe.block_size:,}",
            str(recipe.epochs),
            str(recipe.batch_size),
        )
    console.print(recipes)


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
