"""Build emoji.parquet, the gallery of the demo: the same few hundred emoji in three drawing styles.

    python demo/gallery/build.py SOURCE.parquet

SOURCE.parquet has one row per emoji and vendor, with the columns image (struct with `bytes`), codepoint
(hexadecimal, parts joined by "-"), vendor and category and subcategory (class labels whose names stand in
the schema's metadata). What comes out reads with `datasets.load_dataset("parquet", data_files=...)`.

The choice is deterministic. Names come from the Unicode tables of the Python that runs this (14.0 in 3.11,
which built the committed file): a newer Python knows newer emoji and spreads the choice over them too.
"""

import argparse
import io
import json
import unicodedata
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PER_CATEGORY = 43  # of seven categories: 301 emoji, 903 images
SIZE = 64  # the size of two of the three sources: scaling those up would blur them and not the third
STYLES = {"noto": "Noto", "twemoji": "Twemoji", "fluent": "Fluent"}
LEFT_OUT = {
    "Component",  # skin tones and hair: parts, not pictures
    "Flags",  # nearly the same in every style
    "Symbols",  # lettering and arrows
    "time",  # two dozen clock faces
    "other-object",  # coffins, cigarettes, signs
    "person-symbol",  # silhouettes
    "hand-single-finger",  # one of them is rude
}
# These words describe the glyph in Unicode's charts ("black sun with rays"), not the colour of the picture.
CHART_WORDS = ("BLACK ", "WHITE ", "HEAVY ")
SMALL_WORDS = {"a", "and", "at", "for", "in", "of", "on", "or", "over", "the", "with", "without"}


def read_rows(path):
    """Yield each row of the source as a dict, class labels as names."""
    table = pq.read_table(path)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    for row in table.to_pylist():
        for key in ("vendor", "category", "subcategory"):
            row[key] = features[key]["names"][row[key]]
        yield row


def name_emoji(codepoint):
    """Return an English name such as "Slice of Pizza", or None for sequences and what has no fitting name."""
    parts = [part for part in codepoint.split("-") if part != "fe0f"]
    if len(parts) > 1:
        return None
    name = unicodedata.name(chr(int(parts[0], 16)), None)
    if name is None or name.startswith(CHART_WORDS):
        return None
    words = name.removesuffix(" SIGN").removesuffix(" SYMBOL").lower().split()
    return " ".join(word if word in SMALL_WORDS else word.capitalize() for word in words)


def choose(codepoints, count):
    """Choose `count` out of a list, evenly spaced."""
    return [codepoints[step * len(codepoints) // count] for step in range(count)]


def encode(data):
    """Re-encode one picture at SIZE as lossless WebP."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if picture.size != (SIZE, SIZE):
        picture = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def build(source, target):
    """Write the gallery at `target` from the rows of `source`."""
    pictures, categories = defaultdict(dict), defaultdict(list)
    for row in read_rows(source):
        pictures[row["codepoint"]][row["vendor"]] = row
    for codepoint in sorted(pictures):
        row = next(iter(pictures[codepoint].values()))
        complete = pictures[codepoint].keys() == STYLES.keys()
        if complete and name_emoji(codepoint) and not LEFT_OUT & {row["category"], row["subcategory"]}:
            categories[row["category"]].append((row["subcategory"], codepoint))
    rows = [
        {
            "image": {"bytes": encode(pictures[codepoint][vendor]["image"]["bytes"]), "path": None},
            "name": name_emoji(codepoint),
            "codepoint": codepoint,
            "vendor": style,
            "category": category,
        }
        for category in sorted(categories)
        for _, codepoint in choose(sorted(categories[category]), PER_CATEGORY)
        for vendor, style in STYLES.items()
    ]
    texts = ("name", "codepoint", "vendor", "category")
    features = {"image": {"_type": "Image"}, **{key: {"dtype": "string", "_type": "Value"} for key in texts}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("image", image), *((key, pa.string()) for key in texts)],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), target, compression="zstd")
    print(f"{target}: {len(rows)} images, {Path(target).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="Parquet with the columns named above")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "emoji.parquet")
    arguments = parser.parse_args()
    build(arguments.source, arguments.out)
