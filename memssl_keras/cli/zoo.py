"""`memssl convert`, `memssl push` and `memssl models`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import app, console, errors_in_words, example

Token = Annotated[
    str | None, typer.Option(help="Access token for the Hub; HF_TOKEN or the stored one by default.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a repository.")]


@app.command(epilog=example("memssl convert dino_deitsmall16_pretrain.pth --out dino --exports fp32"))
def convert(
    source: Annotated[
        str, typer.Argument(help="Checkpoint file, or a repository of timm or transformers on the Hub.")
    ],
    out: Annotated[pathlib.Path, typer.Option(help="Folder to write.")],
    branch: Annotated[str, typer.Option(help="teacher or student, of a training checkpoint.")] = "teacher",
    num_heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads, where the width does not tell them.")
    ] = None,
    exports: Annotated[str, typer.Option(help="Some of transformers, keras, fp32, with commas.")] = "",
    revision: Revision = None,
    token: Token = None,
):
    """Turn a checkpoint of MaSSL, DINO, iBOT, DINOv2, MSN, MoCo v3, timm or transformers into a folder of ours.

    A MaSSL checkpoint keeps head and memory, in the folder training/, so that pretraining can be continued.
    """
    with errors_in_words():
        from memssl_keras.convert import convert as run

        chosen = [name.strip() for name in exports.split(",") if name.strip()]
        options = {"branch": branch, "num_heads": num_heads, "exports": chosen}
        encoder = run(source, out, **options, revision=revision, token=token)
    console.print(
        f"{out}: a ViT of width {encoder.embed_dim}, {encoder.depth} blocks, {encoder.num_heads} heads, patch "
        f"{encoder.patch_size}, for {encoder.image_size} px",
        highlight=False,
        soft_wrap=True,
    )


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

            from memssl_keras.zoo.registry import card

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

    from memssl_keras.export.folder import VARIANTS
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
            "\n".join(
                f"{short[file]} {size / 1e6:.1f}" for file, size in known["sizes"].items() if file in short
            ),
        )
    return table


def _recipes():
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from memssl_keras.recipes import RECIPES

    columns = ("recipe", "encoder", "image", "views", "memory", "block", "epochs", "batch")
    table = Table(title="recipes", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for name, recipe in RECIPES.items():
        encoder, views = recipe.encoder, recipe.views
        table.add_row(
            name,
            f"ViT {encoder['embed_dim']}×{encoder['depth']},\npatch {encoder['patch_size']}",
            f"{encoder['image_size']} px",
            f"2×{views.global_size} +\n{views.local_views}×{views.local_size}",
            f"{recipe.memory_size:,}",
            f"{recipe.block_size:,}",
            str(recipe.epochs),
            str(recipe.batch_size),
        )
    return table
