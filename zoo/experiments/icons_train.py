"""What `massl_*.icons` is trained on, chosen from the icons that `icons.py` has drawn.

    python zoo/experiments/icons_train.py .data

reads `.data/icons/drawn`, `.data/package`, `.data/emoji` and `.data/quickdraw` and writes `.data/icons/train.parquet`
(columns `image`, `set`, `name`, `group`, `licence`), `.data/icons/sketches`, labelled sketches that are not among
those trained on, and `.data/icons/train.csv`, what was taken of each set and what was not:

- no icon of a set that is held out, nor one that looks like one: after both are cut to their ink and brought to 16 ×
  16 px, the correlation of their pixels is above `ALIKE`. Bare circles, arrows and the like go with them.
- no emoji of a held-out codepoint, nor one whose codepoint is not known; see `glyphs.held_out`.
- of pictures with the same pixels, one.

Of each set of logos, programming or flags, which no other set draws, `--marks` icons are taken by a fixed draw. The
emoji of `.data/emoji` and sketches join them. Sketches have no group.
"""

import argparse
import collections
import hashlib
import io
import json
import pathlib
import sys

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from glyphs import held_out, share_of, write_sketches
from icon_sets import EMOJI, HELD_OUT, is_held_out, read_set
from icons import SIZE, write, write_csv

from memssl_keras.images.trim import trimmed

ALIKE = 0.97
MARKS = ("Logos", "Programming", "Flags / Maps")
REASONS = ("taken", "held-out emoji", "unknown emoji", "same pixels", "like a held-out icon")


def pixels_of(row):
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def outline(pixels, side=16):
    """The ink of a picture, cut to its bounds, as a vector of length 1 and mean 0."""
    ink = (255 - pixels.astype(np.float32)).max(-1) if pixels.ndim == 3 else 255 - pixels.astype(np.float32)
    ys, xs = np.nonzero(ink > 32)
    if not len(ys):
        return np.zeros(side * side, np.float32)
    cut = ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    vector = cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA).ravel()
    vector -= vector.mean()
    return vector / max(np.linalg.norm(vector), 1e-6)


def nearest(vectors, others, block=1024):
    """The largest correlation of each of `vectors` `(N, D)` with any of `others`."""
    others = torch.from_numpy(others).T.contiguous()
    parts = [
        (torch.from_numpy(vectors[i : i + block]) @ others).max(1).values
        for i in range(0, len(vectors), block)
    ]
    return torch.cat(parts).numpy()


def codepoints(package):
    """{name: codepoint} of emoji, from the sets that say it."""
    found = {}
    for prefix in ("openmoji", "fluent-emoji-high-contrast", "fluent-emoji-flat", "twemoji", "noto"):
        collection = read_set(package, prefix)
        found |= {name: code for code, name in collection["chars"].items()}
        found |= {
            alias: found[parent["parent"]]
            for alias, parent in collection.get("aliases", {}).items()
            if parent["parent"] in found
        }
    return found


def refused(row, codes):
    """Why an emoji is not trained on, or None."""
    if row["set"] not in EMOJI:
        return None
    if row["name"] not in codes:
        return "unknown emoji"
    return "held-out emoji" if held_out(codes[row["name"]]) else None


def vendors_emoji(folder, codes):
    """The rows of `.data/emoji` that are trained on; their group is that of the same codepoint in the icon sets."""
    names = {code.replace("-fe0f", ""): name for name, code in codes.items()}
    table = pq.read_table(next(folder.glob("train*.parquet"))).to_pylist()
    licences = (
        "MIT",
        "Apache-2.0",
        "CC-BY-4.0",
    )  # of Fluent, Noto, Twemoji, as the column `vendor` numbers them
    return [
        {
            "image": {"bytes": shrunk(row["image"]["bytes"]), "path": None},
            "set": f"emoji-{row['vendor']}",
            "name": row["codepoint"],
            "group": names.get(row["codepoint"].replace("-fe0f", ""), ""),
            "licence": licences[row["vendor"]],
        }
        for row in table
        if not held_out(row["codepoint"])
    ]


def shrunk(png):
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    flat.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    flat.save(out, "PNG")
    return out.getvalue()


def choose(data, codes):
    """The icons that are trained on, and a count of each set's by what became of them."""
    drawn = data / "icons" / "drawn"
    hidden = [p for family in HELD_OUT.values() for p in family if (drawn / f"{p}.parquet").exists()]
    outlines = [
        outline(pixels_of(row)) for p in hidden for row in pq.read_table(drawn / f"{p}.parquet").to_pylist()
    ]
    outlines = np.stack(outlines)
    seen, taken, counts = set(), [], collections.defaultdict(collections.Counter)
    for path in sorted(drawn.glob("*.parquet")):
        if is_held_out(path.stem):
            continue
        rows = pq.read_table(path).to_pylist()
        pictures = [pixels_of(row) for row in rows]
        alike = nearest(np.stack([outline(picture) for picture in pictures]), outlines)
        for row, picture, likeness in zip(rows, pictures, alike, strict=True):
            digest = hashlib.sha256(picture.tobytes()).digest()
            reason = refused(row, codes) or ("same pixels" if digest in seen else None)
            reason = reason or ("like a held-out icon" if likeness > ALIKE else "taken")
            seen.add(digest)
            counts[path.stem][reason] += 1
            if reason == "taken":
                taken.append(row)
    return taken, counts


def thinned(rows, categories, most):
    """The rows, but at most `most` of each set whose category is of `MARKS`."""
    order = sorted(
        range(len(rows)),
        key=lambda i: hashlib.sha256(f"{rows[i]['set']}:{rows[i]['name']}".encode()).digest(),
    )
    counts, kept = collections.Counter(), set()
    for i in order:
        prefix = rows[i]["set"]
        counts[prefix] += 1
        if categories.get(prefix) not in MARKS or counts[prefix] <= most:
            kept.add(i)
    return [row for i, row in enumerate(rows) if i in kept]


def sized(rows, size):
    """At most `size` of the rows by a fixed draw: those whose name one set alone draws go first."""
    drawers = collections.defaultdict(set)
    for row in rows:
        drawers[row["group"]].add(row["set"])
    alone = np.array([bool(row["group"]) and len(drawers[row["group"]]) < 2 for row in rows])
    order = np.random.default_rng(0).permutation(len(rows))
    kept = sorted(order[np.argsort(alone[order], kind="stable")][:size])
    return [rows[i] for i in kept]


def without_margin(row, margin):
    """The row, its picture as the encoder's preprocessing trims it."""
    out = io.BytesIO()
    picture = Image.open(io.BytesIO(row["image"]["bytes"]))
    square = trimmed(picture.convert("RGB"), margin)
    (square.convert("L") if picture.mode == "L" else square).save(out, "PNG")
    return {**row, "image": {"bytes": out.getvalue(), "path": None}}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument(
        "--marks", type=int, default=300, help="Icons of a set of logos, programming or flags."
    )
    parser.add_argument(
        "--size",
        type=int,
        help="Rows at most, by a fixed draw: those whose name one set alone draws are left out first; all by default.",
    )
    parser.add_argument("--trim", type=float, default=0.08, help="Margin left around a drawing, as a share.")
    args, rng = parser.parse_args(), np.random.default_rng(0)
    torch.set_num_threads(1)
    codes, out = codepoints(args.data / "package"), args.data / "icons"
    rows, counts = choose(args.data, codes)
    sets = json.loads((args.data / "package" / "collections.json").read_text(encoding="utf-8"))
    rows = thinned(rows, {prefix: info.get("category") for prefix, info in sets.items()}, args.marks)
    emoji = vendors_emoji(args.data / "emoji", codes)
    sketches, others = share_of(args.data / "quickdraw", 1 / 4, rng)
    write_sketches(others, out / "sketches")
    rows += emoji + [
        {
            "image": {"bytes": png, "path": None},
            "set": "quickdraw",
            "name": "",
            "group": "",
            "licence": "CC-BY-4.0",
        }
        for png in sketches
    ]
    rows = [without_margin(row, args.trim) for row in sized(rows, args.size)]
    write(rows, out / "train.parquet")
    lines = [[prefix, *(count[reason] for reason in REASONS)] for prefix, count in sorted(counts.items())]
    write_csv(out / "train.csv", lines, ["set", *REASONS])
    total = sum(counts.values(), collections.Counter())
    groups = collections.Counter(row["group"] for row in rows if row["group"])
    print(", ".join(f"{reason}: {total[reason]:,}" for reason in REASONS))
    print(
        f"{len(rows):,} pictures to train on, with {len(emoji):,} emoji and {len(sketches):,} sketches; "
        f"{sum(n for n in groups.values() if n > 1):,} have a partner among {len(groups):,} names"
    )


if __name__ == "__main__":
    main()
