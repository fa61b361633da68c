"""Training on at another image size than the encoder's own: `--image-size`, `convert`, `MaSSL.from_pretrained`."""

import json

import numpy as np
import pytest
from commands import run
from golden_runs import FOLDER
from PIL import Image
from small_models import pictures, small_vit, varied

from memssl_keras import AdamW, MaSSL, MultiCrop, ResNet, from_pretrained
from memssl_keras.conversion import convert
from memssl_keras.training import judging
from memssl_keras.weights.positions import resize
from memssl_keras.weights.torch_names import encoder_names, to_state

GOLDEN = FOLDER / "massl_vit_checkpoint.pth"
SETTINGS = {"image_size": 32, "resize_size": 32, "interpolation": "bicubic"}
SETTINGS |= {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, picture in enumerate(pictures(20, 70)):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    varied(ResNet((1, 1), 8, "half", preprocessing=SETTINGS)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """The folder of a ViT with its training state, 32 px in patches of 8."""
    folder = tmp_path_factory.mktemp("vit")
    model = MaSSL(varied(small_vit()), memory_size=16, block_size=8, hidden_dim=8, output_dim=8)
    model.save_pretrained(folder)
    return folder


def test_an_encoder_is_adapted_at_a_larger_size(tmp_path, photos, resnet, monkeypatch):
    starts = []

    class Seen(judging.Judge):
        def __init__(self, *args, start, **options):
            starts.append(start)
            super().__init__(*args, start=start, **options)

    monkeypatch.setattr(judging, "Judge", Seen)
    adapt = ("pretrain", photos, "--init", resnet, "--out", tmp_path / "run", "--workers", 0, "--epochs", 1)
    said = run(*adapt, "--image-size", 48)
    kept = from_pretrained(tmp_path / "run")
    assert kept.preprocess == from_pretrained(resnet).preprocess.at(48)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["views"]["global_size"] == 48
    # What it has to beat is what it started from, at the same size; views of that size say little at another.
    assert [start.preprocess.image_size for start in starts] == [48] and f"{resnet} at 48 px " in said
    # Another size is another run.
    said = run(*adapt, code=1)
    assert (
        "holds a run with other settings: views.global_size was 48, now 32" in said
        and "--allow-changed" in said
    )


@pytest.mark.parametrize(
    "options, words",
    [
        ((), "--image-size=48: is of the encoder to adapt; expected --init MODEL with it"),
        (("--init", "{model}", "--recipe", "tiny_test"), "expected no --recipe, which sets the size itself"),
        (
            ("--init", "massl_vitn4.cifar10", "--image-size", 30),
            "image_size=30: expected a multiple of the patch",
        ),
    ],
)
def test_a_size_that_makes_no_sense_is_refused(tmp_path, photos, resnet, options, words):
    options = [str(resnet) if option == "{model}" else option for option in options]
    said = run("pretrain", photos, "--out", tmp_path / "run", "--image-size", 48, *options, code=1)
    assert words in said and not (tmp_path / "run").exists()


def test_a_checkpoint_is_converted_to_another_size(tmp_path):
    run("convert", GOLDEN, "--out", tmp_path, "--num-heads", 3, "--image-size", 48)
    kept, asked = from_pretrained(tmp_path), from_pretrained(GOLDEN, num_heads=3, image_size=48)
    assert kept.preprocess == asked.preprocess and kept.preprocess.image_size == 48
    np.testing.assert_array_equal(kept.embed(pictures(2)), asked.embed(pictures(2)))


def test_a_folder_is_converted_to_another_size(tmp_path, resnet):
    convert(resnet, tmp_path, image_size=64)
    assert from_pretrained(tmp_path).preprocess == from_pretrained(resnet).preprocess.at(64)


def test_pretraining_goes_on_at_another_size(vit):
    own, larger = MaSSL.from_pretrained(vit), MaSSL.from_pretrained(vit, image_size=64)
    assert larger.encoder.preprocess.image_size == 64
    np.testing.assert_array_equal(larger.memory.vectors.numpy(), own.memory.vectors.numpy())
    for branch in ("student", "teacher"):
        ours, before = (to_state(encoder_names(getattr(model, branch).encoder)) for model in (larger, own))
        before["pos_embed"] = resize(before["pos_embed"], 8)
        assert ours.keys() == before.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], before[name])
    larger.compile(AdamW(1e-3))
    larger.fit(pictures(8, 80), views=MultiCrop(64, 32, 0), batch_size=4, epochs=1, verbose=0)
    assert larger.step == 2


def test_pretraining_goes_on_from_a_checkpoint_that_was_converted_to_another_size(tmp_path):
    convert(GOLDEN, tmp_path / "own", num_heads=3)
    convert(GOLDEN, tmp_path / "other", num_heads=3, image_size=64)
    own, other = (MaSSL.from_pretrained(tmp_path / name, image_size=64) for name in ("own", "other"))
    for ours, theirs in zip(other.student.get_weights(), own.student.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_size_that_training_cannot_go_on_at(vit):
    with pytest.raises(ValueError, match="image_size=30: expected a multiple of the patch of 8 px"):
        MaSSL.from_pretrained(vit, image_size=30)
