"""The demo under load: round trips of searches through HTTP by many users at once, and the server's memory."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from typing import Annotated

import numpy as np
import typer

_SERVER = """
import sys, time
from memssl_keras.demo.app import launch
model, gallery = sys.argv[1:]
print(launch(model or None, gallery or None, port=None, open_browser=False, prevent_thread_lock=True, quiet=True)[1])
sys.stdout.flush()
time.sleep(1e6)
"""


def resident(pid):
    """Bytes of memory that a process holds, as Linux counts them."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def processor(pid):
    """Seconds that a process has had of the processor, as Linux counts them."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def search(address, picture, session, boundary="memssl"):
    """One search as a browser or client makes it: upload, call, and the result; returns the number of results."""
    part = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="q.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode()
    body = part + picture + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    path = json.loads(_post(f"{address}gradio_api/upload", body, kind))[0]
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    query = {"data": [file, 12, None, None], "session_hash": session}
    answer = _post(
        f"{address}gradio_api/run/search", json.dumps(query).encode(), {"Content-Type": "application/json"}
    )
    return len(json.loads(answer)["data"][0]["results"])


def _post(url, body, headers):
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        return answer.read()


def measure(address, pid, users, requests, pictures):
    """Seconds of each round trip `(requests,)`, and the server's memory `(11,)` at the start and after each tenth."""
    seconds, memory, lock, done = [], [resident(pid)], threading.Lock(), iter(range(requests))

    def user():
        session = uuid.uuid4().hex
        while True:
            with lock:
                number = next(done, None)
            if number is None:
                return
            start = time.perf_counter()
            if search(address, pictures[number % len(pictures)], session) != 12:
                raise RuntimeError("the demo found other than 12 pictures")
            with lock:
                seconds.append(time.perf_counter() - start)
                if len(seconds) % (requests // 10) == 0:
                    memory.append(resident(pid))

    threads = [threading.Thread(target=user) for _ in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(seconds), np.array(memory)


def benchmark_demo(
    gallery: Annotated[str, typer.Option(help="Parquet or folder of images; the icons by default.")] = "",
    model: Annotated[str, typer.Option(help="Bundled model or folder of one; the first by default.")] = "",
    users: Annotated[int, typer.Option(min=1, help="Users who search at once.")] = 20,
    requests: Annotated[int, typer.Option(min=10, help="Searches in all.")] = 2000,
):
    """Time searches of many users at once, upload included, and watch the server's memory (Linux only)."""
    from rich.console import Console

    from memssl_keras.demo.gallery import open_gallery

    console, source = Console(), open_gallery(gallery or None).source
    items = [source[i] for i in range(0, len(source), max(len(source) // 50, 1))]
    pictures = [item if isinstance(item, bytes) else pathlib.Path(item).read_bytes() for item in items]
    command = [sys.executable, "-c", _SERVER, model, gallery]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as server:
        try:
            address = server.stdout.readline().strip()
            if not address:
                raise RuntimeError("the demo did not start; its error stands above")
            for picture in pictures[:20]:
                search(address, picture, "warm")
            before = processor(server.pid)
            seconds, memory = measure(address, server.pid, users, requests, pictures)
            used = processor(server.pid) - before
        finally:
            server.terminate()
    p50, p95, p99 = 1000 * np.percentile(seconds, (50, 95, 99))
    console.print(
        f"{users} users, {requests:,} searches in {len(source):,} pictures: "
        f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms"
    )
    console.print(
        f"{1000 * used / requests:.1f} ms of a processor of the server for a search; load of the machine at the end "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    console.print(
        "MiB of the server, at the start and after each tenth: "
        + " ".join(f"{m / 2**20:.0f}" for m in memory)
    )
