"""What the zoo's models are compared with: DINO's loss as its paper states it, and the split of the emoji."""

import pathlib
import sys

import keras
import numpy as np
import pytest
import torch
from small_models import pictures, small_crops, small_vit

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "zoo" / "experiments"))
import ablation
from dino import DINO, CentredConsistency
from glyphs import family, held_out

from memssl_keras import AdamW

pytestmark = pytest.mark.slow


def test_the_loss_is_that_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(rows, 7, generator=generator) for rows in (3 * 4, 2 * 4))
    consistency = CentredConsistency(0.1, 0.9)
    consistency.centre = torch.linspace(-1, 1, 7)
    centre = 0.9 * consistency.centre + 0.1 * teacher.mean(0)
    loss, entropy = consistency(student, teacher, 0.04)
    expected, entropies = [], []
    for b in range(4):
        for j in range(2):
            target = torch.softmax((teacher[4 * j + b] - centre) / 0.04, 0)
            entropies.append(-(target * target.clamp_min(1e-30).log()).sum())
            expected += [
                -(target * torch.log_softmax(student[4 * i + b] / 0.1, 0)).sum() for i in range(3) if i != j
            ]
    assert len(expected) == 4 * 2 * 2
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    torch.testing.assert_close(entropy, torch.stack(entropies).mean())


def test_it_trains_in_the_same_harness():
    keras.utils.set_random_seed(0)
    model = DINO(small_vit(), prototypes=64, hidden_dim=32, output_dim=16)
    model.compile(AdamW(1e-3, clipnorm=3.0))
    before = [w.numpy().copy() for w in (model.student.head.prototypes, model.teacher.head.prototypes)]
    history = model.fit(pictures(16), views=small_crops(), batch_size=8, epochs=2, verbose=0).history
    after = [w.numpy() for w in (model.student.head.prototypes, model.teacher.head.prototypes)]
    assert np.isfinite(history["loss"]).all()
    student, teacher = (np.abs(a - b).max() for a, b in zip(after, before, strict=True))
    assert student > teacher > 0  # the teacher follows
    assert model.encoder(np.zeros((1, 32, 32, 3), "float32")).shape == (1, 24)


def test_relatives_stay_on_one_side():
    astronauts = ["1f468-200d-1f680", "1f469-200d-1f680", "1f9d1-200d-1f680"]
    assert len({family(code) for code in astronauts}) == 1
    assert family("1f46e-200d-2642-fe0f") == family("1f46e") != family("1f477")
    assert family("1f1e9-1f1ea") == family("1f3f4-200d-2620-fe0f") == "flags" and not held_out("1f1e9-1f1ea")
    codes = [f"{number:x}" for number in range(0x1F400, 0x1F4FF)]
    assert 0.35 < np.mean([held_out(code) for code in codes]) < 0.65


def test_an_ablation_is_a_row_with_its_curve(monkeypatch, capsys):
    for name, value in {"IMAGES": 256, "EPOCHS": 2, "VOTERS": 40, "QUERIES": 20}.items():
        monkeypatch.setattr(ablation, name, value)
    images, labels = np.stack(pictures(316, size=24)), np.arange(316) % 4
    rows = [
        ablation.one_run(name, "massl", 256, 64, holds, 1, images, labels)
        for name, holds in (("base", "FIFO"), ("frozen", "frozen noise"))
    ]
    assert [row["epoch 2"] >= 0 for row in rows] == [True, True] and "epoch 3" not in rows[0]
    assert rows[0]["untrained"] == rows[1]["untrained"] and rows[0]["loss"] != rows[1]["loss"]
    ablation.print_table([*rows, {**rows[0], "seed": 2, "epoch 2": 1.0}])
    said = capsys.readouterr().out
    assert "| base | 256 | 64 | 2 | " in said and "… 100.0)" in said and "| frozen | 256 | 64 | 1 | " in said
