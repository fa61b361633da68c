"""`memssl push` and `memssl models`."""

from typing import Annotated

import typer

from memssl_keras.cli.common import Token, app, console, errors_in_words, example


@app.command(epilog=example("memssl push runs/photos me/massl_vits16.photos --license apache-2.0"))
def push(
    model: Annotated[str, typer.Argument(help="Folder of a model, or a bundled one.")],
    repo_id: Annotated[
        str, typer.Argument(help="Repository on the Hub, OWNER/NAME; made if it is not there.")
    ],
    license: Annotated[str | None, typer.Option(help="Of the weights.")] = None,
    data: Annotated[str | None, typer.Option(help="For the card: the images that it was trained on.")] = None,
    hardware: Annotated[str | None, typer.Option(help="For the card: where it was trained.")] = None,
    limits: Annotated[str | None, typer.Option(help="For the card: what it is known to do badly.")] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository that only you see.")] = False,
    branch: Annotated[str | None, typer.Option(help="Branch to commit to, main by default.")] = None,
    token: Token = None,
):
    """Publish a model: every library's files, compared with each other, and a generated card.

    Scores in the card are those of results.json in the folder, which memssl evaluate writes; what was not measured
    is not in it. Files that do not give the same embeddings are not published.
    """
    with errors_in_words():
        from memssl_keras.zoo.publish import push_to_hub

        facts = {"license": license, "data": data, "hardware": hardware, "limits": limits}
        commit = push_to_hub(
            model,
            repo_id,
            private=private or None,
            token=token,
            revision=branch,
            **{name: text for name, text in facts.items() if text},
        )
    console.print(f"{repo_id}: published as {commit}", highlight=False, soft_wrap=True)


@app.command(epilog=example("memssl models massl_vitn4.cifar10"))
def models(
    name: Annotated[str | None, typer.Argument(help="Show the card of this one.")] = None,
):
    """List the models of the zoo and the recipes, or show a model's card."""
    with errors_in_words():
        if name:
            from rich.markdown import Markdown

            from memssl_keras.zoo.card import card

            console.print(Markdown(card(name)))
        else:
            console.print(_models())
            console.print(_recipes())


_SHORT = {
    "model.safetensors": "keras",
    "transformers.safetensors": "transformers",
    "model.keras": "keras alone",
}


def _models():
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from memssl_keras.weights.config import VARIANTS
    from memssl_keras.zoo.registry import facts, list_models

    short = _SHORT | {f"onnx/{file}": variant for variant, file in VARIANTS.items()}
    narrow = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}
    table = Table(title="models", caption="A dash: not measured.", **narrow)
    for column in ("model", "size", "image", "data", "k-NN", "linear", "MB on disk"):
        table.add_column(column, no_wrap=column != "data", overflow="fold")
    share = lambda value: "–" if value is None else f"{value:.1%}"  # noqa: E731
    for name in list_models():
        known = facts(name)
        table.add_row(
            f"{name}\n{known['where']}",
            f"{known['parameters'] / 1e6:.1f} M" if known["parameters"] else "",
            f"{known['image_size']} px",
            known["data"] or "",
            share(known["knn"]),
            share(known["linear"]),
            "\n".join(f"{part} {size / 1e6:.1f}" for part, size in _parts(known["sizes"], short)),
        )
    return table


def _parts(sizes, short):
    """What of a model can be fetched by itself, and its bytes."""
    from memssl_keras.zoo.memory import PARTS, VECTORS

    parts = [(short[file], size) for file, size in sizes.items() if file in short]
    if VECTORS in sizes:
        parts.append(("memory", sum(sizes.get(file, 0) for file in PARTS)))
    return parts


def _recipes():
    from rich.table import Column, Table

    from memssl_keras.training.recipes import RECIPES

    columns = ("encoder", "views", "memory / block", "epochs", "batch")
    table = Table(Column("recipe", no_wrap=True), *columns, title="recipes")
    for name, recipe in RECIPES.items():
        encoder, views = recipe.encoder, recipe.views
        if recipe.family == "vit":
            what = f"ViT {encoder['embed_dim']}×{encoder['depth']}, patch {encoder['patch_size']}"
        else:
            what = f"ResNet {'-'.join(map(str, encoder.get('blocks', (2, 2, 2, 2))))}, width {encoder.get('width', 64)}"
        table.add_row(
            name,
            what,
            f"2 × {views.global_size} px"
            + (f", {views.local_views} × {views.local_size} px" if views.local_views else ""),
            f"{recipe.memory_size:,} / {recipe.block_size:,}",
            str(recipe.epochs),
            str(recipe.batch_size),
        )
    return table
