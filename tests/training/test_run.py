"""A whole run from Python: opening, describing, training, verdict and report."""

import dataclasses

import pytest
from PIL import Image
from tiny_run import RECIPE, pictures

from memssl_keras.training import run
from memssl_keras.training.massl import NonFiniteLoss

SHORT = dataclasses.replace(RECIPE, epochs=1)


@pytest.fixture
def photos(tmp_path):
    for number, pixels in enumerate(pictures(20)):
        folder = tmp_path / "photos" / ("edges" if number % 2 else "waves")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_pictures_are_opened_apart_and_described(photos, tmp_path):
    data = run.open_run(str(photos), tmp_path / "run", held_out=6)
    assert (len(data.images), len(data.held_out), data.labelled) == (14, 6, None)
    lines = run.described(SHORT, data)
    assert lines[-1] == "tiny: 14 images, 1 epoch of 2 steps"
    assert any(line.startswith("warning: the memory has 64 slots") for line in lines)


def test_a_run_among_its_own_pictures_is_refused(photos):
    with pytest.raises(ValueError, match="would be read as training images"):
        run.open_run(str(photos), photos / "run")


@pytest.mark.slow
def test_a_run_is_judged_and_reported(photos, tmp_path):
    said, folder = [], tmp_path / "run"
    data = run.open_run(str(photos), folder, held_out=6)
    run.pretrain_judged(SHORT, data, folder, say=said.append)
    assert {"config.json", "metrics.csv", "report.md", "run.json"} <= {path.name for path in folder.iterdir()}
    assert any("6 held-out pictures" in line for line in said), said


def test_a_loss_that_is_not_finite_says_where_the_last_checkpoint_is(photos, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise NonFiniteLoss("step 3: loss is nan")

    monkeypatch.setattr(run, "pretrain", fails)
    data = run.open_run(str(photos), tmp_path / "run", labelled=str(photos))
    with pytest.raises(NonFiniteLoss, match=r"loss is nan\. The last checkpoint is in .*run/checkpoints"):
        run.pretrain_judged(SHORT, data, tmp_path / "run", knn_k=3)
