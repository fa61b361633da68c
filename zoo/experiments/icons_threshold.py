"""From which cosine similarity on the demo names an icon: calibrated on the benchmark's screenshots.

    python zoo/experiments/icons_threshold.py .data/icons/benchmark/screen.parquet MODEL... --out icons_threshold.csv

A sample of Lucide in screenshots of 16 to 48 px is looked for in the demo's gallery twice: as it is, and without
Lucide and Feather, as if the icon came from a set that the gallery lacks. An answer is right where the first icon found
has the normalised name of the one asked for. Names that only Lucide has are looked for as well; every answer to them is
wrong. Rows of the CSV: model, where it was looked for, lower end of a range of similarity 0.02 wide, answers in it,
right ones. Printed for each model: the share of right answers by size, among names that are there; and the lowest range
from which on right answers are at least as many as wrong ones in every range above it, both ways together.
"""

import argparse
import collections
import csv
import pathlib

import numpy as np

from memssl_keras.data.sources import column_of, open_source
from memssl_keras.demo.gallery import open_gallery
from memssl_keras.demo.models import open_model
from memssl_keras.demo.vectors import embed_gallery
from memssl_keras.files import cache_folder
from memssl_keras.images import read_image

STEP, FEWEST = 0.02, 10  # width of a range; answers below which a range says nothing
WHERE = ("whole gallery", "without its set")
KIN = {"Lucide", "Feather Icons"}


def answers(model, source, sample):
    """(where, size, whether the name is there, similarity, right) of the first icon found for every query."""
    gallery = open_gallery()
    groups, sets = (column_of(gallery.source, column) for column in ("group", "set"))
    encoder = open_model(model).encoder
    vectors = embed_gallery(
        encoder, gallery.source, cache_folder("demo") / open_model(model).revision
    ).vectors
    asked, shown = column_of(source, "group"), column_of(source, "set")
    kin = np.isin(sets, list(KIN))
    others = set(groups[~kin])
    for size in sorted(name for name in set(shown) if name.startswith("screen")):
        rows = np.flatnonzero(shown == size)[::sample]
        for start in range(0, len(rows), 64):
            part = rows[start : start + 64]
            similarities = encoder.embed([read_image(source[int(row)]) for row in part]) @ vectors.T
            for where in WHERE:
                if where == WHERE[1]:
                    similarities[:, kin] = -1
                first = similarities.argmax(1)
                for row, found, similarity in zip(part, first, similarities.max(1), strict=True):
                    has_name = where == WHERE[0] or asked[row] in others
                    yield where, size, has_name, float(similarity), bool(asked[row] == groups[found])


def threshold(counts):
    """The lower end of the lowest range above which right answers are nowhere outnumbered."""
    lowest = None
    for low in sorted(counts, reverse=True):
        right, number = counts[low]
        if number >= FEWEST and 2 * right < number:
            return lowest
        lowest = low
    return lowest


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("screen", type=pathlib.Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--sample", type=int, default=5, help="Every n-th icon.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("icons_threshold.csv"))
    args = parser.parse_args()
    source, rows = open_source(args.screen), []
    for model in args.models:
        ranges, both, sizes = (
            collections.defaultdict(lambda: [0, 0]),
            collections.defaultdict(lambda: [0, 0]),
            collections.defaultdict(list),
        )
        for where, size, has_name, similarity, right in answers(model, source, args.sample):
            low = round(np.floor(similarity / STEP) * STEP, 2)
            for counts in (ranges[where, low], both[low]):
                counts[0] += right
                counts[1] += 1
            if has_name:
                sizes[where, size].append(right)
        rows += [
            [model, where, low, number, right] for (where, low), (right, number) in sorted(ranges.items())
        ]
        for (where, size), right in sorted(sizes.items()):
            print(f"{model}, {where}, {size}: {np.mean(right):.1%} of {len(right):,} right")
        print(f"{model}: from {threshold(both)} on right answers outnumber wrong ones", flush=True)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("model", "where", "similarity from", "answers", "right"), *rows])


if __name__ == "__main__":
    main()
