"""Runs that were interrupted, in every way that happens, against the same run left alone."""

import dataclasses
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys

import pytest
from kill_and_resume import arrays_of, differences
from tiny_run import RECIPE, pictures

from memssl_keras.training.checkpoints import CheckpointError, Checkpoints
from memssl_keras.training.pretrain import pretrain
from memssl_keras.training.settings import SettingsChanged

pytestmark = pytest.mark.slow

HELPERS = pathlib.Path(__file__).parents[1] / "helpers"
SHORT = dataclasses.replace(RECIPE, epochs=2)
IMAGES = pictures(24)


def run(folder, recipe=SHORT, **options):
    lines = []
    model = pretrain(recipe, IMAGES, folder, checkpoint_every=3, say=lines.append, **options)
    return model, lines


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    run(folder)
    return folder


def test_a_run_that_is_done_says_so(alone, tmp_path):
    shutil.copytree(alone, tmp_path / "run")
    assert run(tmp_path / "run")[1] == ["all 2 epochs are done"]


def interrupted(folder, after):
    """A run that was left in the lurch after so many steps, by an error in the step behind them."""
    import keras

    class Crash(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.step == after:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, callbacks=[Crash()])


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_runs_end_with_the_same_bits(tmp_path, workers):
    command = [
        sys.executable,
        str(HELPERS / "kill_and_resume.py"),
        str(tmp_path),
        "--kills",
        str(4 - 2 * workers),
    ]
    done = subprocess.run([*command, "--workers", str(workers)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bits" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_asks_a_run_to_end_lets_it_save(tmp_path, number, code):
    """Sent to the whole group, as a scheduler and a terminal send it: the workers stay until it is saved."""
    command = [sys.executable, str(HELPERS / "tiny_run.py")]
    options = ["--workers", "1", "--every", "1000", "--epochs", "40"]
    options += ["--signal", str(int(number)), "--signal-at", "18"]  # the fifth step of an epoch of 13
    process = subprocess.Popen([*command, str(tmp_path / "run"), *options], start_new_session=True, stderr=-1)
    error = process.communicate(timeout=300)[1].decode()
    assert process.returncode == code and "Traceback" not in error, error
    newest = Checkpoints(tmp_path / "run" / "checkpoints").newest()
    assert newest.name in ("step-00000018", "step-00000019"), "it was to stop within an epoch"


def test_resume_is_exact_in_mid_epoch(tmp_path, alone):
    interrupted(tmp_path, after=7)
    _, lines = run(tmp_path)
    assert lines == ["resumed at epoch 2, step 2 of 4"]
    assert differences(alone, tmp_path) == []


def test_resume_of_a_finished_run_changes_nothing(tmp_path, alone):
    shutil.copytree(alone, tmp_path / "run")
    run(tmp_path / "run")
    assert differences(alone, tmp_path / "run") == []


def test_last_three_checkpoints_stay(alone):
    names = [path.name for path in Checkpoints(alone / "checkpoints").paths()]
    assert names == ["step-00000004", "step-00000006", "step-00000008"]
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=alone / "checkpoints" / names[0], check=True
    )


def truncate(path):
    os.truncate(path / "model.keras", (path / "model.keras").stat().st_size // 2)


def flip_a_bit(path):
    content = bytearray((path / "state.json").read_bytes())
    content[3] ^= 1
    (path / "state.json").write_bytes(content)


def lose_a_file(path):
    (path / "model.keras").unlink()


def empty_the_sums(path):
    (path / "SHA256SUMS").write_bytes(b"\xff")


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, lose_a_file, empty_the_sums])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, alone, harm):
    shutil.copytree(alone, tmp_path / "run")
    harm(tmp_path / "run" / "checkpoints" / "step-00000008")
    _, lines = run(tmp_path / "run")
    assert len(lines) == 2
    assert re.match(r"checkpoint step-00000008 is damaged \(.+\): taking the one before it", lines[0])
    assert lines[1] == "resumed at epoch 2, step 2 of 4"
    assert differences(alone, tmp_path / "run") == []


def test_all_damaged_is_an_error(tmp_path, alone):
    shutil.copytree(alone, tmp_path / "run")
    for path in Checkpoints(tmp_path / "run" / "checkpoints").paths():
        truncate(path)
    with pytest.raises(CheckpointError, match="all 3 checkpoints are damaged"):
        run(tmp_path / "run")


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, alone):
    interrupted(tmp_path, after=7)
    before = {p.name: arrays_of(p / "model.keras") for p in Checkpoints(tmp_path / "checkpoints").paths()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # what a file may hold, less than a model
    try:
        with pytest.raises(
            CheckpointError, match=r"could not be written .+ step-00000006 before it is whole"
        ):
            run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store = Checkpoints(tmp_path / "checkpoints")
    assert [path.name for path in store.paths()] == list(before)
    assert not list(store.folder.glob(".*"))
    run(tmp_path)
    assert differences(alone, tmp_path) == []


def test_changed_settings_are_named_and_refused(tmp_path):
    interrupted(tmp_path, after=7)
    longer = dataclasses.replace(SHORT, epochs=3, learning_rate=1e-3)
    with pytest.raises(
        SettingsChanged, match=r"epochs was 2, now 3; learning_rate was 0.0005, now 0.001\. .+allow"
    ):
        run(tmp_path, longer)
    with pytest.raises(SettingsChanged, match="seed was 0, now 1"):
        run(tmp_path, seed=1)
    model, lines = run(tmp_path, longer, allow_changed=True)
    assert model.step == 12 and "epochs was 2, now 3" in lines[0]
    run(tmp_path, longer)  # they are the run's settings now


def test_another_batch_size_keeps_its_place_in_the_schedules(tmp_path):
    interrupted(tmp_path, after=7)
    model, lines = run(tmp_path, dataclasses.replace(SHORT, batch_size=12), allow_changed=True)
    assert lines[0].startswith("resumed at epoch 2, step 1 of 2")
    assert model.step == 7


def test_a_finished_run_keeps_the_settings_that_it_was_trained_with(tmp_path):
    run(tmp_path)
    record = (tmp_path / "run.json").read_bytes()
    slower = dataclasses.replace(SHORT, learning_rate=1e-3)
    with pytest.raises(
        SettingsChanged, match=r"all 2 epochs are done: .*\(learning_rate was 0.0005, now 0.001\)"
    ):
        run(tmp_path, slower, allow_changed=True)
    assert (tmp_path / "run.json").read_bytes() == record
    model, _ = run(tmp_path, dataclasses.replace(slower, epochs=3), allow_changed=True)
    assert model.step == 12
    run(tmp_path, dataclasses.replace(slower, epochs=2), allow_changed=True)  # ended earlier than planned


def test_what_shapes_the_model_cannot_change(tmp_path):
    interrupted(tmp_path, after=7)
    with pytest.raises(SettingsChanged, match=r"do not fit these settings \(hidden_dim was 32, now 48\)"):
        run(tmp_path, dataclasses.replace(SHORT, hidden_dim=48), allow_changed=True)


def test_refuses_settings_of_checkpoints_that_make_no_sense(tmp_path):
    with pytest.raises(ValueError, match="checkpoint_every=0"):
        pretrain(SHORT, IMAGES, tmp_path, checkpoint_every=0)
    with pytest.raises(ValueError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)
