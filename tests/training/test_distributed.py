"""Two processes against one: the same losses, memory and checkpoints, and an end when one of them dies."""

import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from kill_and_resume import differences

from memssl_keras.demo.gallery import BUNDLED
from memssl_keras.training import distributed
from memssl_keras.training.checkpoints import Checkpoints

pytestmark = pytest.mark.slow

HELPERS = pathlib.Path(__file__).parents[1] / "helpers"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def command(processes, script, *arguments):
    start = [sys.executable] if processes == 1 else TORCHRUN
    return [*start, str(HELPERS / script), *map(str, arguments)]


def run(processes, script, *arguments):
    done = subprocess.run(command(processes, script, *arguments), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def steps(folder, processes, *options):
    """Losses, memories and weights of 20 steps on real pictures."""
    path = folder / f"{processes}{''.join(options)}.npz"
    run(processes, "distributed_run.py", path, "--images", BUNDLED, *options)
    return np.load(path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return steps(tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize(
    "processes, options", [(2, ()), (1, ("--accumulate", "2")), (2, ("--accumulate", "2"))]
)
def test_processes_and_parts_give_the_losses_of_one_batch(tmp_path, alone, processes, options):
    together = steps(tmp_path, processes, *options)
    assert len(together["losses"]) == 20 and np.ptp(together["losses"][:, 0]) > 0.01
    np.testing.assert_allclose(together["losses"], alone["losses"], rtol=1e-5)
    assert len(together["memories"]) == processes
    for memory in together["memories"]:
        np.testing.assert_array_equal(memory, together["memories"][0])
    np.testing.assert_allclose(together["memories"][0], alone["memories"][0], atol=1e-5)


def test_batch_norm_and_koleo_see_all_processes(tmp_path):
    options = ("--batch-norm", "--koleo", "0.1")
    alone, together = steps(tmp_path, 1, *options), steps(tmp_path, 2, *options)
    # The biases in front of batch norm have no true gradient: Adam lets them, and what hangs on them, drift apart.
    np.testing.assert_allclose(together["losses"][:5], alone["losses"][:5], rtol=1e-5)
    np.testing.assert_allclose(together["losses"], alone["losses"], rtol=2e-4)
    np.testing.assert_array_equal(together["memories"][0], together["memories"][1])


def test_a_run_of_two_processes_goes_on_bit_for_bit_and_on_one_says_that_it_is_not(tmp_path):
    run(2, "tiny_run.py", tmp_path / "alone")
    broken = subprocess.run(
        command(2, "tiny_run.py", tmp_path / "run", "--die-at", "17"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert broken.returncode != 0
    assert "another process of the run has died or hangs" in broken.stderr, broken.stderr[-3000:]
    assert [p.name for p in Checkpoints(tmp_path / "run" / "checkpoints").paths()][-1] == "step-00000015"

    (tmp_path / "one").mkdir()
    subprocess.run(["cp", "-r", tmp_path / "run", tmp_path / "one"], check=True)
    told = run(1, "tiny_run.py", tmp_path / "one" / "run")
    assert "will not have the same bits" in told and "processes 2, now 1" in told
    assert Checkpoints(tmp_path / "one" / "run" / "checkpoints").newest().name == "step-00000039"

    told = run(2, "tiny_run.py", tmp_path / "run")
    assert told.count("resumed at epoch 2, step 2 of 13") == 1
    assert differences(tmp_path / "alone", tmp_path / "run") == []


def test_sigterm_ends_all_processes_after_the_same_step(tmp_path):
    process = subprocess.Popen(
        command(2, "tiny_run.py", tmp_path / "run", "--every", "1000", "--epochs", "200"),
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 200
    while not list(tmp_path.glob("run/checkpoints/step-*")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=120)[1].decode()
    assert process.returncode != 0 and "another process" not in error, error
    assert Checkpoints(tmp_path / "run" / "checkpoints").newest() is not None


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    done = subprocess.run(
        command(2, "distributed_run.py", tmp_path / "x.npz", "--images", BUNDLED, "--batch", "15"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert "batch_size=15 is not a multiple of world_size=2" in done.stderr


def test_one_process_needs_no_group():
    distributed.join()
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert (
        distributed.from_main(lambda: 3) == 3 and distributed.any_of(True) and not distributed.any_of(False)
    )
    assert distributed.interleaved(lambda items: np.array(items), [1, 2]).tolist() == [1, 2]
    with (
        pytest.raises(distributed.ProcessLost, match="process 0 stops: another process"),
        distributed.noticing_loss(),
    ):
        raise RuntimeError("[gloo/pair.cc] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shapes"), distributed.noticing_loss():
        raise RuntimeError("shapes do not fit")
