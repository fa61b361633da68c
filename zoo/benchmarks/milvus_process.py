"""milvus-lite as a server process on localhost, started, restarted and weighed."""

import contextlib
import functools
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

PATIENCE = 600  # seconds to begin to listen


class ServerProcess:
    """`milvus-lite server` on a folder, as a context or by `start` and `stop`; it may be started again.

    Attributes:
        uri: Its address.
        peak_mb: The most memory that it held, of all its starts.
    """

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.uri, self.peak_mb = folder, f"http://127.0.0.1:{self.port}", 0

    def start(self):
        """Start it, and return once it listens."""
        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self.folder)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        # A job in a shell's background ignores Ctrl-C, and its children would too.
        hears = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=hears)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            time.sleep(0.1)
        self.stop(signal.SIGKILL)
        raise RuntimeError(f"{' '.join(command)}: does not listen (exit code {self.process.returncode})")

    def stop(self, how=signal.SIGINT, patience=float("inf")):
        """End it with a signal; after `patience` seconds it is killed."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        end = time.monotonic() + patience
        while self.process.poll() is None:  # it builds the graphs that are missing before it ends
            with contextlib.suppress(OSError, TypeError):
                self.peak_mb = max(self.peak_mb, self.memory_mb("VmHWM"))
            if time.monotonic() > end:
                self.process.kill()
            time.sleep(0.1)

    def __enter__(self):
        return self.start()

    def __exit__(self, *error):
        self.stop()

    def memory_mb(self, which="VmRSS"):
        """Memory that it holds now, or with `VmHWM` held at most since its start."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return round(int(re.search(rf"{which}:\s+(\d+) kB", status)[1]) / 1024)
