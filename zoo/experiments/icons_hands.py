"""The same thing by another hand: every benchmark set looked for in every other, as one table for each model.

    python zoo/experiments/icons_hands.py .data/icons/benchmark/hands.parquet OUT.csv MODEL...

MODEL is what `memssl evaluate` takes. Rows of the CSV: model, query set, gallery set, queries that have a name in the
gallery, size of the gallery, recall@1, recall@5, mAP. The means over all pairs are printed.
"""

import csv
import sys

import numpy as np

from memssl_keras.data.sources import column_of, open_source
from memssl_keras.evaluate.protocols.retrieval import retrieve
from memssl_keras.models import open_embedder

COLUMNS = ("model", "query", "gallery", "queries", "gallery size", "recall@1", "recall@5", "mAP")


def rows_of(model, source):
    """One row for each ordered pair of sets that share a name."""
    embedder = open_embedder(model, threads=1)
    starts = range(0, len(source), 256)
    vectors = np.concatenate(
        [embedder.embed([source[i] for i in range(s, min(s + 256, len(source)))]) for s in starts]
    )
    for pair in pairs_of(vectors, column_of(source, "set"), column_of(source, "group")):
        yield [model, *pair]


def pairs_of(vectors, sets, groups):
    """A query set, a gallery set, how many of either, and the three scores, for each pair that shares a name."""
    for query in sorted(set(sets)):
        for gallery in sorted(set(sets) - {query}):
            asked, searched = sets == query, sets == gallery
            if not np.isin(groups[asked], groups[searched]).any():
                continue
            found = retrieve(vectors[asked], groups[asked], vectors[searched], groups[searched], ks=(1, 5))
            scores = [round(found.scores[name], 4) for name in COLUMNS[-3:]]
            yield [query, gallery, int(found.answered.sum()), int(searched.sum()), *scores]


def main(data, out, *models):
    source, rows = open_source(data), []
    for model in models:
        made = list(rows_of(model, source))
        rows += made
        means = np.array([row[-3:] for row in made]).mean(0)
        print(
            model,
            f"{len(made)} pairs:",
            ", ".join(f"{n} {m:.1%}" for n, m in zip(COLUMNS[-3:], means, strict=True)),
            flush=True,
        )
    with open(out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
