"""The gallery of the demo, `demo/gallery/icons.parquet`, and `LICENSES.md` beside it.

    python zoo/experiments/icons_gallery.py .data

reads `.data/package` and `.data/icons/drawn`, which `icons.py` makes, and writes some 10,000 icons of sets that people
use, at 48 px: columns `image`, `name`, `id` (`lucide:house`), `set`, `style` (line, solid, duotone, colour), `licence`,
`category`, `group` (the normalised name: drawings of one thing share it).

Of Lucide every icon is taken; of another set, of each name that enough sets draw, the drawing whose own name is the
shortest, and one in each further style of the names that many sets draw. Brands are left out, see `icon_brands`. Emoji
are those that three hands draw, without skin tones, flags and symbols, spread evenly.
"""

import argparse
import collections
import io
import json
import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from icon_brands import brands, is_brand
from icon_categories import categories
from icon_licences import write_licences
from icon_sets import LICENCES, read_set

SIDE = 48
LEVELS = 16  # of grey: as many as antialiasing needs at this size, at two thirds of the bytes
# Set → how many of these sets have to draw a name, and the style of a name that says none.
SETS = {
    "lucide": (1, "line"),
    "tabler": (4, "line"),
    "material-symbols": (4, "solid"),
    "mdi": (5, "solid"),
    "ph": (4, "line"),
    "heroicons": (3, "line"),
    "bi": (4, "line"),
    "ri": (4, "line"),
    "carbon": (4, "line"),
    "octicon": (3, "line"),
    "fa7-solid": (4, "solid"),
    "fluent": (7, "line"),
    "ion": (5, "solid"),
    "iconoir": (5, "line"),
    "mingcute": (6, "line"),
    "solar": (6, "bold is solid"),
    "feather": (3, "line"),
    "radix-icons": (3, "line"),
}
FURTHER = 9  # sets that draw a name of which further styles are taken
STYLES = {
    "solid": {"fill", "filled", "solid"},
    "duotone": {"duotone", "twotone"},
    "line": {"outline", "line", "linear", "regular"},
}
EMOJI = ("noto", "twemoji", "fluent-emoji-flat")
EMOJI_NAMES = 700
EMOJI_LEFT_OUT = {"Flags", "Symbols"}
TEXTS = ("name", "id", "set", "style", "licence", "category", "group")


def style_of(name, default):
    """The style that an icon's own name says, the more particular first; `default` where it says none."""
    words = set(name.split("-"))
    if default == "bold is solid":  # as Solar has it
        words, default = words | {"fill"} if "bold" in words else words, "line"
    return next((style for style in ("duotone", "solid", "line") if words & STYLES[style]), default)


def chosen(rows, drawers, least, default):
    """All where `least` is 1; else of each name that `least` sets draw the plainest drawing, and one in each further
    style of common ones.

    Args:
        rows: of one set, with `name` and `group`.
        drawers: {group: how many sets draw it}.
        least: of those.
        default: the style of a name that says none.
    """
    if least == 1:
        return [{**row, "style": style_of(row["name"], default)} for row in rows]
    best = {}
    for row in sorted(rows, key=lambda row: (len(row["name"]), "24" not in row["name"], row["name"])):
        group, style = row["group"], style_of(row["name"], default)
        if drawers[group] >= least:
            key = (group, style if drawers[group] >= FURTHER else "")
            best.setdefault(key, {**row, "style": style})
    return list(best.values())


def emoji_names(package, groups):
    """Names of emoji that all hands draw, spread evenly over those without skin tones, flags and symbols."""
    listed = read_set(package, EMOJI[0])["categories"]
    left_out = {name for category in EMOJI_LEFT_OUT for name in listed[category]}
    common = set.intersection(*groups.values())
    order = [name for names in listed.values() for name in names]
    names = [n for n in dict.fromkeys(order) if n in common and n not in left_out and "skin-tone" not in n]
    return {names[step * len(names) // EMOJI_NAMES] for step in range(min(EMOJI_NAMES, len(names)))}


def small(png):
    """The picture at 48 px: a PNG of few greys where it has no colour, else WebP; and whether it has one."""
    picture = Image.open(io.BytesIO(png)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if picture.mode == "L":
        step = 255 / (LEVELS - 1)
        grey = np.round(np.round(np.asarray(picture) / step) * step).astype(np.uint8)
        Image.fromarray(grey).save(out, "PNG", optimize=True)
    else:
        picture.convert("RGB").save(out, "WEBP", quality=80, method=6)
    return out.getvalue(), picture.mode != "L"


def gallery_rows(data):
    """The rows of the gallery, set by set, names in alphabetical order."""
    package = data / "package"
    titles = json.loads((package / "collections.json").read_text(encoding="utf-8"))
    drawn = {prefix: read_drawn(data, prefix) for prefix in (*SETS, *EMOJI)}
    known, category = brands(package, data), categories(package)
    drawers = collections.Counter(group for p in SETS for group in {row["group"] for row in drawn[p]})
    emoji = emoji_names(package, {p: {row["name"] for row in drawn[p]} for p in EMOJI})
    for prefix, rows in drawn.items():
        spdx = titles[prefix]["license"]["spdx"]
        if spdx not in LICENCES:
            raise SystemExit(
                f"{prefix}: its licence is {spdx}; expected one of {', '.join(sorted(LICENCES))}"
            )
        if prefix in EMOJI:
            picked = [{**row, "style": "colour"} for row in rows if row["name"] in emoji]
        else:
            picked = [row for row in rows if not is_brand(prefix, row["name"], row["group"], known)]
            picked = chosen(picked, drawers, *SETS[prefix])
        for row in sorted(picked, key=lambda row: row["name"]):
            image, coloured = small(row["image"]["bytes"])
            yield {
                "image": {"bytes": image, "path": None},
                "name": row["name"],
                "id": f"{prefix}:{row['name']}",
                "set": titles[prefix]["name"],
                "style": "colour" if coloured else row["style"],
                "licence": spdx,
                "category": category(prefix, row["name"], row["group"]),
                "group": row["group"],
            }


def read_drawn(data, prefix):
    path = data / "icons" / "drawn" / f"{prefix}.parquet"
    if not path.exists():
        raise SystemExit(f"{path}: missing; icons.py draws it")
    return pq.read_table(path, columns=["image", "name", "group"]).to_pylist()


def write(rows, path):
    """Rows as Parquet that `datasets` reads as images."""
    features = {"image": {"_type": "Image"}, **{key: {"dtype": "string", "_type": "Value"} for key in TEXTS}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("image", image), *((key, pa.string()) for key in TEXTS)],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd", compression_level=19)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("demo/gallery/icons.parquet"))
    args = parser.parse_args()
    rows = list(gallery_rows(args.data))
    write(rows, args.out)
    write_licences(args.data / "package", rows, args.out.with_name("LICENSES.md"))
    for column in ("set", "style", "licence", "category"):
        print(column, dict(collections.Counter(row[column] for row in rows).most_common()))
    print(f"{args.out}: {len(rows):,} icons, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
