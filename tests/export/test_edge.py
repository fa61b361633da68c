"""What an edge device has: an environment with neither torch nor keras, Pillow, numpy and ONNX Runtime alone."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import venv

import numpy as np
import pytest
from PIL import Image
from small_models import pictures

from memssl_keras import OnnxEncoder

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
MODEL = "massl_vitn4.cifar10"
EMBED = """
import json, sys
from memssl_keras import OnnxEncoder
vectors = OnnxEncoder.from_pretrained(sys.argv[1]).embed(sys.argv[2])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"vectors": vectors.tolist(), "MB": int(status["VmHWM"].split()[0]) / 1024,
                  "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a new environment with the package and what it requires, without any extra."""
    folder = tmp_path_factory.mktemp("edge")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    shutil.copytree(
        ROOT, folder / "source", ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "tests")
    )
    done = subprocess.run(
        [*install, "--constraint", ROOT / "constraints.txt", folder / "source"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip(
            f"the package's requirements cannot be installed here: {done.stderr.strip().splitlines()[-1]}"
        )
    assert not done.returncode, done.stderr
    return python


def test_embedding_without_torch_and_keras(python, tmp_path):
    Image.fromarray(pictures(1, 90)[0]).save(tmp_path / "picture.png")
    for module in ("torch", "keras", "pyarrow", "onnx"):
        missing = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
        assert missing.returncode, f"{module} is installed: that environment shows nothing"
        assert importlib.util.find_spec(module), f"{module} is not even here"
    command = [python, "-c", EMBED, MODEL, tmp_path / "picture.png"]
    seen = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    )
    here = OnnxEncoder.from_pretrained(MODEL).embed(tmp_path / "picture.png")
    np.testing.assert_allclose(seen["vectors"], here, atol=1e-6)
    assert seen["MB"] < 200
    assert not {"torch", "keras", "onnx", "rich", "typer", "huggingface_hub"} & set(seen["modules"])
