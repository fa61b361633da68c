"""The commands, one after the other on a folder of pictures, and what they say when something is wrong."""

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import run
from PIL import Image
from rich.console import Console
from small_models import pictures, small_crops

import memssl_keras
from memssl_keras import from_pretrained
from memssl_keras.cli import app
from memssl_keras.training import recipes
from memssl_keras.training.pretrain import warnings_before
from memssl_keras.training.recipe import Recipe

TINY = Recipe(
    "tiny_test",
    {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8, "image_size": 32, "drop_path": 0.2},
    small_crops(),
    epochs=2,
    batch_size=4,
    memory_size=40,
    block_size=10,
    hidden_dim=32,
    output_dim=16,
)
COMMANDS = [
    "pretrain",
    "evaluate",
    "export",
    "embed",
    "index",
    "search",
    "benchmark",
    "convert",
    "whiten",
    "memory",
    "push",
    "models",
    "demo",
]


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, TINY.name, TINY)
    monkeypatch.setenv("COLUMNS", "200")


def labelled(path, count, seed):
    rows = []
    for image in pictures(count, seed=seed):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    pq.write_table(pa.table({"image": rows, "label": [i % 2 for i in range(count)]}), path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(pictures(9)):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """The folder of a finished run, exported."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.RECIPES, TINY.name, TINY)
        said = run("pretrain", photos, "--recipe", TINY.name, "--out", out, "--workers", 0)
        assert (
            "9 images, 2 epochs of 2 steps" in said and "epoch 2:" in said and f"memssl export {out}" in said
        )
        said = run("export", out)
        assert "model.onnx" in said and "difference" in said
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command):
    said = run(command, "--help")
    assert f"Example: memssl {command}" in said


def test_every_command_is_tested_here():
    assert [c.name or c.callback.__name__ for c in app.registered_commands] == COMMANDS
    assert all(command in run("--help") for command in COMMANDS)


@pytest.mark.slow
def test_a_run_leaves_its_files(trained):
    files = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    assert {path for path in files if not path.startswith("checkpoints/")} == {
        "best/config.json",
        "best/model.safetensors",
        "best/preprocessor_config.json",
        "best/score.json",
        "config.json",
        "curves.png",
        "metrics.csv",
        "model.safetensors",
        "onnx/model.onnx",
        "onnx/model.onnx.verify.json",
        "preprocessor_config.json",
        "report.md",
        "run.json",
        "verdict.json",
    }
    assert sum(path.endswith("model.keras") for path in files) == 2  # one an epoch
    assert json.loads((trained / "run.json").read_text())["images"] == 9
    header, *rows = (trained / "metrics.csv").read_text().splitlines()
    assert len(rows) == 2 and {"epoch", "loss", "teacher_entropy", "spread"} <= set(header.split(","))


@pytest.mark.slow
def test_pretrain_with_labels_follows_the_knn_and_reports_neighbours(tmp_path):
    labelled(tmp_path / "train-0.parquet", 30, 1)
    labelled(tmp_path / "test-0.parquet", 12, 2)
    train = ("pretrain", tmp_path, "--split", "train", "--recipe", "tiny_test", "--workers", 0, "--out")
    run(*train, tmp_path / "out")
    run(*train, tmp_path / "seen", "--labelled", tmp_path)
    without, seen = ((tmp_path / name / "metrics.csv").read_text() for name in ("out", "seen"))
    assert "knn" not in without and "knn" in seen.splitlines()[0].split(",")
    assert "neighbours.png" in (tmp_path / "seen" / "report.md").read_text()


@pytest.mark.slow
def test_pretrain_on_a_stream_with_a_broken_image_and_curves(tmp_path):
    folder = tmp_path / "photos"
    for i, image in enumerate(pictures(30)):
        path = folder / ("train" if i < 24 else "test") / str(i % 2) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    broken = folder / "train" / "1" / "3.png"
    broken.write_text("no image")
    train = ("pretrain", folder, "--split", "train", "--recipe", "tiny_test", "--workers", 1, "--epochs", 1)
    streamed = ("--streaming", "--images-per-epoch", 24, "--shuffle-buffer", 5)
    with pytest.warns(UserWarning, match="unreadable images so far: 1, "):
        said = run(*train, *streamed, "--tensorboard", "--out", tmp_path / "stream")
    assert "24 images of a stream, 1 epoch of 6 steps" in said
    assert f'{broken},"not an image, ' in (tmp_path / "stream" / "unreadable.csv").read_text()
    assert list((tmp_path / "stream" / "tensorboard").glob("events.*"))
    said = run(*train, "--out", tmp_path / "strict", "--max-unreadable", 0, code=1)
    assert "4.17% of 24 images cannot be read, 1 where 0 may be" in said and "3.png: not an image" in said
    broken.unlink()
    run(*train, "--labelled", folder, "--out", tmp_path / "labelled")
    assert "knn" in (tmp_path / "labelled" / "metrics.csv").read_text()


@pytest.mark.slow
def test_evaluate_prints_and_writes_the_scores(trained, tmp_path):
    labelled(tmp_path / "train-0.parquet", 20, 1)
    labelled(tmp_path / "test-0.parquet", 6, 2)
    said = run("evaluate", trained, "--data", tmp_path, "--k", 3, "--out", tmp_path / "r.json")
    assert "20 train and 6 test images" in said and "the encoder less the encoder, untrained, k = 3:" in said
    (entry,) = json.loads((tmp_path / "r.json").read_text())["results"]
    assert list(entry["scores"]) == [
        "raw pixels, 16 px",
        "mean-centred pixels, 16 px",
        "the encoder, untrained",
        "the encoder",
    ]
    again = run(
        "evaluate", trained, "--data", tmp_path, "--no-baselines", "--k", 3, "--out", tmp_path / "out"
    )
    assert "report in" in again and (tmp_path / "out" / "report.html").stat().st_size > 10_000
    assert entry["task"] == "knn" and all(0 <= score["k = 3"] <= 1 for score in entry["scores"].values())


@pytest.mark.slow
def test_embed_lists_what_it_leaves_out_and_search_finds(trained, photos, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "cut.png").write_bytes((photos / "0.png").read_bytes()[:60])
    (folder / "text.jpg").write_text("no image")
    index = tmp_path / "index.parquet"
    said = run("embed", folder, "--model", trained, "--out", index, code=3)
    assert "9 embeddings of width 24" in said and "2 unreadable images skipped" in said
    assert "cut.png" in said and "text.jpg: not an image" in said
    table = pq.read_table(index)
    assert table["image"].to_pylist() == [str(folder / f"{i}.png") for i in range(9)]
    expected = from_pretrained(trained).embed(pictures(9))
    np.testing.assert_allclose(np.stack(table["embedding"].to_pylist()), expected, atol=1e-4)

    said = run("search", index, photos / "4.png", photos / "7.png", "--k", 3, "--sheet", tmp_path / "s.png")
    assert said.count("1.0000") == 2 and str(folder / "4.png") in said and "drawn into" in said
    assert Image.open(tmp_path / "s.png").size[0] > 4 * 96
    assert "skipped" not in run("embed", photos, "--model", trained, "--out", tmp_path / "all.parquet")


@pytest.mark.slow
def test_models_shows_what_was_measured(trained, tmp_path, monkeypatch):
    labelled(tmp_path / "train-0.parquet", 20, 1)
    labelled(tmp_path / "test-0.parquet", 6, 2)
    shutil.copytree(trained, tmp_path / "weights" / "tiny")
    options = [
        "--data",
        tmp_path,
        "--tasks",
        "knn,clustering",
        "--k",
        3,
        "--out",
        tmp_path / "weights" / "tiny",
    ]
    run("evaluate", trained, "--no-baselines", *options)
    entries = json.loads((tmp_path / "weights" / "tiny" / "results.json").read_text())["results"]
    knn = next(entry["scores"]["the encoder"]["k = 3"] for entry in entries if entry["task"] == "knn")
    monkeypatch.setattr("memssl_keras.zoo.registry._WEIGHTS", tmp_path / "weights")
    monkeypatch.setenv("COLUMNS", "400")
    said = run("models")
    assert f"knn, k = 3: {knn:.1%}" in said and "32 px" in said and "bundled" in said


def test_models_shows_a_card():
    said = run("models", "massl_vitn4.cifar10")
    assert "k-NN, T = 0.07" in said and "library_name" not in said and "from_pretrained(" in said
    assert "Did you mean massl_vitn4.cifar10 or " in run("models", "massl_vitn4.cifar", code=1)


def test_models_lists_models_and_recipes():
    said = run("models")
    assert all(name in said for name in ("massl_vitn4.cifar10", "recipes", *recipes.RECIPES))


def test_tables_keep_their_heads_and_names_in_80_columns(monkeypatch):
    console = Console(width=80, record=True, file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr("memssl_keras.cli.output.console", console)
    run("models")
    said = console.export_text()
    assert all(head in said for head in ("model", "size", "measured on", "recipe", "for", "epochs", "batch"))
    assert (
        all(name in said for name in ("massl_vitn4.cifar10", "vits16_in1k", "resnet12_glyphs"))
        and "…" not in said
    )


def test_a_recipe_is_shown():
    said = run("models", "resnet12_cifar10")
    assert "a processor core, two hours" in said and "memory_size 4096" in said
    assert json.loads(run("models", "resnet12_cifar10", "--json"))["batch_size"] == 64
    assert "massl_vitn4.cifar10" in json.loads(run("models", "--json"))["models"]


@pytest.mark.slow
def test_names_are_printed_as_they_are(trained, photos, tmp_path):
    """Brackets are no markup, and a long path keeps its end in a pipe."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    names = ["IMG [edited].png", "z[bold].png", "[red]x.png"]
    for name in names:
        (folder / name).write_bytes((photos / "0.png").read_bytes())
    (folder / "bad [x].png").write_text("no image")
    said = run("embed", folder, "--model", trained, "--out", tmp_path / "i.parquet", code=3)
    assert f"skipped: {folder / 'bad [x].png'}: not an image" in said and "1 unreadable image skipped" in said
    said = run("search", tmp_path / "i.parquet", folder / names[0], "--k", 3)
    assert all(str(folder / name) in said for name in names)
    assert (tmp_path / "i.unreadable.csv").read_text().count("bad [x].png") == 1


@pytest.mark.slow
def test_embed_accounts_for_every_file_and_takes_several_paths(trained, photos, tmp_path):
    folder = tmp_path / "mixed"
    (folder / "@eaDir").mkdir(parents=True)
    (folder / "a.png").write_bytes((photos / "0.png").read_bytes())
    (folder / "notes.txt").write_text("words")
    out = tmp_path / "i.parquet"
    said = run("embed", folder, photos / "1.png", photos / "2.png", "--model", trained, "--out", out)
    assert "3 embeddings of width 24; 1 other file, 1 folder not read" in said
    said = run("embed", folder, "--model", trained, "--out", out, "--list-others")
    assert (
        f"{folder / 'notes.txt'}: no picture" in said and f"{folder / '@eaDir'}: hidden or a system's" in said
    )
    found = json.loads(run("embed", folder, "--model", trained, "--out", out, "--json"))
    assert (
        found["embeddings"] == 1
        and found["skipped"] == []
        and found["notes"] == ["1 other file, 1 folder not read"]
    )
    hits = json.loads(run("search", out, folder / "a.png", "--json"))
    assert hits["neighbours"] == [{"image": str(folder / "a.png"), "similarity": 1.0}]
    assert "expected a name that ends in .parquet" in run(
        "embed", folder, "--model", trained, "--out", tmp_path / "x.csv", code=1
    )


@pytest.mark.slow
def test_an_index_is_found_from_elsewhere_and_knows_its_model(trained, photos, tmp_path, monkeypatch):
    """Relative names start from where the index was made; a model that was exported anew is another one."""
    shutil.copytree(trained, tmp_path / "here" / "model")
    shutil.copytree(photos, tmp_path / "here" / "photos")
    monkeypatch.chdir(tmp_path / "here")
    run("embed", "photos", "--model", "model", "--out", "index.parquet")
    monkeypatch.chdir(tmp_path)
    said = run("search", "here/index.parquet", "here/photos/3.png", "--k", 1, "--sheet", "s.png")
    assert "photos/3.png" in said and "1.0000" in said and (tmp_path / "s.png").is_file()
    encoder = from_pretrained("here/model")
    encoder.norm.gamma.assign(encoder.norm.gamma * 1.5)
    shutil.rmtree("here/model")
    encoder.save_pretrained("here/model", exports=["fp32"])
    said = run("search", "here/index.parquet", "here/photos/3.png", code=1)
    assert "vectors of two revisions do not compare" in said and "--model" in said
    shutil.rmtree("here/model")
    said = run("search", "here/index.parquet", "here/photos/3.png", code=1)
    assert (
        "here/index.parquet was made with the model model in" in said
        and "name its folder with --model" in said
    )
    said = run("search", "here/index.parquet", "here/photos/3.png", "--k", 1, "--model", trained)
    assert "1.0000" in said


def test_version():
    assert run("--version") == memssl_keras.__version__


def test_a_run_for_other_hardware_or_more_pictures_is_warned_of():
    found = warnings_before(recipes.get_recipe("vits16_in1k"), 200)
    assert "131,072 slots and there are 200 pictures" in found[0] and "only 1 steps" in found[1]
    assert "there is no GPU here" in found[2] or torch.cuda.is_available()
    assert warnings_before(TINY, 400) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, words",
    [
        (["pretrain", "{photos}", "--recipe", "nope", "--out", "{new}"], "vits16_in1k, vitb16_in1k"),
        (["pretrain", "{photos}", "--recipe", "vitb16_in1", "--out", "{new}"], "did you mean vitb16_in1k?"),
        (["pretrain", "{new}", "--recipe", "tiny_test", "--out", "{new}"], "no such file or folder"),
        (
            ["pretrain", "{photos}", "--recipe", "tiny_test", "--out", "{photos}/run"],
            "expected a folder outside it",
        ),
        (
            ["pretrain", "{photos}", "--recipe", "tiny_test", "--out", "{new}", "--batch-size", "64"],
            "9 images, fewer",
        ),
        (
            ["pretrain", "{photos}", "--recipe", "tiny_test", "--out", "{new}", "--streaming"],
            "streaming needs images_per_epoch, on the command line --images-per-epoch",
        ),
        (
            ["pretrain", "{photos}", "--recipe", "tiny_test", "--out", "{new}", "--split", "valid"],
            "split='valid' matches none of its subfolders",
        ),
        (["export", "nope"], "model: got 'nope'"),
        (["export", "{photos}"], "config.json: no such file"),
        (["embed", "{photos}", "--model", "nope", "--out", "{new}"], "model: got 'nope'"),
        (["embed", "{new}", "--model", "{trained}", "--out", "{new}"], "no such file or folder"),
        (
            ["embed", "{photos}", "--model", "massl_vitn4.cifar10", "--out", "{trained}"],
            "is a folder; expected the",
        ),
        (["convert", "{new}.pth", "--out", "{new}"], "new.pth: no such file"),
        (["models", "{photos}"], "holds no card"),
        (["search", "{new}", "x.png"], "no such file; `memssl embed` writes one"),
        (["evaluate", "nope", "--data", "{photos}"], "model: got 'nope'"),
        (
            ["evaluate", "{trained}", "--data", "{photos}"],
            "is in no subfolder: expected a subfolder per class",
        ),
        (
            ["evaluate", "{trained}", "--data", "{photos}", "--tasks", "sing"],
            "tasks: got sing; expected some of knn",
        ),
        (["evaluate", "{trained}@int3", "--data", "{photos}"], "variant='int3': there is no such variant"),
    ],
)
def test_errors_are_one_line(arguments, words, photos, trained, tmp_path):
    places = {"photos": photos, "trained": trained, "new": tmp_path / "new"}
    said = run(*(argument.format(**places) for argument in arguments), code=1)
    assert said.startswith("error:") or " error:" in said
    assert words in said and "Traceback" not in said


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_in_training(tmp_path, workers):
    (tmp_path / "photos").mkdir()
    for i in range(4):
        (tmp_path / "photos" / f"{i}.png").write_text("no image")
    options = ["--recipe", TINY.name, "--out", tmp_path / "run", "--workers", workers]
    said = run("pretrain", tmp_path / "photos", *options, code=1)
    assert "png: not an image" in said and "Traceback" not in said
