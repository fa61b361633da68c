"""The page as a service: endpoints, bad input and abuse, what is served, a Space, and data sets of the Hub."""

import ast
import http.server
import io
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zlib

import pytest
from demo_page import get, png, save, write_gallery
from demo_speed import search
from PIL import Image

import memssl_keras
from memssl_keras import demo, export
from memssl_keras.demo.gallery import open_gallery
from memssl_keras.demo.models import DEFAULT, open_model
from memssl_keras.demo.naming import THRESHOLDS, Namer
from memssl_keras.demo.pictures import read_upload
from memssl_keras.demo.search import load
from memssl_keras.demo.space import requirements, write_space
from memssl_keras.demo.upkeep import DiskLimit, prune
from memssl_keras.images.read import ImageError

ROOT = pathlib.Path(__file__).parents[2]


def run(address, name, *data):
    """Call an endpoint as a stranger would, by hand; returns its answer or the error's words."""
    body = json.dumps({"data": data, "session_hash": "stranger"}).encode()
    request = urllib.request.Request(
        f"{address}gradio_api/run/{name}", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())["data"][0]
    except urllib.error.HTTPError as error:
        return json.loads(error.read()).get("error")


@pytest.fixture
def client(serve, model):
    gradio_client = pytest.importorskip("gradio_client")
    return gradio_client.Client(serve(model), verbose=False)


def test_the_endpoints_do_what_the_page_does(client, emoji, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    picture = handle_file(save(tmp_path, emoji.gallery.source[300]))
    found = client.predict(picture, 3, {"Set": ["Noto Emoji"]}, api_name="/search")
    expected = emoji.search(emoji.gallery.read(300), 3, {"Set": ["Noto Emoji"]})
    assert [result["row"] for result in found["results"]] == expected.rows.tolist()
    assert {result["columns"]["Set"] for result in found["results"]} == {"Noto Emoji"}
    status, data, headers = get(client.src + found["results"][0]["picture"])
    assert status == 200 and headers["Content-Type"] == "image/webp"
    assert Image.open(io.BytesIO(data)).size == (48, 48)
    part = client.predict(picture, 3, None, [0, 0, 0.5, 0.5], api_name="/search")
    assert part["results"] != found["results"] and part["among"] == 903

    assert client.predict(picture, api_name="/embed") == pytest.approx(emoji.index.vectors[300], abs=1e-6)
    files = [save(tmp_path, png(c), f"{c}.png") for c in ("red", "tomato", "blue", "navy")]
    taught = client.predict(
        [handle_file(f) for f in files], ["warm", "warm", "cold", "cold"], api_name="/teach"
    )
    answer = client.predict(handle_file(files[0]), handle_file(taught), "class mean", api_name="/classify")
    assert next(iter(answer["probabilities"])) == "warm" and answer["examples"][0]["class"] == "warm"
    graph = client.predict(handle_file(taught), "k-NN", api_name="/export")
    assert os.path.getsize(graph) > 1000

    for call, message in [
        (lambda: client.predict(picture, 101, api_name="/search"), "k: got 101; expected 1 to 100"),
        (lambda: client.predict(picture, 3, {"Set": "Noto Emoji"}, api_name="/search"), "filters: got"),
        (lambda: client.predict(picture, 3, None, [1, 2], api_name="/search"), "part: got"),
        (lambda: client.predict([picture], ["a", "b"], api_name="/teach"), "a list of 1 names"),
        (lambda: client.predict(picture, picture, "k-NN", api_name="/classify"), "damaged, or not saved"),
    ]:
        with pytest.raises(AppError, match=message):
            call()


def test_every_endpoint_is_documented(client):
    described = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(described) == ["/classify", "/embed", "/export", "/memory", "/search", "/teach"]


def test_no_file_but_the_gallerys_pictures_is_served(serve, model, tmp_path):
    secret = save(tmp_path, b"secret", "secret.txt")
    gallery = tmp_path / "pictures"
    gallery.mkdir()
    save(gallery, png("red"), "red.png")
    (gallery / "link.png").symlink_to(secret)
    address = serve(model, gallery)
    key = re.search(r"gallery/([0-9a-f]+)/0\.webp", get(f"{address}config")[1].decode())[1]
    assert get(f"{address}gallery/{key}/0.webp")[0] == 200
    for path in ("1", "-1", "99", "0/../../secret", "%2e%2e/secret", "0.webp/../1"):
        status, data, _ = get(f"{address}gallery/{key}/{path}.webp")
        assert status in (404, 410, 422) and b"secret" not in data
    assert get(f"{address}gallery/000000000000/0.webp")[0] == 404
    for path in (secret, gallery / "red.png", "/etc/hostname"):
        assert get(f"{address}gradio_api/file={path}")[0] in (403, 404)
        file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        answer = run(address, "embed", file)
        assert not isinstance(answer, list) and "secret" not in str(answer)
    (gallery / "red.png").write_bytes(b"no longer a picture")
    serve_again = get(f"{address}gallery/{key}/0.webp")
    assert serve_again[0] in (200, 410) and b"no longer" not in serve_again[1]


def test_a_gallery_keeps_working_while_its_files_go(serve, model, tmp_path):
    for colour in ("red", "green", "blue"):
        save(tmp_path, png(colour), f"{colour}.png")
    address = serve(model, tmp_path)
    key = re.search(r"gallery/([0-9a-f]+)/0\.webp", get(f"{address}config")[1].decode())[1]
    (tmp_path / "green.png").unlink()
    assert get(f"{address}gallery/{key}/1.webp")[0] == 410


def bomb(width, height):
    """A PNG of black pixels: a thousandth of their size, whole."""
    chunk = lambda kind, data: (  # noqa: E731
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    packer, line, parts = zlib.compressobj(9), b"\0" * (1 + (width + 7) // 8), []
    parts += [packer.compress(line) for _ in range(height)]
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = b"".join(parts) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_picture_is_refused_in_words(tmp_path):
    noise = png("red", (64, 64))
    for name, data, message in [
        ("bomb.png", bomb(10_000, 10_001), r"10000 x 10001 pixels: 100 megapixels are more than the 50"),
        ("huge.png", bomb(30_000, 30_000), r"900 megapixels are more than the 50|exceeds limit"),
        ("cut.png", noise[: len(noise) // 2], "truncated or damaged"),
        ("empty.png", b"", "the file is empty"),
        ("page.png", b"<svg onload=alert(1)>", "not an image"),
    ]:
        with pytest.raises(ImageError, match=message) as caught:
            read_upload(save(tmp_path, data, name))
        assert str(tmp_path) not in str(caught.value)  # a path of the server is nobody's business


def test_uploads_in_a_row_do_not_fill_the_disk(tmp_path):
    for number in range(30):
        folder = tmp_path / f"{number:02d}"
        folder.mkdir()
        save(folder, b"x" * 1000, "picture.png")
        os.utime(folder / "picture.png", (number, number))
    assert prune(tmp_path, 10_000) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n:02d}" for n in range(20, 30)]
    assert prune(tmp_path, 10_000) == 0


def test_the_disk_is_looked_at_after_many_uploads(tmp_path):
    import asyncio

    async def application(scope, receive, send):
        await receive()

    async def receive():
        return {"type": "http.request", "body": b"x" * 2**20}

    limit = DiskLimit(application, tmp_path, most=2500)
    for number in range(5):
        save(tmp_path, b"x" * 1000, f"{number}.png")
    post = {"type": "http", "method": "POST"}
    for _ in range(33):
        asyncio.run(limit(post, receive, None))
    for _ in range(100):
        if len(list(tmp_path.iterdir())) == 2:
            break
        threading.Event().wait(0.05)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_the_server_stays_whole_through_bad_requests(serve, model):
    address = serve(model)
    for data in (
        [],
        [None],
        ["text"],
        [{"path": None}],
        [{"url": "http://127.0.0.1:9/x.png"}],
        [[1]],
        [{"path": "../x"}],
    ):
        assert not isinstance(run(address, "embed", *data), list)
    for body in (b"", b"{", b"[]", b'{"data": 7}', b'{"data": [], "fn_index": 999}'):
        request = urllib.request.Request(
            f"{address}gradio_api/run/predict", body, {"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=30)
    assert search(address, png("red"), "guest") == 12


def test_many_users_at_once_get_their_own_answers(serve, model, emoji):
    address, wrong = serve(model), []

    def user(row):
        for _ in range(3):
            if search(address, emoji.gallery.source[row], f"user-{row}") != 12:
                wrong.append(row)

    threads = [threading.Thread(target=user, args=(row,)) for row in range(0, 900, 90)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_first_visitor_waits_for_no_library(model):
    """All that computes products is loaded and limited to a thread, and no event imports what takes a second."""
    code = (
        "import sys\nfrom memssl_keras.demo.app import launch\nfrom threadpoolctl import threadpool_info\n"
        "launch(*sys.argv[1:], port=None, open_browser=False, prevent_thread_lock=True, quiet=True)\n"
        "from gradio.utils import MatplotlibBackendMananger as Backend\nwith Backend(): pass\n"
        "import memssl_keras.demo.classifiers, sklearn.linear_model\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "print([(one['filepath'], one['num_threads']) for one in threadpool_info() if one['user_api'] == 'blas'])\n"
    )
    command = [sys.executable, "-c", code, str(model), str(model.parent / "none.parquet")]
    write_gallery(model.parent / "none.parquet", [png("red"), png("blue")])
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, env=free)
    assert done.returncode == 0, done.stderr
    libraries = ast.literal_eval(done.stdout.splitlines()[-1])
    assert libraries and all(threads == 1 for _, threads in libraries), libraries


def test_listens_on_this_computer_alone(serve, model):
    assert serve(model).startswith("http://127.0.0.1:")


@pytest.mark.slow
def test_a_space_runs_from_its_folder(tmp_path, model, colours):
    space = write_space(tmp_path / "space", model, colours, "Colours")
    card = (space / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\ntitle: Colours\n") and "sdk: gradio\n" in card and "app_file: app.py" in card
    wanted = (space / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert wanted == requirements()
    assert {re.split(r"[<>=]", line)[0] for line in wanted} >= {
        "numpy",
        "onnxruntime",
        "gradio",
        "typer",
        "pyarrow",
    }
    assert not any(line.startswith(("torch", "keras")) for line in wanted)
    for name, module in (("", memssl_keras), ("demo", demo), ("export", export)):
        here = pathlib.Path(module.__file__).parent
        code = {path.relative_to(here) for path in here.rglob("*.py")}
        assert all((space / "memssl_keras" / name / path).is_file() for path in code), name
    code = (
        # What an installation for development would find elsewhere.
        "import sys\nsys.meta_path = [one for one in sys.meta_path if 'editable' not in repr(one)]\n"
        "import memssl_keras, os, pathlib\nfrom memssl_keras.demo import app\n"
        "assert pathlib.Path(memssl_keras.__file__).is_relative_to(os.getcwd()), memssl_keras.__file__\n"
        "assert pathlib.Path(app.__file__).is_relative_to(os.getcwd()), app.__file__\n"
        "app.launch = lambda *a, **o: print(type(app.build_app(*a)).__name__, len(app.load(*a).gallery), o)\n"
        "exec(open('app.py').read())\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=space,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert output.returncode == 0, output.stderr
    assert output.stdout.strip().endswith("Blocks 3 {'host': '0.0.0.0', 'open_browser': False}")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        write_space(space, model)


@pytest.mark.slow
def test_a_space_of_the_bundled_model_still_says_when_it_is_unsure(tmp_path, monkeypatch):
    space = write_space(tmp_path / "space")
    monkeypatch.chdir(space)
    spec = re.search(r"launch\('(.+?)', None", (space / "app.py").read_text()).group(1)
    open_model.cache_clear()
    retrieval = load(spec)
    open_model.cache_clear()
    assert not retrieval.model.file.is_absolute() and retrieval.model.file.is_file()
    assert Namer(retrieval).threshold == THRESHOLDS[DEFAULT] and retrieval.fresh == 0


def test_a_space_of_another_library_s_model(tmp_path, model, colours):
    """Its preprocessing and its file lie where they did."""
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(model / "onnx" / "model.onnx", other / "model.onnx")
    (other / "config.json").write_text('{"model_type": "vit"}')
    settings = json.loads((model / "config.json").read_text())["preprocessing"]
    size = {"height": settings["image_size"], "width": settings["image_size"]}
    wanted = {"do_resize": True, "size": size, "do_center_crop": False, "do_normalize": True, "resample": 3}
    wanted |= {"image_mean": settings["mean"], "image_std": settings["std"], "rescale_factor": 1 / 255}
    (other / "preprocessor_config.json").write_text(json.dumps(wanted))
    for spec, inside in ((other, "other"), (other / "model.onnx", "other/model.onnx")):
        space = write_space(tmp_path / f"space {inside.count('/')}", spec, colours)
        assert f"launch('{inside}', 'pictures.parquet'" in (space / "app.py").read_text()
        before, after = (open_model(str(place)).encoder for place in (spec, space / inside))
        assert before.revision() == after.revision()


def test_a_space_that_cannot_be_written_leaves_nothing(tmp_path, model, colours, monkeypatch):
    monkeypatch.setattr("memssl_keras.demo.space._copy_package", lambda target: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_space(tmp_path / "space", model, colours)
    assert [path for path in tmp_path.iterdir() if "space" in path.name] == []


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as the client asks for: one data set, with the branch of Parquet files."""

    files: dict = {}

    def do_GET(self):  # noqa: N802
        if "/api/datasets/ann/colours/tree/" in self.path:
            files = [
                {"type": "file", "path": p, "size": len(d), "oid": "2" * 40} for p, d in self.files.items()
            ]
            return self._say(json.dumps(files).encode())
        if "/api/datasets/ann/colours/" in self.path:
            files = [{"rfilename": path} for path in self.files]
            return self._say(json.dumps({"id": "ann/colours", "sha": "1" * 40, "siblings": files}).encode())
        name = next((file for file in self.files if self.path.endswith(file)), None)
        return self._say(self.files[name]) if name else self._say(b'{"error": "Repository not found"}', 404)

    do_HEAD = do_GET  # noqa: N815

    def _say(self, data, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("ETag", f'"{zlib.crc32(data):08x}"')
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *arguments):
        pass


def test_a_data_set_of_the_hub_is_a_gallery(tmp_path):
    path = write_gallery(tmp_path / "x.parquet", [png("red"), png("blue")], kind=["warm", "cold"])
    Hub.files = {
        "default/train/0000.parquet": path.read_bytes(),
        "default/test/0000.parquet": b"",
        "other/test/0000.parquet": b"",
    }
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = (
            "import sys\nfrom memssl_keras.demo.gallery import open_gallery\n"
            "for name in sys.argv[1:]:\n"
            "    try: print(len(open_gallery(name)), list(open_gallery(name).columns))\n"
            "    except ValueError as error: print(error)\n"
        )
        names = ["hub:ann/colours", "hub:ann/colours:nothing", "hub:ann/missing", "hub:ann/../x"]
        output = subprocess.run(
            [sys.executable, "-c", code, *names],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                "HF_HOME": str(tmp_path),
            },
        )
        server.shutdown()
    assert output.returncode == 0, output.stderr
    lines = output.stdout.splitlines()
    assert lines[0] == "2 ['Kind']"
    assert "expected a configuration of default, other" in lines[1]
    assert "hub:ann/missing: the Hub gives no Parquet files of it" in lines[2]
    assert "got 'hub:ann/../x'; expected hub:OWNER/NAME" in lines[3]


@pytest.mark.slow
def test_the_benchmark_measures_a_small_run(model, hands, demo_cache):
    output = subprocess.run(
        [
            sys.executable,
            ROOT / "zoo" / "benchmarks",
            "demo",
            "--model",
            str(model),
            "--gallery",
            str(hands),
            "--users",
            "3",
            "--requests",
            "20",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert output.returncode == 0, output.stderr
    assert "3 users, 20 searches in 903 pictures" in output.stdout
    assert len(output.stdout.splitlines()[-1].partition(": ")[2].split()) == 11


def test_the_command_says_what_is_wrong_and_writes_spaces(tmp_path, model):
    from typer.testing import CliRunner

    from memssl_keras.cli import app

    result = CliRunner().invoke(app, ["demo", "--gallery", str(tmp_path / "none")])
    assert result.exit_code == 1 and "no such file or folder" in result.output
    result = CliRunner().invoke(app, ["demo", "--model", "no such model"])
    assert result.exit_code == 1 and "expected the folder of a saved encoder" in " ".join(
        result.output.split()
    )
    space = tmp_path / "space"
    result = CliRunner().invoke(app, ["demo", "--model", str(model), "--space", str(space)])
    assert result.exit_code == 0 and (space / "app.py").is_file(), result.output


def test_an_unknown_gallery_is_said_before_a_page_opens():
    with pytest.raises(ValueError, match="gallery: .*no such file or folder"):
        open_gallery("nowhere at all")
