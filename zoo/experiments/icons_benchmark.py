"""The benchmark of icons, on sets that no model here has seen, as data sets that `memssl evaluate` reads.

    python zoo/experiments/icons_benchmark.py .data

reads `.data/package` and `.data/icons/drawn` and writes below `.data/icons/benchmark`:

- `all.parquet`: all icons of Lucide and Tabler. `--group group --by set --query lucide --gallery tabler`
- `hands.parquet`: of each set of `icon_sets.BENCHMARK` one drawing of each normalised name, the one whose own name is
  the shortest. Every set can be looked for in every other.
- `screen.parquet`: Lucide as it stands in screenshots at 16, 20, 24, 32 and 48 px (`--query "screen 24"`), and Lucide
  (`--gallery lucide`), `--group name`. Each icon is drawn anew at its size, in one of the colours that can be told
  apart of `icons_screen`, with a margin of a quarter to a half of its side at a random place, as JPEG of quality 85.
- `lowshot/train.parquet` and `test.parquet`: as classes the names that all of `LABELLED` draw and another set besides;
  their five drawings are labelled, those of the other sets are tested.

- `emoji.parquet`: the emoji of `.data/emoji` whose codepoints are held out, see `glyphs.held_out`.

Columns, but for the last: `image`, `set`, `name`, `group` (the normalised name), `licence`, and in `lowshot` `label`.
"""

import argparse
import collections
import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from glyphs import held_out
from icon_sets import BENCHMARK, drawings, read_set
from icons import drawn, png_of, write
from icons_screen import on_screen

SIZES = (16, 20, 24, 32, 48)
LABELLED = ("lucide", "tabler", "ph", "bi", "ri")


def plain(rows):
    """Of each normalised name the drawing whose own name is the shortest, the first of equal ones."""
    best = {}
    for row in sorted(rows, key=lambda row: (len(row["name"]), row["name"])):
        best.setdefault(row["group"], row)
    return list(best.values())


def main_names(package, prefix):
    """A set's names without its aliases."""
    return set(read_set(package, prefix)["icons"])


def screens(package, rows, size, prefix="lucide", seed=0):
    """The icons of a set in screenshots at one size."""
    found, rng = dict(drawings(read_set(package, prefix))), np.random.default_rng([seed, size])
    shown = []
    for row in rows:
        image = on_screen(png_of(drawn(found[row["name"]], size)), size, rng)
        shown.append({**row, "image": {"bytes": image, "path": None}, "set": f"screen {size}"})
    return shown


def classes(rows):
    """Labelled and tested rows of the names that all of `LABELLED` draw and another set besides, with a `label`."""
    drawers = collections.defaultdict(set)
    for row in rows:
        drawers[row["group"]].add(row["set"])
    names = {name for name, sets in drawers.items() if sets > set(LABELLED)}
    chosen = [{**row, "label": row["group"]} for row in rows if row["group"] in names]
    return tuple(
        [row for row in chosen if (row["set"] in LABELLED) == labelled] for labelled in (True, False)
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    args = parser.parse_args()
    package, out = args.data / "package", args.data / "icons" / "benchmark"
    rows = {}
    for prefix in BENCHMARK:
        path, names = args.data / "icons" / "drawn" / f"{prefix}.parquet", main_names(package, prefix)
        if not path.exists():
            raise SystemExit(f"{path}: missing; icons.py draws it")
        rows[prefix] = [row for row in pq.read_table(path).to_pylist() if row["name"] in names]
    write(rows["lucide"] + rows["tabler"], out / "all.parquet")
    hands = [row for prefix in BENCHMARK for row in plain(rows[prefix])]
    write(hands, out / "hands.parquet")
    shown = [row for size in SIZES for row in screens(package, rows["lucide"], size)]
    write(rows["lucide"] + shown, out / "screen.parquet")
    emoji = pq.read_table(next((args.data / "emoji").glob("train*.parquet")))
    kept = pa.array([held_out(codepoint) for codepoint in emoji["codepoint"].to_pylist()])
    pq.write_table(emoji.filter(kept), out / "emoji.parquet")
    columns = ("image", "set", "name", "group", "licence", "label")
    parts = dict(zip(("train", "test"), classes(hands), strict=True))
    for split, part in parts.items():
        write(part, out / "lowshot" / f"{split}.parquet", columns)
    names = len({row["label"] for row in parts["train"]})
    counts = [len(rows["lucide"]), len(rows["tabler"]), len(hands), names, *map(len, parts.values())]
    words = ("icons of Lucide", "of Tabler", "plain ones", "classes", "labelled", "tested")
    print(", ".join(f"{count:,} {word}" for count, word in zip(counts, words, strict=True)))


if __name__ == "__main__":
    main()
