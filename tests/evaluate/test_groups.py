"""Retrieval by a column of groups: rows without one, classes by name, and several image columns."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_images import Counting, coloured, encoded

from memssl_keras.evaluate.data.groups import open_groups
from memssl_keras.evaluate.run import evaluate

ORIGINS = {"info": {"features": {"origin": {"names": ["web", "camera"], "_type": "ClassLabel"}}}}


@pytest.fixture
def path(tmp_path):
    """Two image columns, of which `front` shows the thing; two rows show nothing known, one is of no origin."""
    front = coloured([0, 1, 0, 1, 2, 3, 2])
    columns = {
        "front": [encoded(image) for image in front],
        "back": [encoded(255 - image) for image in coloured([3, 2, 1, 0, 1, 0, 1])],
        "thing": [0, 1, 0, 1, -1, -1, 2],
        "origin": [0, 0, 1, 1, 1, 1, None],
    }
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(ORIGINS)})
    pq.write_table(table, tmp_path / "two.parquet")
    return tmp_path / "two.parquet"


def test_rows_without_a_group_or_an_origin_are_left_out(path):
    asked = open_groups(path, "thing", "origin", "web", "camera", "front")
    assert asked.queries.rows.tolist() == [0, 1] and asked.gallery.rows.tolist() == [2, 3]
    assert asked.query_groups.tolist() == asked.gallery_groups.tolist()
    assert asked.notes == ["2 images without thing are skipped"]
    with pytest.raises(ValueError, match="column 'origin' has no 'print'; it holds camera, web"):
        open_groups(path, "thing", "origin", "print", "camera", "front")


def test_the_image_column_is_that_which_was_chosen(path):
    settings = {"group": "thing", "by": "origin", "query": "web", "galleries": ["camera"]}
    embedder = Counting().embedder
    with pytest.raises(ValueError, match="image columns are front, back .* expected exactly one"):
        evaluate([embedder], [path], ["retrieval"], **settings)
    scores = {}
    for column in ("front", "back"):
        found = evaluate([embedder], [path], ["retrieval"], column=column, **settings)
        scores[column] = found[0].outcomes[embedder.name].scores["recall@1"]
    assert scores == {"front": 1.0, "back": 0.0}
    found = evaluate([embedder], [path], ["retrieval"], column="front", distractors=path, **settings)
    assert "and 7 distractors" in found[0].outcomes[embedder.name].protocol


def test_pairs_are_of_no_unlabelled_pictures():
    from memssl_keras.data.pairs import Paired

    paired = Paired(list(range(5)), np.array([-1, 0, -1, 0, 1]), probability=1.0)
    rng = np.random.default_rng(0)
    assert [paired.partner(i, rng) for i in range(5)] == [None, 3, None, 1, None]
