"""Kills a run at random moments, lets it go on each time, and compares it with a run that was left alone.

`python tests/helpers/kill_and_resume.py FOLDER --kills 20` is the long version of what the tests do.
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import sys
import time

import h5py
import numpy as np


def differences(one, other):
    """Names of everything in which the results of two runs differ by so much as a bit."""
    one, other = pathlib.Path(one), pathlib.Path(other)
    files = ("metrics.csv", "run.json", "config.json", "model.safetensors")
    found = [name for name in files if (one / name).read_bytes() != (other / name).read_bytes()]
    last = [sorted((folder / "checkpoints").glob("step-*"))[-1] for folder in (one, other)]
    states = [arrays_of(path / "model.keras") for path in last]
    if last[0].name != last[1].name or states[0].keys() != states[1].keys():
        return [*found, "checkpoints"]
    return found + [k for k, v in states[0].items() if v.tobytes() != states[1][k].tobytes()]


def arrays_of(path):
    """All arrays in a `.keras` file, by name."""
    import io
    import zipfile

    arrays = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item)

    with zipfile.ZipFile(path) as archive:
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))).visititems(note)
    return arrays


def _fork(folder, arguments):
    """Starts the tiny run in a process of its own; the imports are done, so that it costs little."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()  # its workers die with it
        import tiny_run

        sys.argv = ["tiny_run", str(folder), *arguments]
        with open(f"{folder}.log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        tiny_run.main()
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def _wait(process, seconds):
    """Whether the process ended by itself within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitpid(process, os.WNOHANG)[0]:
            return True
        time.sleep(0.005)
    return False


def kill_and_resume(folder, kills, seed=0, arguments=()):
    """Kill runs `kills` times in all, each as often as it takes to end; an AssertionError tells what differs."""
    import memssl_keras.training.massl  # noqa: F401  imported once, before the forks
    import memssl_keras.training.pretrain  # noqa: F401

    folder, rng = pathlib.Path(folder), random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    alone, killed, count = folder / "alone", folder / "killed", 0
    began = time.monotonic()
    assert os.waitpid(_fork(alone, arguments), 0)[1] == 0, f"the run failed, see {alone}.log"
    length = time.monotonic() - began
    while True:
        process = _fork(killed, arguments)
        ended = _wait(process, rng.uniform(0, length) if count < kills else 100 * length + 600)
        if not ended:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            count += 1
            there = sorted(path.name for path in killed.glob("checkpoints/*"))
            print(f"kill {count} of {kills}: {', '.join(there) or 'no checkpoint yet'}", flush=True)
            continue
        found = differences(alone, killed)
        assert not found, f"after {count} kills these differ: {', '.join(found)}"
        print(f"ended: the same bits as the run that was left alone, after {count} kills", flush=True)
        if count >= kills:
            return count
        shutil.rmtree(killed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options, for_the_run = parser.parse_known_args()
    kill_and_resume(options.folder, options.kills, options.seed, for_the_run)
