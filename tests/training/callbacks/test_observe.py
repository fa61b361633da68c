"""What a run shows of itself: online k-NN, the memory's health, and the report."""

import json
import math
import warnings

import numpy as np
import pytest
import torch

from memssl_keras import AdamW, MaSSL, MultiCrop, ViT
from memssl_keras.training.callbacks.observe import MemoryHealth, OnlineKNN
from memssl_keras.training.report import read_metrics, write_report

VIEWS = MultiCrop(16, 8, 0)


def small_model(**changes):
    encoder = ViT(embed_dim=12, depth=1, num_heads=2, patch_size=8, image_size=16)
    model = MaSSL(
        encoder, memory_size=64, block_size=16, hidden_dim=8, output_dim=8, batch_norm=True, **changes
    )
    model.compile(AdamW(1e-3, clipnorm=3.0))
    return model


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, 16, 16, 3), dtype="uint8")


def colours(count):
    """Red and blue squares, which any encoder tells apart."""
    labels = np.arange(count) % 2
    images = np.zeros((count, 16, 16, 3), "uint8")
    images[labels == 0, ..., 0], images[labels == 1, ..., 2] = 255, 255
    return images, labels


def test_online_knn_is_among_the_metrics_of_every_epoch():
    images, labels = colours(12)
    online = OnlineKNN(images, labels, images, 1 - labels, every=2, k=3)
    history = small_model().fit(
        pictures(16), views=VIEWS, batch_size=8, epochs=3, callbacks=[online], verbose=0
    )
    first, second, third = history.history["knn"]
    # Epochs 2 and, as the last one, 3 are measured.
    assert math.isnan(first) and second == third == 0.0  # every label of the test set is the wrong one
    assert OnlineKNN(images, labels, images, labels, k=3).measure(small_model().encoder) == 1.0


@pytest.mark.parametrize("changes, words", [({"every": 0}, "every=0"), ({"k": 13}, "k=13: expected 1 … 12")])
def test_online_knn_names_bad_arguments(changes, words):
    images, labels = colours(12)
    with pytest.raises(ValueError, match=words):
        OnlineKNN(images, labels, images, labels, **{"k": 3, **changes})


def test_memory_health_of_a_run():
    history = (
        small_model()
        .fit(pictures(32), views=VIEWS, batch_size=8, epochs=4, callbacks=[MemoryHealth()], verbose=0)
        .history
    )
    assert history["memory_age"] == [2.0, 4.0, 4.0, 4.0]  # steps; the memory is full after eight of them
    assert all(0 < share <= 1 for share in history["block_entropy"])
    assert all(-1 < cosine <= 1 for cosine in history["memory_nearest"])


def test_memory_nearest_tells_one_concept_from_many():
    alike, apart = torch.ones(10, 4) / 2, torch.eye(4)
    health = MemoryHealth()
    assert health._nearest(alike) == pytest.approx(1)
    assert health._nearest(apart) == pytest.approx(0)
    assert math.isnan(health._nearest(apart[:1]))


def test_collapse_is_said_in_words_and_health_is_not():
    model, health = small_model(), MemoryHealth()
    health.set_model(model)
    model.memory.update(torch.eye(8))
    collapsed = {"teacher_entropy": math.log(16), "spread": 0.01}
    with pytest.warns(UserWarning, match="after epoch 3 .* a lower teacher temperature"):
        health.on_epoch_end(2, collapsed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        health.on_epoch_end(2, {"teacher_entropy": 1.0, "spread": 0.8})


def test_report_of_a_run(tmp_path):
    model = small_model()
    model.encoder.save_pretrained(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"name": "tiny", "images": 32}))
    (tmp_path / "metrics.csv").write_text("epoch,loss,spread,knn\n0,2.5,0.5,NA\n1,2.25,0.75,0.125\n")
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert metrics["loss"].tolist() == [2.5, 2.25] and math.isnan(metrics["knn"][0])
    write_report(tmp_path, list(pictures(20)))
    text = (tmp_path / "report.md").read_text()
    assert "# tiny" in text and "| knn | 0.1250 |" in text and "neighbours.png" in text
    for name in ("curves.png", "neighbours.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_report_needs_an_epoch(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,loss\n")
    with pytest.raises(ValueError, match="holds no epoch yet"):
        read_metrics(tmp_path / "metrics.csv")


def test_online_knn_takes_labelled_data_sets():
    import datasets

    images, labels = colours(12)
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["red", "blue"])}
    )
    data = datasets.Dataset.from_dict({"img": list(images), "label": labels}, features)
    encoder = small_model().encoder
    assert OnlineKNN(data, test=data, k=3).measure(encoder) == 1.0
    assert OnlineKNN(data, test=images, test_labels=1 - labels, k=3).measure(encoder) == 0.0
    with pytest.raises(ValueError, match="0 ClassLabel columns"):
        OnlineKNN(data.select_columns("img"), test=data)
    with pytest.raises(ValueError, match="test: got None images and None labels; expected as many of each"):
        OnlineKNN(images, labels, k=3)
    with pytest.raises(ValueError, match="train: got 12 images and 11 labels"):
        OnlineKNN(images, labels[:11], images, labels, k=3)
