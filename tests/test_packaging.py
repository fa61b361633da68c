"""What gets installed: lazy imports, public names, examples that run, a clean lint, and the wheel's contents."""

import doctest
import importlib
import os
import pathlib
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

import memssl_keras
from memssl_keras.demo.models import DEFAULT, open_model

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent


def loaded_by(code):
    """Heavy packages that a fresh interpreter has loaded after `code`."""
    heavy = "{'torch', 'keras', 'onnx', 'onnxruntime', 'gradio', 'datasets', 'cv2', 'pyarrow'}"
    code = f"import sys\n{code}\nprint(sorted({heavy} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip().splitlines()[-1]


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import memssl_keras") == "[]"
    assert loaded_by(
        "import memssl_keras.zoo.registry, memssl_keras.images.read, memssl_keras.training.recipes"
    ) in (
        "[]",
        "['cv2']",
    )


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["models", "massl_vitn4.cifar10"]])
def test_help_and_lists_come_without_keras_or_torch(arguments):
    code = "from typer.testing import CliRunner\nfrom memssl_keras.cli import app\n"
    loaded = loaded_by(code + f"assert CliRunner().invoke(app, {arguments}).exit_code == 0")
    assert loaded == "[]" if arguments == ["--help"] else loaded in ("['pyarrow']", "['cv2', 'pyarrow']")


def test_every_public_name_loads():
    for name in memssl_keras.__all__:
        assert getattr(memssl_keras, name) is not None
    assert set(memssl_keras.__all__) <= set(dir(memssl_keras))
    with pytest.raises(AttributeError, match="has no attribute 'VIT'; it has .*ViT, "):
        memssl_keras.VIT  # noqa: B018


def modules():
    found = [name for _, name, _ in pkgutil.walk_packages(memssl_keras.__path__, "memssl_keras.")]
    for part in ("export", "zoo", "demo"):  # stand beside the package in the repository
        path = importlib.import_module(f"memssl_keras.{part}").__path__
        found += [name for _, name, _ in pkgutil.walk_packages(path, f"memssl_keras.{part}.")]
    return sorted({name for name in found if not name.endswith(("__main__", ".build"))})


@pytest.mark.parametrize("name", modules())
def test_modules_import_and_their_examples_run(name):
    module = importlib.import_module(name)
    assert module.__doc__
    if name.startswith("memssl_keras.demo") and not memssl_keras.list_models():
        pytest.skip("the demo's examples need a bundled model, and none is here")
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_public_classes_have_examples():
    for name in ("ViT", "MaSSL", "Memory", "MemoryConsistency", "MultiCrop", "AdamW", "Recipe", "Schedules"):
        assert ">>> " in getattr(memssl_keras, name).__doc__, name


def test_lint_and_format():
    ruff = shutil.which(
        "ruff", path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    )
    if not ruff:
        pytest.skip("ruff is not installed")
    for command in (["check"], ["format", "--check"]):
        run = subprocess.run([ruff, *command, "."], cwd=ROOT, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build")
    copy = tmp_path_factory.mktemp("source") / "copy"
    ignored = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "out", copy]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    (path,) = (copy / "out").glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_package_and_only_it(wheel):
    names = wheel.namelist()
    revision = open_model(DEFAULT).revision
    expected = [
        "export/onnx.py",
        "zoo/registry.py",
        "demo/app.py",
        "demo/style.css",
        "export/page/index.html",
        "demo/gallery/icons.parquet",
        "demo/gallery/LICENSES.md",
        f"demo/gallery/vectors/{revision}/icons.safetensors",
        f"demo/gallery/vectors/{revision}/map.npy",
        "demo/examples/settings.webp",
    ]
    assert {f"memssl_keras/{name}" for name in expected} <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2 and "memssl_keras" in tops and any(top.endswith(".dist-info") for top in tops)
    assert not [name for name in names if "test" in name.split("/")[-1] or "golden" in name]
    here = {
        path.relative_to(ROOT).as_posix()
        for folder in ("memssl_keras", "export", "zoo", "demo")
        for path in (ROOT / folder).rglob("*.py")
    }
    installed = {path if path.startswith("memssl_keras/") else f"memssl_keras/{path}" for path in here}
    left_out = {
        name for name in installed - set(names) if not re.search("/zoo/(experiments|benchmarks)/", name)
    }
    assert not left_out


def test_the_wheel_holds_the_bundled_models(wheel):
    for folder in (ROOT / "zoo" / "weights").glob("*/"):
        for file in ("config.json", "onnx/model.onnx"):
            if (folder / file).is_file():
                assert f"memssl_keras/zoo/weights/{folder.name}/{file}" in wheel.namelist()


def test_metadata(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("METADATA"))
    text = wheel.read(name).decode()
    assert "Name: memssl-keras" in text and "License-Expression: Apache-2.0" in text
    assert f"Version: {memssl_keras.__version__}" in text
    (scripts,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert "memssl = memssl_keras.__main__:main" in wheel.read(scripts).decode()


@pytest.mark.parametrize(
    ("missing", "name", "words"),
    [
        ("keras", "MaSSL", "MaSSL needs keras: pip install 'memssl-keras[keras]'"),
        ("onnx", "export_onnx", "export_onnx needs onnx: pip install 'memssl-keras[export]'"),
        ("tensorflow", "ViT", "import memssl_keras before keras, or set KERAS_BACKEND=torch"),
    ],
)
def test_what_is_missing_names_its_remedy(monkeypatch, missing, name, words):
    def fail(module):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(memssl_keras.importlib, "import_module", fail)
    with pytest.raises(ImportError, match=re.escape(words)):
        getattr(memssl_keras, name)


def test_public_names_tell_their_types():
    """What editors show of the names that people type first; `from_pretrained` gives an encoder and no `Any`."""
    import inspect
    import typing

    from memssl_keras import Encoder, MultiCrop, ResNet, ViT, from_pretrained, get_recipe, save_pretrained

    for function in (
        ViT.__init__,
        ResNet.__init__,
        MultiCrop.__init__,
        from_pretrained,
        save_pretrained,
        get_recipe,
    ):
        free = [p.name for p in inspect.signature(function).parameters.values() if p.annotation is p.empty]
        assert set(free) <= {"self", "kwargs", "dtype", "encoder"}, function
    assert typing.get_type_hints(from_pretrained)["return"] is Encoder
    assert typing.get_type_hints(ViT.__init__)["layer_scale"] == float | None
