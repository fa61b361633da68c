"""Scores at a terminal of 80 columns: tables that fit, models side by side."""

import io

import pytest
from rich.console import Console

from memssl_keras.cli import output, scores

MODELS = [
    "raw pixels, 16 px",
    "mean-centred pixels, 16 px",
    "the encoder, untrained",
    "massl_resnet14.cifar10",
]


def entry(task, names):
    return {
        "data": "photos",
        "task": task,
        "protocol": f"{task} of photos",
        "headline": names[0],
        "summary": names[:1],
        "scores": {model: dict.fromkeys(names, 0.25 * place) for place, model in enumerate(MODELS)},
        "differences": [],
        "notes": [],
    }


@pytest.fixture
def said(monkeypatch):
    """What is said at a terminal of 80 columns."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(output, "console", console)
    monkeypatch.setattr(scores, "console", console)
    return file


def test_a_table_that_would_not_fit_is_turned_and_models_get_numbers(said):
    shots = [f"{count} each, {way}" for count in (1, 2, 5, 10) for way in ("logistic", "class mean", "k-NN")]
    scores.show_scores({"results": [entry("knn", ["k = 20"]), entry("lowshot", shots)]})
    lines = said.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    first, second = said.getvalue().split("lowshot of photos")
    assert "massl_resnet14.cifar10      75.00%" in first
    assert "(4) massl_resnet14.cifar10" in second
    words = [line.split() for line in lines]
    assert ["10", "each,", "class", "mean", "0.00%", "25.00%", "50.00%", "75.00%"] in words
    together = said.getvalue().split("All together")[1]
    assert ["photos", "knn", "k", "=", "20", "0.00%", "25.00%", "50.00%", "75.00%"] in [
        line.split() for line in together.splitlines()
    ]
