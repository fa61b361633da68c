"""An index in a folder and on a server process over its network protocol: the same tests for both."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from embedding_files import unit_vectors, write_rows
from milvus_process import ServerProcess

from memssl_keras.embedding.index import open_index
from memssl_keras.embedding.milvus import in_words, parse_address
from memssl_keras.embedding.write_index import check_index, write_index

if not importlib.util.find_spec("pymilvus"):
    pytest.skip("the extra `index` is not installed", allow_module_level=True)

WRITE = """
import os, sys
from memssl_keras.embedding import write_index as writing
writing.BATCH = 50
def begin(total):
    def advance(count):
        print(count, flush=True)
    return advance
writing.write_index(sys.argv[1], sys.argv[2], begin)
"""


class Folder:
    """An index in a folder, as `ServerProcess` has it on one."""

    def __init__(self, folder):
        self.folder, self.uri = folder, str(folder)

    def start(self):
        """Nothing runs."""

    def stop(self, how=None):
        """Nothing runs."""


@pytest.fixture(
    params=[Folder, pytest.param(ServerProcess, marks=pytest.mark.slow)], ids=["folder", "server"]
)
def engine(request, tmp_path):
    engine = request.param(tmp_path / "photos.db")
    engine.start()
    yield engine
    engine.stop(signal.SIGKILL)


@pytest.fixture
def file(tmp_path):
    columns = {
        "label": [i % 4 for i in range(40)],
        "city": ["Rome", None] * 20,
        "parts": [[i, 1] for i in range(40)],
    }
    return write_rows(tmp_path / "photos.parquet", unit_vectors(40), **columns)


def states(uri):
    """Key → state of all rows, each key once."""
    with open_index(uri) as index:
        keys = [row["image_hash"] for row in index.rows()]
        assert len(keys) == len(set(keys)) == len(index)
        return index.states(keys)


def test_the_nearest_are_those_of_brute_force(engine, file):
    assert write_index(file, engine.uri)[:4] == (40, 0, 0, 40)
    vectors, queries = unit_vectors(40), unit_vectors(3, seed=1)
    engine.stop()
    engine.start()
    with open_index(engine.uri) as index:
        assert (index.about.model, index.about.revision, index.embed_dim, len(index)) == ("m", "r", 16, 40)
        found = index.search(queries, 7)
        stored = {row["image"]: row["embedding"] for row in index.rows()}
    for query, hits in zip(queries, found, strict=True):
        similarities = vectors @ query
        order = np.argsort(-similarities)[:7]
        assert [hit.image for hit in hits] == [f"{i}.jpg" for i in order]
        np.testing.assert_allclose([hit.similarity for hit in hits], similarities[order], atol=1e-5)
        assert hits[0].columns == {
            "label": order[0] % 4,
            "city": ["Rome", None][order[0] % 2],
            "parts": [order[0], 1],
        }
    np.testing.assert_allclose([stored[f"{i}.jpg"] for i in range(40)], vectors, atol=1e-6)


def test_writing_again_changes_nothing_and_what_changed_is_replaced(engine, file, tmp_path):
    write_index(file, engine.uri)
    before = states(engine.uri)
    assert write_index(file, engine.uri)[:4] == (0, 40, 0, 40)
    assert states(engine.uri) == before
    columns = {
        "label": [9] + [i % 4 for i in range(1, 40)],
        "city": ["Rome", None] * 20,
        "parts": [[i, 1] for i in range(40)],
    }
    names = [f"{i}.jpg" for i in range(39)] + ["moved/39.jpg"]
    write_rows(file, unit_vectors(40), names=names, **columns)
    assert write_index(file, engine.uri)[:4] == (2, 38, 0, 40)
    with open_index(engine.uri) as index:
        (hits,) = index.search(unit_vectors(40)[39:], 1)
        assert hits[0].image == "moved/39.jpg" and hits[0].path == "moved/39.jpg"
        assert [hit.image for hit in index.search(unit_vectors(40)[:1], 5, "label == 9")[0]] == ["0.jpg"]


def test_a_picture_is_stored_once(engine, tmp_path):
    contents = ["a", "b", "a", "c", "b", "a"]
    file = write_rows(tmp_path / "copies.parquet", unit_vectors(6), contents=contents)
    assert write_index(file, engine.uri)[:4] == (3, 0, 3, 3)
    assert write_index(file, engine.uri)[:4] == (0, 3, 3, 3)
    with open_index(engine.uri) as index:
        assert {row["image"] for row in index.rows()} == {"0.jpg", "1.jpg", "3.jpg"}


def test_columns_are_filters(engine, file):
    write_index(file, engine.uri)
    vectors = unit_vectors(40)
    with open_index(engine.uri) as index:
        for where, expected in (
            ("label == 3", [i for i in range(40) if i % 4 == 3]),
            ('city == "Rome" and label in [0, 1]', [i for i in range(40) if i % 4 == 0]),
            ("city is null", list(range(1, 40, 2))),
            ("label > 7", []),
        ):
            (hits,) = index.search(vectors[:1], 40, where)
            assert sorted(int(hit.image.split(".")[0]) for hit in hits) == expected, where
        with pytest.raises(
            ValueError, match="filter='lable == 3' cannot be .* its columns are image, label, city, parts"
        ):
            index.search(vectors[:1], 3, "lable == 3")
        with pytest.raises(ValueError, match="k=0: expected 1 to 16,384"):
            index.search(vectors[:1], 0)
        with pytest.raises(ValueError, match="the index holds vectors of width 16"):
            index.search(vectors[:1, :8], 3)


def test_columns_that_differ_are_named(engine, file, tmp_path):
    write_index(file, engine.uri)
    other = write_rows(
        tmp_path / "b.parquet", unit_vectors(1, seed=2), contents=["new"], colour=["red"], label=[7]
    )
    assert write_index(other, engine.uri).notes == [
        "columns not kept, as the index was made without them: colour"
    ]
    with open_index(engine.uri) as index:
        (hit,) = index.search(unit_vectors(1, seed=2), 1)[0]
        assert hit.columns == {"label": 7, "city": None, "parts": None}
    wrong = write_rows(tmp_path / "c.parquet", unit_vectors(1), label=["seven"])
    with pytest.raises(ValueError, match="columns are of another type: label is VARCHAR, there INT64"):
        write_index(wrong, engine.uri)
    assert len(states(engine.uri)) == 41


def test_another_models_vectors_are_refused(engine, file, tmp_path):
    write_index(file, engine.uri)
    before = states(engine.uri)
    for changed, width in (({"model": "m", "revision": "s"}, 16), ({"model": "n", "revision": "r2"}, 8)):
        other = write_rows(tmp_path / "other.parquet", unit_vectors(3, width), **changed)
        words = f"its vectors are of m at revision r, these of {changed['model']} at {changed['revision']}; vectors"
        with pytest.raises(ValueError, match=words):
            write_index(other, engine.uri)
        with pytest.raises(ValueError, match=words):
            check_index(engine.uri, changed["model"], changed["revision"], width)
        write_index(other, f"{engine.uri}#width_{width}")  # beside it there is room
    check_index(engine.uri, "m", "r", 16)
    assert states(engine.uri) == before


@pytest.mark.slow
def test_a_writer_that_is_killed_loses_and_doubles_nothing(engine, tmp_path):
    file = write_rows(tmp_path / "many.parquet", unit_vectors(2000), label=list(range(2000)))
    for steps in (3, 11):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE, file, engine.uri], stdout=subprocess.PIPE, text=True
        )
        for _ in range(steps):
            assert writer.stdout.readline().strip() == "50"
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        assert len(states(engine.uri)) >= 50 * steps
    written = write_index(file, engine.uri)
    assert written.total == written.new + written.known == 2000 and written.known >= 550
    assert sorted(row["label"] for row in rows(engine.uri)) == list(range(2000))
    assert write_index(file, engine.uri).new == 0


def test_an_engine_that_does_not_answer_in_time_is_named():
    import grpc

    with socket.create_server(("127.0.0.1", 0)) as silent:
        channel = grpc.insecure_channel(f"127.0.0.1:{silent.getsockname()[1]}")
        words = pytest.raises(ValueError, match=r"index='a\.db': cannot be loaded \(Deadline Exceeded")
        with words, in_words(parse_address("a.db"), "cannot be loaded"):
            channel.unary_unary("/load")(b"", timeout=0.1)
        channel.close()


def rows(uri):
    with open_index(uri) as index:
        return list(index.rows())


@pytest.mark.slow
def test_a_server_that_dies_is_named_and_writing_resumes(tmp_path):
    engine = ServerProcess(tmp_path / "photos.db").start()
    file = write_rows(tmp_path / "many.parquet", unit_vectors(5000), label=list(range(5000)))

    def begin(total):
        def advance(count):
            if done.append(count) or len(done) == 2:
                engine.stop(signal.SIGKILL)

        return advance

    done = []
    with pytest.raises(
        ValueError, match="writing failed; what was written is kept, and the same command resumes"
    ):
        write_index(file, engine.uri, begin)
    with pytest.raises(ValueError, match=f"index='{engine.uri}': no Milvus server answers"):
        write_index(file, engine.uri)
    engine.start()
    written = write_index(file, engine.uri)
    assert written[:4] == (3000, 2000, 0, 5000)
    assert sorted(row["label"] for row in rows(engine.uri)) == list(range(5000))
    engine.stop(signal.SIGKILL)


HOLD = "import sys, time; from memssl_keras.embedding.index import open_index\n" \
    "with open_index(sys.argv[1]): print('open', flush=True); time.sleep(60)"  # fmt: skip


def test_a_folder_that_is_open_elsewhere_is_named(file, tmp_path):
    uri = str(tmp_path / "photos.db")
    write_index(file, uri)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, uri], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "open\n"
    words = "another process has it open; wait for it to end, or let many use it through `milvus-lite server"
    for attempt in (lambda: write_index(file, uri), lambda: states(uri)):
        with pytest.raises(ValueError, match=words):
            attempt()
    holder.kill()
    holder.wait()
    assert len(states(uri)) == 40


@pytest.mark.parametrize("part", ["manifest.json", "schema.json", "*.parquet"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_folder_is_named(file, tmp_path, part, how):
    uri = str(tmp_path / "photos.db")
    write_index(file, uri)
    (broken,) = (tmp_path / "photos.db").rglob(part)
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2]) if how == "cut" else broken.unlink()
    with pytest.raises(
        ValueError, match=r"index='.*photos.db': damaged \(.*\); move it away and run `memssl index`"
    ):
        states(uri)
    with pytest.raises(ValueError, match="damaged"):
        write_index(file, uri)
    broken.write_bytes(content)
    assert len(states(uri)) == 40  # nothing was taken away meanwhile


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_graph_that_is_damaged_is_made_again_or_named(file, tmp_path, how):
    uri = str(tmp_path / "photos.db")
    write_index(file, uri)
    (broken,) = (tmp_path / "photos.db").rglob("*.idx")
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2]) if how == "cut" else broken.unlink()
    if how == "cut":
        with pytest.raises(ValueError, match="damaged"):
            states(uri)
    else:
        assert len(states(uri)) == 40


@pytest.mark.parametrize(
    "uri, words",
    [
        ("photos", "expected a folder NAME.db on this machine or http://HOST:PORT"),
        ("ftp://there", "expected a folder NAME.db"),
        ("photos.db#no-name", "the collection 'no-name'; expected letters, digits and _"),
        ("none.db", "no such index; `memssl index FILE --to URI` makes one"),
        ("file.db", "is a file; expected a folder"),
        ("other.db", "is a folder of something else"),
        ("http://127.0.0.1:9", "no Milvus server answers at http://127.0.0.1:9"),
    ],
)
def test_what_is_no_index_is_named(tmp_path, monkeypatch, uri, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("memssl_keras.embedding.milvus.PATIENCE", 1.0)
    (tmp_path / "file.db").write_text("text")
    (tmp_path / "other.db").mkdir()
    (tmp_path / "other.db" / "notes.txt").write_text("text")
    with pytest.raises(ValueError, match=f"^index='{uri}'.*{words}"):
        states(uri)
    assert {path.name for path in tmp_path.iterdir()} == {"file.db", "other.db"}


def test_a_place_that_cannot_be_made_is_named(file, tmp_path):
    with pytest.raises(ValueError, match=r"index='.*nowhere/photos.db': the folder .*nowhere does not exist"):
        write_index(file, str(tmp_path / "nowhere" / "photos.db"))


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ValueError, match=r"pymilvus is not installed; pip install 'memssl-keras\[index\]'"):
        states(str(tmp_path / "photos.db"))


def test_logging_of_the_process_is_left_alone(tmp_path):
    code = (
        "import logging, sys; logging.basicConfig(filename='log.txt', level='INFO')\n"
        "from memssl_keras.embedding.index import open_index\n"
        "try:\n    with open_index('http://127.0.0.1:9'): pass\n"
        "except ValueError as error: logging.info('said: %s', error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "said: index='http://127.0.0.1:9': no Milvus" in (tmp_path / "log.txt").read_text()
    assert (tmp_path / "log.txt").read_text().count("\n") == 1 and done.stderr == ""


def test_a_collection_of_another_program_is_refused(engine, file):
    write_index(file, engine.uri)
    with open_index(engine.uri) as index:
        index.client.create_collection("theirs", dimension=4)
    with pytest.raises(ValueError, match="the collection 'theirs' is not one of memssl's"):
        states(f"{engine.uri}#theirs")
    with pytest.raises(ValueError, match="no collection 'mine'; there are: .*images"):
        states(f"{engine.uri}#mine")


def test_a_vector_that_is_not_of_unit_length_is_refused(file, tmp_path):
    write_rows(file, 2 * unit_vectors(3))
    with pytest.raises(ValueError, match=r"0.jpg: its vector has length 2; expected 1"):
        write_index(file, str(tmp_path / "photos.db"))
