"""The pictures that `massl_*.glyphs` is trained on, as one Parquet file, and those that it is measured on.

    python zoo/experiments/glyphs.py .data --openclipart usr/share/openclipart/png

reads `.data/emoji`, `.data/quickdraw` and `.data/fashion_mnist` and writes `.data/glyphs/train.parquet` (column
`image`), `.data/glyphs/held_out/train.parquet`, the emoji of the other half of the codepoints, and
`.data/glyphs/sketches`, labelled sketches that are not among those trained on.

Licences: emoji Noto (Apache-2.0), Twemoji (CC BY 4.0), Fluent (MIT); QuickDraw CC BY 4.0; Fashion-MNIST MIT;
openclipart public domain, as Debian's package `openclipart-png` states.
"""

import argparse
import hashlib
import io
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SEED = "glyphs-0"
PEOPLE = {"1f468", "1f469", "1f9d1"}
JOINERS = {"fe0f", "200d", "2640", "2642", *(f"1f3f{i}" for i in "bcdef")}


def family(codepoint):
    """What stays on one side of the split: a thing or person with all its genders and skin tones, or all flags."""
    parts = codepoint.split("-")
    if parts[0].startswith("1f1") or parts[0] in ("1f3f4", "1f3f3"):
        return "flags"
    bare = [part for part in parts if part not in JOINERS]
    return "-".join([part for part in bare if part not in PEOPLE] or bare[:1])


def held_out(codepoint):
    """Whether a codepoint is of the half that is not trained on, by a fixed draw of its family; no flag is."""
    group = family(codepoint)
    return group != "flags" and hashlib.sha256(f"{SEED}{group}".encode()).digest()[0] % 2 == 1


def encoded(image, size=96):
    """PNG bytes of a picture, on white, its longest side at most `size`."""
    image = image.convert("RGBA")
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    out = io.BytesIO()
    flat.save(out, "PNG")
    return out.getvalue()


def share_of(folder, share, rng):
    """A random share of a data set's training images: PNG bytes, and the rows that were not drawn."""
    table = pq.read_table(next(folder.glob("train*.parquet")))
    order, count = rng.permutation(len(table)), round(share * len(table))
    rows, others = sorted(order[:count]), sorted(order[count:])
    return [row["bytes"] for row in table.column(0).take(rows).to_pylist()], table.take(others)


def write_sketches(table, folder, voters=20, tested=5):
    """Some sketches of each class as `train` and `test`, for k-NN while a model is trained."""
    labels = np.array(table["label"].to_pylist())
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in (("train", slice(voters)), ("test", slice(voters, voters + tested))):
        rows = np.concatenate([np.flatnonzero(labels == label)[part] for label in np.unique(labels)])
        pq.write_table(table.take(rows), folder / f"{split}-00000-of-00001.parquet")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--openclipart", type=pathlib.Path, required=True)
    args, rng = parser.parse_args(), np.random.default_rng(0)
    emoji = pq.read_table(args.data / "emoji" / "train-00000-of-00001.parquet")
    out = np.array([held_out(c) for c in emoji["codepoint"].to_pylist()])
    (args.data / "glyphs" / "held_out").mkdir(parents=True, exist_ok=True)
    pq.write_table(emoji.filter(pa.array(out)), args.data / "glyphs" / "held_out" / "train.parquet")
    # Each emoji three times: there are few of them, and they are what the model is for.
    images = 3 * [row["bytes"] for row in emoji.filter(pa.array(~out))["image"].to_pylist()]
    for path in sorted(args.openclipart.rglob("*.png")):
        try:
            images.append(encoded(Image.open(path)))
        except (OSError, Image.DecompressionBombError) as error:
            print(f"left out: {path.name} ({error})")
    sketches, others = share_of(args.data / "quickdraw", 1 / 4, rng)
    write_sketches(others, args.data / "glyphs" / "sketches")
    images += sketches + share_of(args.data / "fashion_mnist", 1 / 12, rng)[0]
    held = pa.array([{"bytes": image, "path": None} for image in images])
    pq.write_table(pa.table({"image": held}), args.data / "glyphs" / "train.parquet")
    print(
        f"{len(images):,} pictures to train on; {out.sum():,} emoji of {len(set(emoji['codepoint'].to_pylist())):,}"
        f" codepoints held out, {(~out).sum():,} trained on"
    )


if __name__ == "__main__":
    main()
