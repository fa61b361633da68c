"""`memssl models`."""

import json

from memssl_keras.cli.common import app, console, example


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
