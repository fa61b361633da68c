"""fastembed runs our folders as they are: the same vectors."""

import numpy as np
import pytest
from other_libraries import need
from PIL import Image

from memssl_keras import OnnxEncoder
from memssl_keras.weights.config import read_config
from memssl_keras.zoo.registry import resolve

NAME, FILE = (
    "massl_resnet14.cifar10",
    "onnx/model_quantized.onnx",
)  # of several outputs it takes the first alone


@pytest.fixture
def theirs():
    """fastembed's encoder of a bundled model, described to it as one of the models that it knows."""
    need("fastembed")
    from fastembed import ImageEmbedding
    from fastembed.common.model_description import DenseModelDescription, ModelSource
    from fastembed.image import onnx_embedding

    about = DenseModelDescription(
        model=f"memssl/{NAME}",
        sources=ModelSource(hf=f"memssl/{NAME}"),
        model_file=FILE,
        description="",
        license="apache-2.0",
        size_in_GB=0.01,
        dim=read_config(resolve(NAME))["embed_dim"],
    )
    onnx_embedding.supported_onnx_models.append(about)
    yield ImageEmbedding(about.model, specific_model_path=str(resolve(NAME)), threads=1)
    onnx_embedding.supported_onnx_models.remove(about)


def test_fastembed_gives_the_same_vectors(theirs, tmp_path):
    rng, paths = np.random.default_rng(0), []
    for name, size in (("wide.png", (40, 60)), ("tall.png", (64, 33)), ("small.png", (20, 20))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), "uint8")).save(tmp_path / name)
        paths.append(str(tmp_path / name))
    found = np.stack(list(theirs.embed(paths)))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    ours = OnnxEncoder.from_pretrained(NAME, variant="int8", threads=1).embed(paths)
    # Sides are rounded otherwise there where a picture is not square, by up to a pixel.
    assert (found * ours).sum(1).min() > 0.999
    np.testing.assert_allclose(found[2], ours[2], atol=1e-4)
