"""`memssl models`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.card_text import narrow_tables
from memssl_keras.cli.common import Json, app, errors_in_words, example
from memssl_keras.cli.output import console, say, say_json, table

_SHORT = {
    "model.safetensors": "keras",
    "transformers.safetensors": "transformers",
    "model.keras": "keras alone",
}


@app.command(epilog=example("memssl models massl_vitn4.cifar10"))
def models(
    name: Annotated[
        str | None, typer.Argument(help="Model whose card, or recipe whose settings, to show.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List bundled models and recipes, or show the card of a model or the settings of a recipe."""
    with errors_in_words():
        from memssl_keras.training.recipes import RECIPES, get_recipe

        if name in RECIPES:
            _show_recipe(RECIPES[name], as_json)
        elif name == "adapt" or _meant(name, RECIPES):
            get_recipe(str(name))  # which says what it depends on, or which one is meant
        elif name:
            _show_card(name, as_json)
        elif as_json:
            from memssl_keras.zoo.registry import facts, list_models

            say_json({"models": {model: facts(model) for model in list_models()}, "recipes": list(RECIPES)})
        else:
            _list_models()
            _list_recipes(RECIPES)


def _meant(name, recipes):
    """Whether a name is none of a model and nearly that of a recipe."""
    import difflib

    from memssl_keras.zoo.registry import list_models

    if not name or name in list_models() or "/" in name or pathlib.Path(name).exists():
        return False
    nearest = difflib.get_close_matches(name, [*list_models(), *recipes], 1)
    return bool(nearest) and nearest[0] in recipes


def _show_card(name, as_json):
    from rich.markdown import Markdown

    from memssl_keras.zoo.card import card
    from memssl_keras.zoo.registry import facts

    if as_json:
        say_json(facts(name))
    elif console.is_terminal:
        console.print(Markdown(narrow_tables(card(name), console.width)))
    else:
        for line in card(name).splitlines():
            say(line)


def _show_recipe(recipe, as_json):
    import dataclasses

    settings = dataclasses.asdict(recipe)
    if as_json:
        say_json(settings)
        return
    say(f"{recipe.name}: {recipe.purpose}")
    table(["setting", "value"], settings.items())
    say(f"Use: memssl pretrain DATA --recipe {recipe.name} --out runs/{recipe.name}")


def _list_models():
    from memssl_keras.weights.config import VARIANTS
    from memssl_keras.zoo.registry import facts, list_models

    short = _SHORT | {f"onnx/{file}": variant for variant, file in VARIANTS.items()}
    rows = []
    for name in list_models():
        known = facts(name)
        size = f"{known['parameters'] / 1e6:.1f} M" if known["parameters"] else ""
        parts = "\n".join(f"{part} {count / 1e6:.1f}" for part, count in _parts(known["sizes"], short))
        rows.append([f"{name}\n{known['where']}", size, f"{known['image_size']} px", _scores(known), parts])
    table(["model", "size", "image", "measured on", "MB on disk"], rows, title="models")


def _scores(known):
    """What was measured, with the data that it was measured on; scores of different data do not compare."""
    lines = [f"{data}: {score}" for data, score in known["scores"]]
    return "\n".join(lines) or "–"


def _parts(sizes, short):
    """What of a model can be fetched by itself, and its bytes."""
    from memssl_keras.zoo.memory import PARTS, VECTORS

    parts = [(short[file], size) for file, size in sizes.items() if file in short]
    if VECTORS in sizes:
        parts.append(("memory", sum(sizes.get(file, 0) for file in PARTS)))
    return parts


def _list_recipes(recipes):
    from memssl_keras.training.adapt import PURPOSE

    rows = [[name, recipe.purpose, recipe.epochs, recipe.batch_size] for name, recipe in recipes.items()]
    rows.insert(0, ["adapt", PURPOSE, "by pictures", "by pictures"])
    table(["recipe", "for", "epochs", "batch"], rows, title="recipes")
