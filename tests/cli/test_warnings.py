"""Warnings of the command line: one line, without the place in the code."""

import subprocess
import sys
import warnings

import pytest
from PIL import Image
from small_models import pictures

from memssl_keras.__main__ import _show_warnings_in_words


def test_a_warning_is_one_line(capfd, monkeypatch):
    others = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, category, *place: others.append(category))
    _show_warnings_in_words()
    warnings.showwarning(UserWarning("two pictures are skipped"), UserWarning, "code.py", 7)
    warnings.showwarning(FutureWarning("later"), FutureWarning, "code.py", 7)
    assert capfd.readouterr().err == "warning: two pictures are skipped\n" and others == [FutureWarning]


@pytest.mark.slow
def test_the_command_says_it_so(tmp_path):
    for i, pixels in enumerate(pictures(3)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    export = ("export", "massl_vitn4.cifar10", "--out", tmp_path / "out", "--images", tmp_path)
    command = [sys.executable, "-m", "memssl_keras", *map(str, export)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    lines = [line for line in said.splitlines() if "bad.png" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: 1 of 4 images") and "UserWarning" not in said
