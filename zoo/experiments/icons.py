"""The icons that `massl_*.icons` is trained on and measured on, drawn from the npm package `@iconify/json`.

    npm pack @iconify/json@2.2.535 && tar xzf iconify-json-2.2.535.tgz     # or leave it to --fetch
    python zoo/experiments/icons.py .data --fetch

writes below `.data/icons`:

- `drawn/SET.parquet`, the icons of one set: columns `image` (64 px, black on white, or in colour), `set`, `name`,
  `group` (the name as `icon_names.normalised` has it), `licence`;
- `licences.csv`, every set with its licence, whether it was taken, and what was drawn, alike or broken;
- `broken.csv`, the icons that could not be drawn, by name and reason.

Sets whose licence is not in `icon_sets.LICENCES` are refused by one line in `licences.csv`. Needs `resvg-py`, which
is no dependency of the package: `pip install resvg-py`. `icons_train.py` chooses from these what is trained on.
"""

import argparse
import csv
import hashlib
import io
import json
import multiprocessing
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from icon_names import Styles, normalised
from icon_sets import LICENCES, drawings, is_held_out, read_set, svg

PACKAGE, SIZE = "@iconify/json@2.2.535", 64
COUNTED = ("icons", "drawn", "alike", "broken")


def fetched(folder):
    """The unpacked npm package below `folder`, brought where it is not there yet."""
    package = folder / "package"
    if not (package / "collections.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", PACKAGE]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"{' '.join(command)}: {run.stderr.strip() or 'failed'}")
        with tarfile.open(folder / run.stdout.split()[-1]) as archive:
            archive.extractall(folder, filter="data")
    return package


def drawn(drawing, size=SIZE):
    """Pixels `(size, size)` or in colour `(size, size, 3)` uint8, on white.

    Raises:
        ValueError: saying why, where there is nothing to see.
    """
    import resvg_py

    if drawing is None:
        raise ValueError("an alias of nothing")
    png = resvg_py.svg_to_bytes(svg(drawing, size), background="#ffffff", skip_system_fonts=True)
    pixels = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    if pixels.shape != (size, size, 3):
        raise ValueError(f"drawn as {pixels.shape[1]} × {pixels.shape[0]} px")
    if drawing.get("hFlip"):
        pixels = pixels[:, ::-1]
    if drawing.get("vFlip"):
        pixels = pixels[::-1]
    pixels = np.rot90(pixels, -drawing.get("rotate", 0))
    if pixels.min() == pixels.max():
        raise ValueError("blank")
    grey = (pixels == pixels[..., :1]).all()
    return np.ascontiguousarray(pixels[..., 0] if grey else pixels)


def png_of(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _by_draw(names, prefix):
    return sorted(names, key=lambda name: hashlib.sha256(f"{prefix}:{name}".encode()).digest())


def sample(groups, prefix, variants=None, names=None):
    """A fixed draw of a set's icons: at most `variants` of a normalised name, and of at most `names` names.

    Args:
        groups: {icon: its normalised name}.
        prefix: The set; part of the seed.
    """
    chosen = set(_by_draw(set(groups.values()), prefix)[:names])
    members = {}
    for icon in _by_draw(groups, prefix):
        members.setdefault(groups[icon], []).append(icon)
    kept = {icon for group in chosen for icon in members[group][:variants]}
    return [icon for icon in groups if icon in kept]


def draw_set(job):
    """Draw one set into a Parquet file; its row of the table of licences and its broken icons."""
    package, prefix, licence, out, limits = job
    collection = read_set(package, prefix)
    styles, seen, rows, broken, alike = Styles.of(collection), set(), [], [], 0
    found = dict(drawings(collection))
    groups = {name: normalised(name, styles) for name in found}
    for name in sample(groups, prefix, *limits):
        drawing = found[name]
        try:
            pixels = drawn(drawing)
        except ValueError as error:
            broken.append((prefix, name, " ".join(str(error).split())))
            continue
        digest = hashlib.sha256(pixels.tobytes()).digest()
        if digest in seen:
            alike += 1
            continue
        seen.add(digest)
        rows.append({"image": {"bytes": png_of(pixels), "path": None}, "name": name, "group": groups[name]})
    for row in rows:
        row |= {"set": prefix, "licence": licence}
    write(rows, out / f"{prefix}.parquet")
    counts = {"icons": len(found), "drawn": len(rows), "alike": alike, "broken": len(broken)}
    return prefix, counts, broken


def write(rows, path, columns=("image", "set", "name", "group", "licence")):
    """Rows as Parquet: the whole file, or none where the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(column, image if column == "image" else pa.string()) for column in columns])
    part = path.with_suffix(".part")
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema), part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_csv(path, rows, columns):
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    part.replace(path)


def licence_rows(collections):
    """A row of every set: prefix, title, author, licence and whether it is taken."""
    rows = []
    for prefix, info in sorted(collections.items()):
        spdx = info["license"].get("spdx") or info["license"].get("title", "")
        taken = "held out" if is_held_out(prefix) else "drawn"
        if spdx not in LICENCES:
            # OpenMoji's CC BY-SA asks that what is made of it be shared alike: measured with, not trained on.
            taken = "held out" if prefix == "openmoji" else "refused: licence"
        rows.append([prefix, info["name"], info["author"]["name"], spdx, taken])
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--fetch", action="store_true", help="Bring the package by npm where DATA lacks it.")
    parser.add_argument("--sets", help="Some sets, with commas; all by default.")
    parser.add_argument(
        "--variants", type=int, help="Of a set that is trained on, drawings of one name; all by default."
    )
    parser.add_argument("--names", type=int, help="Of a set that is trained on, names; all by default.")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    package = fetched(args.data) if args.fetch else args.data / "package"
    if not (package / "collections.json").exists():
        raise SystemExit(f"{package}: no collections.json there; --fetch brings {PACKAGE}")
    collections = json.loads((package / "collections.json").read_text(encoding="utf-8"))
    chosen = args.sets.split(",") if args.sets else sorted(collections)
    if missing := [prefix for prefix in chosen if prefix not in collections]:
        raise SystemExit(f"--sets={','.join(missing)}: the package holds no such set")
    rows, out = {row[0]: row for row in licence_rows(collections) if row[0] in chosen}, args.data / "icons"
    limits = {"drawn": (args.variants, args.names), "held out": (None, None)}
    jobs = [
        (package, p, rows[p][3], out / "drawn", limits[rows[p][4]]) for p in chosen if rows[p][4] in limits
    ]
    jobs.sort(key=lambda job: -collections[job[1]]["total"])
    counts, broken = {}, []
    with multiprocessing.Pool(args.processes) as pool:
        for prefix, count, bad in pool.imap_unordered(draw_set, jobs):
            counts[prefix], broken = count, broken + bad
    numbers = [[*row, *(counts.get(row[0], {}).get(k, 0) for k in COUNTED)] for row in rows.values()]
    write_csv(out / "licences.csv", numbers, ["set", "title", "author", "licence", "taken", *COUNTED])
    write_csv(out / "broken.csv", sorted(broken), ["set", "name", "reason"])
    total = {k: sum(count[k] for count in counts.values()) for k in COUNTED}
    print(
        f"{total['drawn']:,} of {total['icons']:,} icons of {len(counts)} sets drawn, {total['alike']:,} like another "
        f"of their set, {total['broken']:,} broken"
    )


if __name__ == "__main__":
    main()
