"""What is said at a terminal of 80 columns, in completion, and where a variant is missing."""

import os
import re
import subprocess
import sys

import pytest
import typer
from commands import run
from small_models import small_cnn, small_massl, small_vit

from memssl_keras import Encoder
from memssl_keras.cli.card_text import narrow_tables
from memssl_keras.zoo.card import card
from memssl_keras.zoo.registry import list_models

WIDE = "| model | " + " | ".join(f"{n} each, logistic" for n in range(9)) + " |"


def test_wide_tables_are_continued_below_with_every_head_whole():
    table = "\n".join([WIDE, "|" + "---|" * 10, "| glyphs | " + " | ".join(map(str, range(9))) + " |"])
    narrow = narrow_tables(f"Before\n\n{table}\n\nAfter", 80)
    assert narrow.startswith("Before\n\n| model |") and narrow.endswith("\n\nAfter")
    assert all(f"| {n} each, logistic |" in narrow for n in range(9))
    assert (
        max(map(len, narrow.splitlines())) <= 80
        and narrow.count("| model |") == narrow.count("| glyphs |") > 2
    )
    assert narrow_tables("| a | b |\n|---|---|\n| 1 | 2 |", 80) == "| a | b |\n|---|---|\n| 1 | 2 |"


@pytest.mark.parametrize("name", list_models())
def test_cards_at_80_columns_lose_no_head(name):
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(Markdown(narrow_tables(card(name), console.width)))
    tables = [line for line in card(name).splitlines() if re.match(r"\|\s*---", line)]
    assert tables and "…" not in capture.get()


def test_completion_knows_commands_and_options(tmp_path):
    def complete(words):
        asked = {
            "_MEMSSL_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        environment = {**os.environ, **asked}
        code = "from memssl_keras.cli import app; app(prog_name='memssl')"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        return done.stdout.split()

    assert complete("memssl p") == ["pretrain", "push"]
    assert "--recipe" in complete("memssl pretrain --rec")


def test_a_missing_variant_is_named_by_its_model_and_not_by_a_path(tmp_path):
    said = run(
        "embed", tmp_path, "--model", "massl_resnet14.cifar10", "--variant", "fp16", "--out", "x", code=1
    )
    assert "variant='fp16': massl_resnet14.cifar10 has int8; memssl export" in said and "/" not in said


@pytest.mark.parametrize("model", [small_vit, small_massl, lambda: Encoder.wrap(small_cnn())])
def test_summaries_know_every_shape(model):
    lines = []
    model().summary(print_fn=lambda line, **_: lines.append(line), expand_nested=True)
    assert lines and "?" not in "\n".join(lines)


def test_the_summary_names_student_teacher_and_memory():
    lines = []
    small_massl().summary(print_fn=lambda line, **_: lines.append(line))
    assert all(name in "\n".join(lines) for name in ("student (Branch)", "teacher (Branch)", "(Memory)"))


def test_an_interruption_says_what_is_kept(tmp_path, capsys):
    from memssl_keras.cli.embed import _kept_when_interrupted
    from memssl_keras.cli.pretrain import _ending
    from memssl_keras.training.checkpoints import Checkpoints

    def said(context):
        with pytest.raises(typer.Exit) as ended, context:
            raise KeyboardInterrupt
        assert ended.value.exit_code == 130
        captured = capsys.readouterr()
        return " ".join((captured.out + captured.err).split())

    assert said(_ending(tmp_path)) == "interrupted before the first checkpoint"
    Checkpoints(tmp_path / "checkpoints").save(500, lambda folder: (folder / "state.json").write_text("{}"))
    (written,) = Checkpoints(tmp_path / "checkpoints").paths()
    assert said(_ending(tmp_path)).replace(" ", "").endswith(f"checkpoints/{written.name}")
    embedding = said(_kept_when_interrupted(tmp_path / "a.parquet"))
    assert embedding == "interrupted; 0 embeddings kept, and the same command resumes"


def test_an_export_that_is_not_whole_ends_with_3(tmp_path, monkeypatch):
    from memssl_keras.export import job

    def refuse(verification, tolerance=None):
        if verification.variant == "int8":
            raise job.ParityError(f"{verification.file} differs; it was not written")

    small_vit().save_pretrained(tmp_path / "model")
    monkeypatch.setattr(job, "check", refuse)
    said = run("export", tmp_path / "model", "--variants", "fp32,int8", code=3)
    assert "not written: model_quantized.onnx differs" in said
    assert [path.name for path in (tmp_path / "model" / "onnx").glob("*.onnx")] == ["model.onnx"]


def test_the_folder_that_a_run_starts_from_is_known_by_any_path(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "model")
    for out in (tmp_path / "link", tmp_path / "link" / ".." / "model", tmp_path / "model"):
        said = run("pretrain", tmp_path, "--init", tmp_path / "model", "--out", out, code=1)
        assert "is the folder of --init, which would be overwritten" in said
