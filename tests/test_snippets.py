"""What we print, run as written: snippets of the README, the documentation and the bundled cards, examples of the help.

Small files stand in for those that a snippet names, and a small recipe for the one that it names. The Hub is a server
on localhost.
"""

import dataclasses
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
import typer
from commands import run
from hub_server import lead_to, serving
from memory_run import RESNET
from PIL import Image
from small_models import position_waves, small_vit
from tiny_run import pictures

from memssl_keras.cli import app

ROOT = pathlib.Path(__file__).parents[1]
CARDS = sorted((ROOT / "zoo" / "weights").glob("*/README.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *CARDS]
NO_CODE = {"bibtex"}
CHECKPOINT = ROOT / "tests" / "goldens" / "massl_vit_checkpoint.pth"

# What is not run, and why. A line that is printed nowhere any more fails `test_what_is_not_run_is_still_printed`.
NOT_RUN = {
    "make demo": "installs from the network, then serves until interrupted; tests/demo serves the same page",
    "make test": "would run this test again",
    "memssl embed inbox/ --model runs/photos --watch --out index/": "stays until interrupted; see "
    "tests/embedding/test_watch.py",
    "memssl embed photos/ --model runs/photos --engine ray --actors 8 --out all.parquet": "starts eight processes; see "
    "tests/embedding/test_ray.py",
}


def snippets(path):
    """(language, code) of a page's code blocks."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [(language, code) for language, code in found if language not in NO_CODE]


def commands(code):
    """The commands of a shell snippet, without comments."""
    lines = [line.partition(" #")[0].strip() for line in code.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if line]


def printed():
    """Every command and every Python snippet: (page, language, code)."""
    found = []
    for path in PAGES:
        page = path.relative_to(ROOT).as_posix()
        for language, code in snippets(path):
            parts = commands(code) if language == "sh" else [code]
            found += [(page, language, part) for part in parts]
    return found


PRINTED = printed()


def named(kind):
    """Parameters of a test: each snippet of a language once, under its first line or what it imports."""
    found = {code: page for page, language, code in PRINTED if language == kind}
    return [
        pytest.param(code, id=f"{page}: {code.splitlines()[0]}")
        for code, page in found.items()
        if code not in NOT_RUN
    ]


def test_every_language_is_known():
    assert {language for _, language, _ in PRINTED} <= {"python", "sh"}
    assert {page for page, language, _ in PRINTED if language == "python"} >= {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *CARDS)
    }


def test_what_is_not_run_is_still_printed():
    assert set(NOT_RUN) <= {code for _, _, code in PRINTED}
    assert all(NOT_RUN.values())


def write_pictures(folder, count, seed=0):
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(count, seed=seed)):
        Image.fromarray(picture).save(folder / f"{number:02d}.png")


def small_checkpoint(path):
    """The weights of a ViT under timm's names, as DINO publishes its own."""
    import torch
    from safetensors.torch import load_file

    small_vit(embed_dim=192, num_heads=3, depth=1).save_pretrained(path.parent / "vit")
    state = load_file(path.parent / "vit" / "model.safetensors")
    # As trained ones are: alike where patches are neighbours.
    state["pos_embed"][0, 1:] = torch.from_numpy(position_waves(4, 4, 192))
    torch.save(state, path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the pictures and checkpoints that snippets name."""
    place = tmp_path_factory.mktemp("files")
    write_pictures(place / "photos", 24)
    for name in ("labelled", "a", "b"):
        for seed, kind in enumerate(("mug", "pen")):
            write_pictures(place / name / "train" / kind, 12, seed=seed)
            write_pictures(place / name / "test" / kind, 6, seed=seed + 2)
    for name in ("holiday", "photo", "cat", "mug1", "mug2", "pen1", "pen2", "what"):
        Image.open(place / "photos" / "00.png").save(place / f"{name}.jpg")
    small_checkpoint(place / "dino_deitsmall16_pretrain.pth")
    shutil.copy(CHECKPOINT, place / "vits16_800ep.pth")
    return place


@pytest.fixture(scope="module")
def stand_ins(files, tmp_path_factory):
    """These and what earlier commands leave: `runs/photos` is a run of `photos/`, exported."""
    place = tmp_path_factory.mktemp("snippets") / "place"
    shutil.copytree(files, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        use_small_models(patch)
        run("pretrain", "photos/", "--recipe", "vits16_in1k", "--workers", 0, "--out", "runs/photos")
        run("export", "runs/photos", "--variants", "fp32,int8", "--raw-pixels")
        shutil.copy("runs/photos/onnx/model.onnx", "other.onnx")
        run("embed", "photos/", "--model", "runs/photos", "--out", "photos.parquet", "--to", "photos.db")
        run("convert", "vits16_800ep.pth", "--out", "massl-vits16")
        run("whiten", "runs/photos", "photos/", "--out", "photos-model", "--half")
    return place


def use_small_models(patch):
    """The recipe is small, and the width of the small checkpoint is one of those whose heads are known."""
    from memssl_keras.training import recipes
    from memssl_keras.weights.readers import family

    patch.setitem(family.HEADS, 48, 3)
    patch.setitem(recipes.RECIPES, "vits16_in1k", dataclasses.replace(RESNET, epochs=1))


@pytest.fixture
def place(request, tmp_path, monkeypatch):
    """A copy of the stand-ins, which is the working folder; without a run where the snippet names none."""
    code = request.node.callspec.params["code"]
    left = ("runs/photos", "photos.parquet", "photos.db", "massl-vits16")
    folder = tmp_path / "place"
    needed = "stand_ins" if any(name in code for name in left) else "files"
    shutil.copytree(request.getfixturevalue(needed), folder)
    monkeypatch.chdir(folder)
    use_small_models(monkeypatch)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The Hub on localhost, with a model under the names that snippets ask for."""
    from huggingface_hub import constants

    with serving() as server:
        lead_to(server.address, tmp_path, monkeypatch)
        pathlib.Path(constants.HF_TOKEN_PATH).write_text("writer")
        encoder = tmp_path / "transformers"
        small_vit(embed_dim=192, num_heads=3, depth=1).save_pretrained(encoder)
        server.add_folder("facebook/dino-vits16", encoder)
        yield server


@pytest.fixture
def no_page(monkeypatch):
    """The demo's page is built and not served: a command that serves waits until interrupted."""
    import gradio

    monkeypatch.setattr(gradio.Blocks, "launch", lambda self, **options: (None, "", ""))


@pytest.mark.slow
@pytest.mark.parametrize("code", named("sh"))
def test_commands_run(code, place, hub, no_page):
    program, *arguments = shlex.split(code)
    assert program == "memssl"
    out = place / arguments[arguments.index("--out") + 1] if "--out" in arguments else None
    if (
        out and arguments[0] != "memory"
    ):  # what an example writes is not there before; a memory is added to a model
        remove(out)
    run(*arguments)
    assert out is None or out.exists()


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.fixture
def demo_at_its_address(monkeypatch):
    """The demo on a free port, which clients reach under the address that is printed."""
    import gradio
    import gradio_client

    from memssl_keras.demo.app import launch

    _, address, _ = launch(port=None, open_browser=False, prevent_thread_lock=True, quiet=True)

    class Client(gradio_client.Client):
        def __init__(self, src, **options):
            assert src == "http://127.0.0.1:7860"
            super().__init__(address, **options)

    monkeypatch.setattr(gradio_client, "Client", Client)
    yield
    gradio.close_all()


@pytest.mark.slow
@pytest.mark.parametrize("code", named("python"))
def test_python_runs(code, place, hub, request):
    if "gradio_client" in code:
        request.getfixturevalue("demo_at_its_address")
    names = {"__name__": "snippet"}
    exec(compile(code, "snippet", "exec"), names)  # ours, from this repository
    for name in ("vectors", "vector"):
        if name in names:
            np.testing.assert_allclose(np.linalg.norm(names[name], axis=-1), 1, atol=1e-3)


def subcommands():
    return typer.main.get_command(app).commands


def examples():
    """(command, example) of everything that stands under a command's help."""
    found = []
    for name, command in subcommands().items():
        lines = [line for line in (command.epilog or "").splitlines() if line]
        found += [(name, line.removeprefix("Example:").strip()) for line in lines]
    return found


@pytest.mark.parametrize(("name", "example"), examples())
def test_examples_of_the_help_parse(name, example):
    program, command, *arguments = shlex.split(example)
    assert (program, command) == ("memssl", name)
    subcommands()[command].make_context(command, arguments)  # parses, and does not run


def test_every_command_has_an_example():
    assert {name for name, _ in examples()} == set(subcommands())


def recorded():
    """Commands in the notes on how bundled models came about, which take hours."""
    pages = sorted((ROOT / "zoo" / "results").glob("*/README.md"))
    found = [(page, command) for page in pages for _, code in snippets(page) for command in commands(code)]
    ours = [(page, command) for page, command in found if command.startswith("memssl ")]
    assert ours
    return [
        pytest.param(command, id=f"{page.relative_to(ROOT).as_posix()}: {command}") for page, command in ours
    ]


@pytest.mark.parametrize("command", named("sh") + recorded())
def test_commands_parse(command):
    """As above, without running: what a developer sees at once after renaming an option."""
    _, name, *arguments = shlex.split(command)
    subcommands()[name].make_context(name, arguments)


def test_options_in_the_text_exist():
    """Options that the README names in a sentence."""
    parameters = [parameter for command in subcommands().values() for parameter in command.params]
    known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    of_others = {"--nproc-per-node", "--help"}
    text = re.sub(r"^```.*?^```$", "", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    quoted = " ".join(re.findall(r"`([^`\n]+)`", text))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", quoted))
    assert named - known - of_others == set()
