"""Icon sets of the npm package `@iconify/json`: which may be trained on, which are held out, and their drawings."""

import json

# SPDX names of licences that allow training and passing on, with or without naming the author.
LICENCES = {
    "MIT", "Apache-2.0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "Unlicense", "CC-BY-3.0", "CC-BY-4.0",
}  # fmt: skip
# Families of sets that no model here has seen, with their older versions, re-issues and what was drawn after them:
# Feather is what Lucide grew from, Sidekickicons are drawn to stand beside Heroicons, Line Awesome redraws Font
# Awesome 5 under the same names.
HELD_OUT = {
    "Lucide": ("lucide", "lucide-lab", "feather"),
    "Tabler": ("tabler",),
    "Phosphor": ("ph",),
    "Carbon": ("carbon",),
    "Heroicons": ("heroicons", "heroicons-outline", "heroicons-solid", "sidekickicons"),
    "Bootstrap Icons": ("bi",),
    "Remix Icon": ("ri",),
    "OpenMoji": ("openmoji",),
    "Font Awesome": (
        "fa", "fa-solid", "fa-regular", "fa-brands", "fa6-solid", "fa6-regular", "fa6-brands", "fa7-solid",
        "fa7-regular", "fa7-brands", "la",
    ),
}  # fmt: skip
# One set of each family stands for it in the benchmark.
BENCHMARK = ("lucide", "tabler", "ph", "carbon", "heroicons", "bi", "ri", "openmoji", "fa7-solid")
# Emoji sets have to respect the codepoints that are held out, see `glyphs.held_out`.
EMOJI = {
    "noto", "noto-v1", "twemoji", "emojione", "emojione-v1", "emojione-monotone", "fluent-emoji",
    "fluent-emoji-flat", "fluent-emoji-high-contrast", "fxemoji", "streamline-emojis", "openmoji",
}  # fmt: skip


def is_held_out(prefix):
    """Whether the set belongs to a family that is held out."""
    return any(prefix in family for family in HELD_OUT.values())


def is_emoji(prefix):
    """Whether a set draws emoji: one of `EMOJI`, or a vendor's of `.data/emoji`, as `icons_train.py` names it."""
    return prefix in EMOJI or prefix.startswith("emoji-")


def read_set(package, prefix):
    """A set's file, as a dict.

    Raises:
        ValueError: where the package has no such set, or its file is damaged.
    """
    path = package / "json" / f"{prefix}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"set {prefix!r}: the package holds no {path.name}") from None
    except ValueError as error:
        raise ValueError(f"set {prefix!r}: {path.name} is not readable as JSON ({error})") from None


def drawings(collection):
    """(name, drawing) of every icon of a set, aliases followed; a drawing is a dict as Iconify's icons are.

    An alias adds its own turns and flips to its parent's. An alias whose parents are missing or go in a circle has
    the drawing None. Icons that the set has withdrawn, which Iconify hides, are left out.
    """
    icons, aliases = collection["icons"], collection.get("aliases", {})
    defaults = {key: collection[key] for key in ("left", "top", "width", "height") if key in collection}

    def resolved(name, depth=0):
        if name in icons:
            return {**defaults, **icons[name]}
        if name not in aliases or depth > 10:
            return None
        alias, parent = aliases[name], resolved(aliases[name].get("parent"), depth + 1)
        if parent is None:
            return None
        turns = (parent.get("rotate", 0) + alias.get("rotate", 0)) % 4
        flips = {key: parent.get(key, False) != alias.get(key, False) for key in ("hFlip", "vFlip")}
        own = {
            key: value for key, value in alias.items() if key in ("left", "top", "width", "height", "hidden")
        }
        return {**parent, **own, **flips, "rotate": turns}

    found = [(name, resolved(name)) for name in [*icons, *aliases]]
    return [(name, drawing) for name, drawing in found if not (drawing or {}).get("hidden")]


def svg(drawing, size):
    """The drawing as a picture file of `size` × `size`, black where it takes the colour of the text around it."""
    left, top = drawing.get("left", 0), drawing.get("top", 0)
    width, height = drawing.get("width", 16), drawing.get("height", 16)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000" '
        f'width="{size}" height="{size}" viewBox="{left} {top} {width} {height}">{drawing["body"]}</svg>'
    )
