"""White features: what they are, and that a whitened model is the same one otherwise."""

import re

import keras
import numpy as np
import onnx
import pytest
import torch
from commands import run
from memory_run import CREDITS, train, write_pictures
from small_models import pictures, small_cnn, small_crops, small_massl
from tiny_run import pictures as waves

from memssl_keras import Encoder, OnnxEncoder, ResNet, ViT, from_pretrained, save_pretrained, whiten
from memssl_keras.encoders.base import feature_width
from memssl_keras.encoders.whitening import Whitening
from memssl_keras.export.pack import SMALLEST
from memssl_keras.export.session import open_session
from memssl_keras.training.massl import MaSSL
from memssl_keras.training.whiten import raw_features
from memssl_keras.zoo.memory import HEAD, problem


def uneven(count=400, width=6):
    """Features of which one direction is a thousand times as strong as another, away from zero."""
    rng = np.random.default_rng(0)
    mixed = np.linalg.qr(rng.normal(size=(width, width)))[0] * np.geomspace(10, 0.01, width)[:, None]
    return (rng.normal(size=(count, width)) @ mixed + 3).astype("float32")


def trained(batch_norm=True):
    encoder = ResNet((1, 1), 8, "cifar", pooling_grid=2)
    encoder.preprocessing = {"image_size": 32, "resize_size": 32, "interpolation": "bicubic"}
    encoder.preprocessing |= {"mean": [0.5] * 3, "std": [0.25] * 3}
    model = small_massl(encoder, batch_norm=batch_norm)
    model.fit(pictures(32), views=small_crops(), batch_size=8, epochs=2, verbose=0)
    return model


def fitted(features, rank, shrinkage):
    layer = Whitening(rank)
    layer.build((None, features.shape[1]))
    layer.fit(features, shrinkage)
    return layer


@pytest.mark.numeric
def test_features_become_white():
    features = uneven()
    white = fitted(features, 6, 1e-9)(features).numpy()
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-2)  # 1e-4 of the widest, in float32
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(6), atol=1e-2)
    variances = np.linalg.eigvalsh(np.cov(fitted(features, 3, 1e-9)(features), rowvar=False))
    assert (np.abs(variances - 1) < 1e-2).sum() == 3  # the strongest three, each by itself
    assert abs(variances.sum() - 6) < 3e-2  # the others together
    calm = np.linalg.eigvalsh(np.cov(fitted(features, 6, 1e6)(features), rowvar=False))
    before = np.linalg.eigvalsh(np.cov(features, rowvar=False))
    np.testing.assert_allclose(calm / calm.sum(), before / before.sum(), atol=1e-4)  # nothing left to whiten


@pytest.mark.numeric
def test_reduced_features_are_the_strongest_axes_of_white_ones():
    features = uneven()
    layer = Whitening(3, reduce=True)
    layer.build((None, 6))
    layer.fit(features, 1e-9)
    reduced = layer(features).numpy()
    assert reduced.shape == (400, 3) == layer.compute_output_shape((400, 6))
    np.testing.assert_allclose(np.cov(reduced, rowvar=False), np.eye(3), atol=1e-2)
    axes = np.linalg.eigh(np.cov(features, rowvar=False))[1][:, :2:-1]
    along = (features - features.mean(0)) @ axes
    correlation = np.abs([np.corrcoef(a, b)[0, 1] for a, b in zip(along.T, reduced.T, strict=True)])
    np.testing.assert_allclose(correlation, 1, atol=1e-3)
    kernel = np.random.default_rng(1).normal(size=(6, 4))
    undone = reduced @ layer.undone(kernel)
    np.testing.assert_allclose(undone, along @ axes.T @ kernel, atol=1e-2)


@pytest.mark.numeric
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_whitening_by_degrees(power):
    features = uneven()
    layer = Whitening(6)
    layer.build((None, 6))
    layer.fit(features, 1e-9, power)
    before, after = (np.linalg.eigvalsh(np.cov(x, rowvar=False)) for x in (features, layer(features)))
    np.testing.assert_allclose(np.sort(after)[1:], np.sort(before ** (1 - power))[1:], rtol=0.05)
    with pytest.raises(ValueError, match=r"power=1\.5: expected a number in 0 … 1"):
        layer.fit(features, 0.1, 1.5)


@pytest.mark.slow
@pytest.mark.numeric
def test_a_model_with_reduced_features_is_saved_and_opened(tmp_path):
    model, images = trained(), pictures(24)
    reduced = whiten(model, images, shrinkage=0.1, rank=12, power=0.5, reduce=True)
    assert reduced.encoder.embed_dim == 12
    reduced.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    np.testing.assert_allclose(again.embed(images), reduced.encoder.embed(images), atol=1e-5)


@pytest.mark.numeric
def test_what_changes_between_views_counts_less():
    """Of two strong directions in which views of a picture differ and two weak ones that they share, these stay."""
    rng = np.random.default_rng(0)
    mixing = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    shared = rng.normal(size=(500, 2))

    def view():
        sources = rng.normal(size=(500, 6)) * [10, 10, 0.1, 0.1, 0.1, 0.1]
        sources[:, 2:4] += shared
        return (sources @ mixing + 2).astype("float32")

    one, other = view(), view()
    both = np.concatenate([one, other])
    layer = Whitening(6, reduce=True)
    layer.build((None, 6))

    def share_of_what_is_shared(power):
        layer.fit_pairs(both, one, other, 1e-6, within=power, power=power)
        first, second = layer(one).numpy(), layer(other).numpy()
        np.testing.assert_allclose(np.concatenate([first, second]).mean(0), 0, atol=1e-3)
        across = np.cov(first, second, rowvar=False)
        return 2 * np.trace(across[:6, 6:]) / np.trace(across)

    assert share_of_what_is_shared(0.0) < 0.05
    assert share_of_what_is_shared(0.5) > 0.4
    for wrong, words in (
        ((one, other[1:]), r"second: got shape \(499, 6\); expected \(500, 6\)"),
        ((one[:, 1:], other[:, 1:]), r"first: got shape \(500, 5\); expected \(500, 6\)"),
        ((one, one), "second: equal to first"),
    ):
        with pytest.raises(ValueError, match=words):
            layer.fit_pairs(both, *wrong)
    for settings, words in (({"shrinkage": 0}, "shrinkage=0"), ({"within": 2}, "within=2: expected")):
        with pytest.raises(ValueError, match=words):
            layer.fit_pairs(both, one, other, **settings)
    with pytest.raises(ValueError, match="reduce=False"):
        fitted(one, 6, 0.1).fit_pairs(both, one, other)


@pytest.mark.numeric
@pytest.mark.parametrize("rank", [2, 6])
def test_a_kernel_undoes_it(rank):
    features, kernel = uneven(), np.random.default_rng(1).normal(size=(6, 4))
    layer = fitted(features, rank, 0.1)
    undone = layer(features).numpy() @ layer.undone(kernel)
    np.testing.assert_allclose(undone, (features - features.mean(0)) @ kernel, atol=1e-4)


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_whitened_model_compares_as_before(batch_norm, tmp_path):
    model, images = trained(batch_norm), pictures(48)
    white = whiten(model, images, shrinkage=0.5, rank=24, batch_size=20)
    features = raw_features(white.encoder, images)
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-4)
    variances = np.linalg.eigvalsh(np.cov(features, rowvar=False))
    assert variances.max() <= 1.0001 and variances.max() > 0.9
    views = [torch.rand(4, 32, 32, 3) for _ in range(2)]
    for name in ("student", "teacher"):
        before, after = (getattr(part, name)(views, training=False) for part in (model, white))
        np.testing.assert_allclose(after.detach(), before.detach(), atol=1e-5)
    np.testing.assert_array_equal(white.memory.vectors.numpy(), model.memory.vectors.numpy())
    assert int(white.memory.written.value) == int(model.memory.written.value)
    white.save_pretrained(tmp_path)
    np.testing.assert_allclose(raw_features(from_pretrained(tmp_path), images), features, atol=1e-6)
    again = MaSSL.from_pretrained(tmp_path)
    again.compile(keras.optimizers.SGD(0.01))
    again.fit(images, views=small_crops(), batch_size=8, epochs=1, verbose=0)
    with pytest.raises(ValueError, match="whitened already"):
        whiten(white, images)


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("cells, rank", [((2, 2), 256), ([0, 2], 20), ((3, 2), 10)])
def test_features_of_all_stages(cells, rank, tmp_path):
    """They follow the last stage's, and the head, which was not taught them, compares as before."""
    model, images = trained(), pictures(24)
    wider = model.encoder.extended(pooling_grid=cells)
    assert wider.preprocessing == model.encoder.preprocessing
    features = raw_features(wider, images)
    assert features.shape == (24, 16 * 2**2 + 8 * cells[0] ** 2)
    np.testing.assert_allclose(features[:, :64], raw_features(model.encoder, images), atol=1e-6)
    if cells[0]:
        whole = raw_features(model.encoder.extended(pooling_grid=(1, 2)), images)[:, 64:]
        np.testing.assert_allclose(features[:, 64:].reshape(24, -1, 8).mean(1), whole, atol=1e-5)
    white = whiten(model, images, shrinkage=0.5, rank=rank, pooling_grid=cells)
    assert feature_width(white.encoder) == features.shape[1]
    views = [torch.rand(4, 32, 32, 3) for _ in range(2)]
    for name in ("student", "teacher"):
        before, after = (getattr(part, name)(views, training=False) for part in (model, white))
        np.testing.assert_allclose(after.detach(), before.detach(), atol=1e-5)
    white.save_pretrained(tmp_path)
    again = raw_features(from_pretrained(tmp_path), images)
    np.testing.assert_allclose(again, raw_features(white.encoder, images), atol=1e-5)


@pytest.mark.slow
def test_what_stages_cannot_be_taken():
    model = trained()
    for cells in (2, (2,), (1, 3), (-1, 2), (1.0, 2)):
        with pytest.raises(
            ValueError,
            match=f"pooling_grid={re.escape(str(cells))}: expected 2 whole numbers .* last of them 2",
        ):
            model.encoder.extended(pooling_grid=cells)
    wide, white = model.encoder.extended(pooling_grid=(1, 2)), whiten(model, pictures(8)).encoder
    for encoder, words in (
        (wide, "expected a ResNet whose features are of its last stage alone"),
        (white, "whitened already"),
        (Encoder.wrap(small_cnn()), "a WrappedEncoder cannot be extended; expected a ResNet"),
    ):
        with pytest.raises(ValueError, match=words):
            encoder.extended(pooling_grid=(1, 2))


@pytest.mark.slow
def test_what_cannot_be_whitened():
    vit = ViT(embed_dim=24, depth=1, num_heads=2, patch_size=8, image_size=32)
    with pytest.raises(ValueError, match="a ViT cannot be extended; expected a ResNet"):
        whiten(small_massl(vit), pictures(4))
    model = trained()
    with pytest.raises(ValueError, match="shrinkage=0: expected a number above 0"):
        whiten(model, pictures(4), shrinkage=0)
    with pytest.raises(ValueError, match="features: got 1; expected two or more"):
        whiten(model, pictures(1))
    with pytest.raises(ValueError, match="all of them are alike"):
        fitted(np.zeros((5, 3), "float32"), 2, 0.1)


@pytest.mark.slow
def test_a_run_becomes_a_white_model_with_its_memory(tmp_path, monkeypatch):
    """The command: features are white, and the head that is shipped still leads to the memory's vectors."""
    monkeypatch.setenv("COLUMNS", "300")
    data = write_pictures(tmp_path / "waves.parquet", waves(50))
    run_folder, folder = tmp_path / "run", tmp_path / "model"
    model = train(run_folder, data, "resnet")
    command = ("whiten", run_folder, data)
    assert "the folder of the run; expected another one" in run(*command, "--out", run_folder, code=1)
    said = run(*command, "--out", folder, "--exports", "fp32")
    assert "a ResNet of width 16, PCA whitening over 50 of 50 pictures" in said
    ship = ("memory", run_folder, data, "--credits", CREDITS)
    run(*ship, "--out", folder)
    features = raw_features(from_pretrained(folder), list(waves(50)))
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-3)
    encoder = OnnxEncoder.from_pretrained(folder)
    given = np.concatenate([encoder.features(image) for image in waves(50)])
    np.testing.assert_allclose(given, features, atol=1e-3)
    head = open_session(folder / HEAD)
    (embeddings,) = head.run(None, {head.get_inputs()[0].name: given})
    expected = model.teacher.head(raw_features(model.encoder, list(waves(50))), training=False)
    np.testing.assert_allclose(embeddings, expected.detach().numpy(), atol=1e-3)
    assert problem(folder) is None
    assert (
        "PCA whitening was fitted as a last linear layer, over 50 of 50 pictures without labels"
        in (folder / "README.md").read_text()
    )
    more = (*command, "--out", tmp_path / "all")
    assert "expected whole numbers with commas, such as 0,3,3" in run(*more, "--pooling-grid", "3;3", code=1)
    assert "expected 2 whole numbers of at least 0, one for each stage" in run(
        *more, "--pooling-grid", "3", code=1
    )
    assert not (tmp_path / "all").exists()
    run(*more, "--pooling-grid", "2,1", "--rank", 5, "--shrinkage", 0.2, "--half")
    run(*ship, "--half", "--out", tmp_path / "all")
    head = onnx.load(tmp_path / "all" / HEAD).graph
    kinds = {tensor.data_type for tensor in head.initializer if np.prod(tensor.dims) >= SMALLEST}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert feature_width(from_pretrained(tmp_path / "all")) == features.shape[1] + 8 * 2**2
    card = (tmp_path / "all" / "README.md").read_text()
    assert (
        "means over a 1 × 1 grid of the map of stage 2, a 2 × 2 grid of the map of stage 1." in card
        and "shrinkage 0.2, rank 5, power 1.0)" in card
    )
    train(tmp_path / "vit", data)
    said = run("whiten", tmp_path / "vit", data, "--out", tmp_path / "no", code=1)
    assert "a ViT cannot be extended; expected a ResNet" in said
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_white_features_survive_int8(tmp_path):
    """The map stays in float32, in one copy; what is quantised are the convolutions."""
    model = trained()
    white = whiten(model, pictures(64), rank=32)
    save_pretrained(white.encoder, tmp_path, exports=["fp32", "int8"])
    weights = {}
    for name in ("model", "model_quantized"):
        graph = onnx.load(tmp_path / "onnx" / f"{name}.onnx").graph
        weights[name] = [tensor.data_type for tensor in graph.initializer if list(tensor.dims) == [64, 32]]
        assert [list(tensor.dims) for tensor in graph.initializer].count([32, 64]) == 0
    assert weights["model"] == weights["model_quantized"] == [onnx.TensorProto.FLOAT]
    int8 = OnnxEncoder.from_pretrained(tmp_path, variant="int8").embed(pictures(16))
    whole = OnnxEncoder.from_pretrained(tmp_path).embed(pictures(16))
    assert (int8 * whole).sum(1).min() > 0.98
