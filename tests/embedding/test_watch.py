"""A folder that is watched: what arrives is embedded once, whole, and found."""

import numpy as np
import pytest
from onnx_folder import write_encoder
from PIL import Image
from small_models import pictures

from memssl_keras.embedding.table import nearest, read_embeddings
from memssl_keras.embedding.watch import watch
from memssl_keras.export import OnnxEncoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return OnnxEncoder.from_pretrained(write_encoder(tmp_path_factory.mktemp("model")), threads=1)


def _script(*steps):
    """A `stop` that does one step at each look, and ends after the last and two looks more."""
    remaining = [*steps, *[lambda: None] * 3]

    def stop():
        if not remaining:
            return True
        remaining.pop(0)()
        return False

    return stop


def test_what_arrives_is_embedded_once_and_found(tmp_path, encoder):
    folder, out, said = tmp_path / "in", tmp_path / "index", []
    folder.mkdir()
    images = pictures(4)

    def save(i):
        return lambda: Image.fromarray(images[i]).save(folder / f"{i}.png")

    def half():
        whole = (folder / "1.png").read_bytes()
        (folder / "2.png").write_bytes(whole[: len(whole) // 2])

    def broken():
        (folder / "bad.png").write_bytes(b"no picture")

    idle = lambda: None  # noqa: E731
    steps = [save(0), save(1), idle, idle, half, save(2), idle, idle, broken, idle, idle]
    watch(encoder, folder, out, "m", interval=0, say=said.append, stop=_script(*steps))
    watch(encoder, folder, out, "m", interval=0, say=said.append, stop=_script(idle, save(3), idle, idle))
    stored = read_embeddings(out)
    assert sorted(stored.images) == [str(folder / f"{i}.png") for i in range(4)]
    for i, found in enumerate(nearest(stored, encoder.embed(images), 1)):
        assert stored.images[found[0][0]].endswith(f"{i}.png")
    assert np.isfinite(stored.vectors).all()
    assert sorted(file.name for file in out.glob("*.parquet"))[0] == "000001.parquet"
    (out / "000001.parquet").unlink()  # what is embedded anew overwrites no other file
    files = set(out.glob("*.parquet"))
    watch(encoder, folder, out, "m", interval=0, say=said.append, stop=_script(idle, idle))
    assert files < set(out.glob("*.parquet"))
    assert sorted(read_embeddings(out).images) == [str(folder / f"{i}.png") for i in range(4)]
    assert any("bad.png" in line and line.startswith("skipped") for line in said)


def test_what_is_replaced_or_deleted_does_not_stay(tmp_path, encoder):
    folder, out, said = tmp_path / "in", tmp_path / "index", []
    folder.mkdir()
    images = pictures(4)
    for i in range(3):
        Image.fromarray(images[i]).save(folder / f"{i}.png")
    idle = lambda: None  # noqa: E731
    watch(encoder, folder, out, "m", interval=0, say=said.append, stop=_script(idle, idle, idle))
    assert len(read_embeddings(out).images) == 3
    Image.fromarray(images[3]).save(folder / "0.png")
    (folder / "1.png").unlink()
    watch(encoder, folder, out, "m", interval=0, say=said.append, stop=_script(idle, idle, idle))
    stored = read_embeddings(out)
    assert sorted(stored.images) == [str(folder / "0.png"), str(folder / "2.png")]
    row = stored.images.index(str(folder / "0.png"))
    np.testing.assert_allclose(stored.vectors[row], encoder.embed(images[3])[0], atol=1e-6)
    assert "2 images are gone or replaced: their vectors are taken out" in said


def test_a_folder_that_is_away_for_a_while_loses_nothing(tmp_path, encoder):
    folder, out, said = tmp_path / "in", tmp_path / "index", []
    folder.mkdir()
    for i, image in enumerate(pictures(3)):
        Image.fromarray(image).save(folder / f"{i}.png")
    idle = lambda: None  # noqa: E731
    watch(encoder, folder, out, "m", interval=0, say=said.append, stop=_script(idle, idle, idle))
    steps = [
        idle,
        lambda: folder.rename(tmp_path / "away"),
        idle,
        idle,
        lambda: (tmp_path / "away").rename(folder),
    ]
    watch(encoder, folder, out, "m", interval=0, say=said.append, stop=_script(*steps))
    assert sorted(read_embeddings(out).images) == [str(folder / f"{i}.png") for i in range(3)]
    assert [line for line in said if "gone" in line] == [f"{folder} is gone; waiting for it"]


def test_what_cannot_be_watched_is_named(tmp_path, encoder):
    with pytest.raises(ValueError, match="data=.*no such folder to watch"):
        watch(encoder, tmp_path / "nowhere", tmp_path / "out", "m")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file; with --watch"):
        watch(encoder, tmp_path, tmp_path / "file", "m")
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    looks = iter([False] * 4)
    watch(encoder, tmp_path, tmp_path / "out", "m", interval=0, stop=lambda: next(looks, True))
    with pytest.raises(ValueError, match="holds embeddings of m, here another"):
        watch(encoder, tmp_path, tmp_path / "out", "another", stop=lambda: True)
