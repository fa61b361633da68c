"""Lock files: held by the living, taken over from the dead, and never from who is just writing theirs."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from memssl_keras.files import Locked, lock

TAKE = "import os, sys; from memssl_keras.files import lock\nwith lock(sys.argv[1]): os._exit(0)"


@pytest.fixture
def left(tmp_path):
    """The lock that a process left which died while it held it."""
    path = tmp_path / ".lock"
    subprocess.run([sys.executable, "-c", TAKE, path], check=True)
    assert path.exists()
    return path


def test_what_a_dead_process_left_is_taken_over(left):
    with lock(left):
        assert json.loads(left.read_text())["process"] == os.getpid()
    assert not left.exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux tells when a process started")
def test_the_number_of_a_dead_process_went_to_another(left):
    held = json.loads(left.read_text())
    left.write_text(json.dumps({**held, "process": os.getpid()}))
    with lock(left):
        assert json.loads(left.read_text())["started"] != held["started"]


def test_a_lock_that_is_being_written_is_not_taken(tmp_path):
    path, owner = (
        tmp_path / ".lock",
        {"process": os.getpid(), "machine": os.uname().nodename, "since": "then"},
    )
    path.touch()
    writing = threading.Timer(0.3, lambda: path.write_text(json.dumps(owner)))
    writing.start()
    with (
        pytest.raises(Locked, match=f"process {os.getpid()} on .* has been writing there since then"),
        lock(path),
    ):
        pass
    writing.join()
    assert path.exists()


def test_a_lock_that_nobody_finished_is_taken_over(tmp_path):
    path = tmp_path / ".lock"
    path.touch()
    os.utime(path, (time.time() - 60,) * 2)
    with lock(path):
        assert path.stat().st_size
