"""`memssl whiten` and `memssl memory` on runs that were adapted, distilled or trained on pairs."""

import numpy as np
import pytest
from commands import run
from memory_run import CREDITS, write_pictures
from PIL import Image
from small_models import small_crops
from tiny_run import pictures

from memssl_keras import ResNet, from_pretrained
from memssl_keras.data.pairs import Paired
from memssl_keras.data.sources import open_source
from memssl_keras.encoders.copies import without_whitening
from memssl_keras.evaluate.embedders import Embedder
from memssl_keras.training.adapt import adapt_recipe
from memssl_keras.training.pretrain import pretrain
from memssl_keras.training.whiten import whitening_of
from memssl_keras.zoo.memory import read_memory

pytestmark = pytest.mark.slow

SIZES = {"epochs": 1, "batch_size": 8, "memory_size": 16, "hidden_dim": 16, "output_dim": 8}
NETWORK = {"blocks": (1, 1), "width": 4, "stem": "half"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data") / "waves.parquet", pictures(32))


def trained(folder, data, encoder, **options):
    recipe = adapt_recipe(encoder, 32, views=small_crops(), **SIZES)
    images = options.pop("images", None) or open_source(data)
    pretrain(recipe, images, folder, init=encoder, say=lambda line: None, **options)
    return folder


@pytest.fixture(scope="module", params=[1, (1, 2)], ids=["last stage", "two stages"])
def adapted(request, tmp_path_factory, data):
    encoder = ResNet(**NETWORK, pooling_grid=request.param, whitening={"rank": 6, "reduce": True})
    raw = without_whitening(encoder).predict(pictures(32).astype("float32") / 255, verbose=0)
    whitening_of(encoder).fit(np.asarray(raw))
    return trained(tmp_path_factory.mktemp("run") / "adapted", data, encoder)


def test_an_adapted_encoder_is_whitened_otherwise(tmp_path, data, adapted):
    run("whiten", adapted, data, "--out", tmp_path / "white", "--rank", 4, "--reduce", "--power", 0.5)
    assert from_pretrained(adapted).embed_dim == 6 and from_pretrained(tmp_path / "white").embed_dim == 4
    assert "rank 4, power 0.5)" in (tmp_path / "white" / "README.md").read_text(encoding="utf-8")


def test_unreadable_pictures_are_not_counted_among_those_that_a_whitening_is_fitted_to(tmp_path, adapted):
    folder = tmp_path / "few"
    folder.mkdir()
    for number, picture in enumerate(pictures(3)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    with pytest.warns(UserWarning) as warned:
        said = run("whiten", adapted, folder, "--out", tmp_path / "white", "--rank", 4, "--reduce")
    assert "over 3 of 4 pictures" in said
    assert "over 3 of 4 pictures" in (tmp_path / "white" / "README.md").read_text(encoding="utf-8")
    messages = " ".join(str(one.message) for one in warned)
    assert "unreadable pictures skipped in the whitening: 1 (" in messages and "broken.png" in messages
    assert "the whitening of 4 axes is fitted to 3 pictures" in messages


def test_an_adapted_encoder_ships_its_memory(data, adapted):
    said = run("memory", adapted, data, "--credits", CREDITS)
    assert "memory of 16 slots, 16 with pictures" in said and len(read_memory(adapted).vectors) == 16


def test_a_distilled_encoder_is_whitened_and_ships_no_memory(tmp_path, data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    teacher = Embedder("mean", {"kind": "test", "name": "mean"}, means)
    folder = trained(tmp_path / "run", data, ResNet(**NETWORK), teacher=teacher)
    run("whiten", folder, data, "--out", tmp_path / "white", "--rank", 4, "--reduce")
    assert from_pretrained(tmp_path / "white").embed_dim == 4
    said = run("memory", folder, data, "--credits", CREDITS, code=1)
    assert "a distilled run, whose memory holds another encoder's embeddings" in said


def test_a_run_on_pairs_ships_no_memory(tmp_path, data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    images = Paired(open_source(data), np.arange(32) // 2, 1.0)
    folder = trained(tmp_path / "run", data, ResNet(**NETWORK), images=images)
    said = run("memory", folder, data, "--credits", CREDITS, code=1)
    assert "its views are of pairs of pictures (--group), which are not replayed" in said


def means(images):
    """Features of 8 numbers that tell pictures apart."""
    from memssl_keras.images import read_image

    return np.stack([read_image(image)[::4, ::8].reshape(-1)[:8].astype(float) + 1 for image in images])
