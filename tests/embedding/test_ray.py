"""Embedding by Ray: the rows of the local engine, also when an actor is killed, and going on."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest
from onnx_folder import write_encoder
from PIL import Image
from small_models import pictures

from memssl_keras.data.sources import open_source
from memssl_keras.embedding.embed import embed
from memssl_keras.embedding.index import open_index
from memssl_keras.embedding.ray_engine import embed_with_ray
from memssl_keras.embedding.run import write_embeddings
from memssl_keras.export import OnnxEncoder

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="Ray is not installed")
COUNT, CHUNK = 60, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(pictures(COUNT)):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    (folder / "007.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def local(model, folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "local.parquet"
    encoder = OnnxEncoder.from_pretrained(model, threads=1)
    failures = write_embeddings(encoder, open_source(folder), path, "m", chunk=CHUNK)
    return path, [(position, str(error)) for position, error in failures]


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, once for all tests: starting it takes seconds."""
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield
    ray.shutdown()


def _embed(model, folder, out, **changes):
    encoder = OnnxEncoder.from_pretrained(model)
    about = {"revision": encoder.revision(), "image_size": encoder.preprocessing.image_size}
    return embed_with_ray(
        {"data": str(folder)},
        {"name_or_folder": str(model), "threads": 1},
        {"path": str(out), "model": "m", "chunk": CHUNK, **about},
        embed_dim=24,
        **changes,
    )


def test_two_actors_write_the_rows_of_the_local_engine(cluster, model, folder, local, tmp_path):
    done = []
    failures = _embed(model, folder, tmp_path / "ray.parquet", advance=done.append)
    assert pq.read_table(tmp_path / "ray.parquet").equals(pq.read_table(local[0]), check_metadata=True)
    assert [(position, str(error)) for position, error in failures] == local[1] and len(failures) == 1
    assert ray.is_initialized()  # it was there before and is left running
    assert sum(done) == COUNT and [path.name for path in tmp_path.iterdir()] == ["ray.parquet"]


def test_the_file_is_written_into_an_index(cluster, model, folder, tmp_path):
    if not importlib.util.find_spec("pymilvus"):
        pytest.skip("the extra `index` is not installed")
    uri = str(tmp_path / "photos.db")
    for engine in ("ray", "local"):  # the same rows, whoever computed them
        done = embed([str(folder)], str(model), tmp_path / f"{engine}.parquet", engine=engine, to=uri)
        assert done.written[:4] == (
            (COUNT - 1, 0, 0, COUNT - 1) if engine == "ray" else (0, COUNT - 1, 0, COUNT - 1)
        )
    with open_index(uri) as index:
        assert {row["image"] for row in index.rows()} == set(open_source(folder).ids) - {
            str(folder / "007.png")
        }


def _actors():
    """Process ids of the pool."""
    shown = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in shown.splitlines() if "ray::" in line and "Embedder" in line]


def test_an_actor_that_is_killed_is_replaced(cluster, model, folder, local, tmp_path):
    out, killed = tmp_path / "ray.parquet", []

    def kill():
        parts = out.with_name(f".{out.name}.parts")
        while not killed:
            if len(list(parts.glob("*.parquet"))) >= 1 and (actors := _actors()):
                os.kill(actors[0], signal.SIGKILL)
                killed.append(actors[0])
            time.sleep(0.02)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    failures = _embed(model, folder, out, advance=lambda count: time.sleep(0.2))
    assert killed, "the run was over before an actor could be killed"
    assert pq.read_table(out).equals(pq.read_table(local[0])) and len(failures) == 1


def test_chunks_that_are_done_are_kept(cluster, model, folder, local, tmp_path):
    class Stop(Exception):
        pass

    def stop(count):
        if len(list(tmp_path.glob(".ray.parquet.parts/*.parquet"))) >= 3:
            raise Stop

    with pytest.raises(Stop):
        _embed(model, folder, tmp_path / "ray.parquet", advance=stop)
    parts = sorted(tmp_path.glob(".ray.parquet.parts/*.parquet"))
    before = {path: path.stat().st_mtime_ns for path in parts}
    kept = []

    def look(count):  # called first with what is done already
        kept.append(count)
        assert {path: path.stat().st_mtime_ns for path in before} == before

    encoder = OnnxEncoder.from_pretrained(model, threads=1)  # by the local engine: the chunks are the same
    write_embeddings(encoder, open_source(folder), tmp_path / "ray.parquet", "m", 32, look, chunk=CHUNK)
    assert kept[0] >= 3 * CHUNK
    assert pq.read_table(tmp_path / "ray.parquet").equals(pq.read_table(local[0]))


def test_an_address_without_a_cluster_is_named(model, folder, tmp_path):
    code = (
        "from memssl_keras.embedding.ray_engine import embed_with_ray\n"
        f"embed_with_ray({{'data': {str(folder)!r}}}, {{}}, {{'path': {str(tmp_path / 'o.parquet')!r}, 'model': 'm'}}, "
        "embed_dim=24, address='127.0.0.1:1')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert "ValueError: address='127.0.0.1:1': no Ray cluster answers there" in said
