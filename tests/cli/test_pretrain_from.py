"""`memssl pretrain` on from a trained encoder, and distilling one."""

import json

import numpy as np
import pytest
from commands import run
from PIL import Image
from small_models import pictures, small_vit, varied

from memssl_keras import ResNet, from_pretrained
from memssl_keras.images import Preprocessing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures, a ViT with its ONNX file, and a small ResNet."""
    folder = tmp_path_factory.mktemp("from")
    (folder / "photos").mkdir()
    for i, picture in enumerate(pictures(40)):
        Image.fromarray(picture).save(folder / "photos" / f"{i}.png")
    varied(small_vit(preprocessing=Preprocessing(32, 32).to_dict())).save_pretrained(
        folder / "vit", exports=["fp32"]
    )
    ResNet((1,), 8, "half").save_pretrained(folder / "resnet")
    return folder


def pretrain(place, *options, code=0, out="run"):
    shared = ("--workers", 0, "--threads", 1, "--out", place / out)
    return run("pretrain", place / "photos", *shared, *options, code=code)


def test_a_run_goes_on_from_an_encoder_and_says_start_and_end(place):
    said = pretrain(place, "--init", place / "vit", "--epochs", 2, out="on")
    assert "recipe adapt, chosen for 40 pictures, starting from a ViT of width 24" in said
    assert "memory of 16 in blocks of 4" in said and "at the start, retrieval of 40 pictures" in said
    assert f"{place / 'vit'}: " in said and "verdict: " in said
    verdict = json.loads((place / "on" / "verdict.json").read_text())
    assert [one["kind"] for one in verdict["references"]] == ["untrained", "start", "pixels"]
    assert str(place / "vit") in (place / "on" / "report.md").read_text()
    before, after = from_pretrained(place / "vit"), from_pretrained(place / "on")
    assert after.preprocessing == before.preprocessing
    moved = np.abs(before.pos_embed.numpy() - after.pos_embed.numpy()).max()
    assert 0 < moved < 0.1
    assert "all 2 epochs are done" in pretrain(place, "--init", place / "vit", "--epochs", 2, out="on")
    said = pretrain(place, "--init", place / "resnet", "--epochs", 2, out="on", code=1)
    assert "holds a run with other settings: " in said and "init was" in said
    said = pretrain(place, "--epochs", 2, out="on", code=1)
    assert "init was" in said


@pytest.mark.parametrize("teacher", ["vit", "vit@fp32"])
def test_an_encoder_is_distilled_into_the_recipes(place, teacher):
    out = f"from-{teacher}"
    said = pretrain(place, "--teacher", place / teacher, "--epochs", 2, out=out)
    assert "the teacher, " in said and "verdict: " in said
    student = from_pretrained(place / out)
    assert type(student).__name__ == "ResNet" and student.embed_dim == 512
    assert list((place / out / "teacher").glob("*.npy"))
    settings = json.loads((place / out / "run.json").read_text())
    assert settings["output_dim"] == 24 and settings["teacher"]["kind"] == (
        "onnx" if "@" in teacher else "keras"
    )
    said = pretrain(place, "--teacher", "massl_vitn4.cifar10", "--epochs", 2, out=out, code=1)
    assert "teacher was" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--init", "{place}/vit", "--recipe", "resnet12_cifar10", "--batch-size", "8"],
            "which the recipe's encoder has not",
        ),
        (["--init", "nowhere"], "nowhere"),
        (
            ["--init", "{place}/vit", "--out", "{place}/vit"],
            "is the folder of --init, which would be overwritten",
        ),
        (["--teacher", "{place}/vit@fp32", "--out", "{place}/vit"], "is the folder of --teacher"),
        (["--recipe", "adapt"], "--recipe=adapt: starts from a trained encoder; expected --init MODEL"),
        (["--teacher", "{place}/vit", "--init", "{place}/vit"], "is the student too (--init)"),
        (["--teacher", "{place}/vit", "--group", "name"], "expected neither --group nor --streaming"),
        (["--teacher", "nowhere"], "nowhere"),
        (["--init", "{place}/vit", "--batch-size", "64"], "64"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(place, options, words):
    said = pretrain(place, *(option.format(place=place) for option in options), out="refused", code=1)
    assert "error:" in said and words in said and "Traceback" not in said
    assert not (place / "refused" / "config.json").exists()
