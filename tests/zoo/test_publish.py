"""What is published: complete, of one piece, with a card that says only what was measured."""

import json
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
import yaml
from commands import run
from hub_server import lead_to
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.numpy import load_file, save_file
from small_models import pictures, same_weights, small_cnn, small_massl, small_vit, varied

from memssl_keras import MaSSL, OnnxEncoder, from_pretrained, push_to_hub, save_pretrained
from memssl_keras.export.onnx import ParityError
from memssl_keras.zoo import registry
from memssl_keras.zoo.card import card as read_card
from memssl_keras.zoo.card import model_card, write_card
from memssl_keras.zoo.hub import HubError
from memssl_keras.zoo.parity import check_parity
from memssl_keras.zoo.publish import stage, zoo_entry

pytestmark = pytest.mark.slow

REPO = "someone/massl_vit.photos"
RESULTS = {
    "format_version": 2,
    "reference": "runs/photos",
    "results": [
        {
            "data": "Flowers 102",
            "task": "knn",
            "protocol": "k-NN, T = 0.07",
            "headline": "k = 20",
            "scores": {
                "raw pixels": {"k = 20": 0.1},
                "runs/photos": {"k = 20": 0.51239},
                "runs/photos@fp32": {"k = 20": 0.5123},
                "runs/photos@int8": {"k = 20": 0.4987},
            },
        }
    ],
}
RUN = {"name": "vits16_in1k", "epochs": 3, "images": 1000, "batch_size": 64, "seed": 1, "memory_size": 4096}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The folder of a small ViT with every export, results and a run's settings."""
    folder = tmp_path_factory.mktemp("complete") / "model"
    save_pretrained(varied(small_vit()), folder, exports=("transformers", "keras", "fp32"))
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (folder / "run.json").write_text(json.dumps(RUN | {"block_size": 1024}))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "state.pkl").write_text("not for others")
    return folder


@pytest.fixture
def copy(complete, tmp_path):
    import shutil

    return shutil.copytree(complete, tmp_path / "copy")


def files_of(hub, branch="main"):
    return {
        name: data for name, data in hub.commits[hub.refs[REPO][branch]].items() if name != ".gitattributes"
    }


def test_a_folder_is_published_and_read_back(hub, complete, tmp_path):
    before = {path: path.read_bytes() for path in complete.rglob("*") if path.is_file()}
    commit = push_to_hub(complete, REPO, token="writer", license="Apache-2.0", data="my photos")
    assert commit == hub.refs[REPO]["main"]
    files = files_of(hub)
    assert files.keys() == {
        *("README.md", "card.json", "config.json", "preprocessor_config.json", "results.json", "run.json"),
        *("model.keras", "model.safetensors", "transformers.safetensors", "onnx/model.onnx"),
    }
    assert {path: path.read_bytes() for path in complete.rglob("*") if path.is_file()} == before
    assert not [line for line in hub.requests if "xet" in line]
    encoder = from_pretrained(REPO, revision=commit)
    assert same_weights(encoder, from_pretrained(complete))
    images = pictures(2)
    expected = OnnxEncoder.from_pretrained(complete).embed(images)
    np.testing.assert_array_equal(OnnxEncoder.from_pretrained(REPO).embed(images), expected)


def test_what_is_missing_is_made_and_a_branch_may_be_named(hub, copy):
    for name in ("transformers.safetensors", "model.keras", "results.json"):
        (copy / name).unlink()
    commit = push_to_hub(copy, REPO, token="writer", private=True, revision="next")
    assert hub.refs[REPO]["next"] == commit and hub.private[REPO] == "writer"
    assert {"transformers.safetensors", "model.keras", "onnx/model.onnx"} <= files_of(hub, "next").keys()
    assert "results.json" not in files_of(hub, "next") and "README.md" not in files_of(hub)
    assert same_weights(from_pretrained(REPO, revision="next", token="writer"), from_pretrained(copy))


def test_training_goes_on_from_the_hub(hub, tmp_path):
    model = small_massl(small_cnn())
    model.save_pretrained(tmp_path / "run")
    push_to_hub(tmp_path / "run", REPO, token="writer")
    from_pretrained(REPO)
    assert not [line for line in hub.requests if line.startswith("GET") and "training/" in line]
    twin = MaSSL.from_pretrained(REPO)
    assert same_weights(twin.student, model.student) and same_weights(twin.memory, model.memory)


def test_an_encoder_of_another_kind_is_published(hub):
    cnn = small_cnn()
    push_to_hub(cnn, REPO, token="writer")
    files = files_of(hub)
    assert "transformers.safetensors" not in files and {"model.keras", "onnx/model.onnx"} <= files.keys()
    assert b"The Keras model `cnn`" in files["README.md"] and b"timm" not in files["README.md"]
    assert same_weights(from_pretrained(REPO), cnn)


def spoil_weights(path):
    state = load_file(path)
    name = next(
        name
        for name in sorted(state)
        if name.endswith(("blocks.0.norm1.weight", "0.layernorm_before.weight"))
    )
    save_file(state | {name: state[name] + 0.1}, path, metadata={"format": "pt"})


def spoil_onnx(path):
    """Another model: the largest weights of `onnx/model.onnx` upside down."""
    model = onnx.load(path.with_name("model.onnx"))
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    array = onnx.numpy_helper.to_array(largest)
    largest.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array[::-1]), largest.name))
    onnx.save(model, path)


@pytest.mark.parametrize(
    "file, spoil",
    [
        ("model.safetensors", spoil_weights),
        ("transformers.safetensors", spoil_weights),
        ("model.keras", lambda path: small_vit().save(path)),
        ("onnx/model.onnx", spoil_onnx),
        ("onnx/model_quantized.onnx", spoil_onnx),
    ],
)
def test_files_of_different_models_are_refused(hub, copy, file, spoil):
    check_parity(copy)
    spoil(copy / file)
    with pytest.raises(
        ParityError, match=r"not the model of model.safetensors: .*(differs|has a mean cosine)"
    ) as error:
        push_to_hub(copy, REPO, token="writer")
    assert file == "model.safetensors" or file in str(error.value)
    assert REPO not in hub.refs and not hub.requests


def test_what_cannot_be_published_is_named(hub, complete, tmp_path):
    with pytest.raises(HubError, match=r"the Hub refused with 401; pass token= of one that may write"):
        push_to_hub(complete, REPO, token="reader")
    with pytest.raises(
        ValueError, match="colour='red': expected some of name, data, hardware, license, limits, o"
    ):
        push_to_hub(complete, REPO, colour="red")
    with pytest.raises(
        ValueError, match="model: got 'nothing'; expected a folder with config.json and model.saf"
    ):
        push_to_hub("nothing", REPO)
    with pytest.raises(ValueError, match="repo_id='a b/c': expected owner/name"):
        push_to_hub(complete, "a b/c", token="writer")


def test_without_network_nothing_is_lost(complete, tmp_path, monkeypatch):
    lead_to("http://127.0.0.1:9", tmp_path, monkeypatch)
    with pytest.raises(HubError, match="the Hub cannot be reached"):
        push_to_hub(complete, REPO, token="writer")


def test_the_card_lists_what_was_measured_of_each_file(copy):
    text = model_card(copy, REPO)
    assert "| `model.safetensors` | 51.24% |" in text and "| `onnx/model.onnx` | 51.23% |" in text
    assert "model_quantized" not in text  # measured, but not in the folder
    (copy / "onnx" / "model_quantized.onnx").write_bytes((copy / "onnx" / "model.onnx").read_bytes())
    text = model_card(copy, REPO)
    assert (
        "| `onnx/model_quantized.onnx` | 49.87% |" in text
        and 'variant="int8"' in text
        and 'dtype: "q8"' in text
    )
    assert "3 epochs of 1,000 images, 45 steps of 64" in text and "hardware" not in text
    write_card(copy, REPO, hardware="one core", license="MIT", limits="Dogs only.")
    text = (copy / "README.md").read_text()
    assert "- hardware: one core" in text and "license: mit" in text and "Dogs only." in text
    (copy / "results.json").unlink()
    (copy / "run.json").unlink()
    text = model_card(copy, REPO)
    assert "## Scores" not in text and "epochs" not in text and "model-index" not in text


def test_the_card_of_another_model_claims_nothing(copy):
    (copy / "run.json").unlink()
    text = model_card(copy, REPO)
    assert "MaSSL" not in text and "- massl" not in text and "Citation" not in text
    write_card(copy, REPO, origin="DINO or iBOT checkpoint dino.pth")
    text = (copy / "README.md").read_text()
    assert (
        "Converted from DINO or iBOT checkpoint dino.pth: weights, data and licence are those of its auth"
        in text
    )


def test_the_metadata_is_the_hubs(copy):
    card = ModelCard(model_card(copy, REPO))
    assert card.data.library_name == "memssl-keras" and card.data.pipeline_tag == "image-feature-extraction"
    assert {"onnx", "timm", "transformers.js", "self-supervised-learning"} <= set(card.data.tags)
    values = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert values == {"knn, k = 20 (model.safetensors)": 51.24, "knn, k = 20 (onnx/model.onnx)": 51.23}
    assert {result.dataset_type for result in card.data.eval_results} == {"flowers-102"}
    index = yaml.safe_load(card.content.split("---")[1])["model-index"]
    assert index[0]["name"] == "massl_vit.photos" and len(index[0]["results"][0]["metrics"]) == 2


@pytest.mark.parametrize(
    "library", ["from memssl_keras import from_pretrained", "OnnxEncoder", "transformers", "timm"]
)
def test_the_snippets_run(library, hub, complete, tmp_path, monkeypatch):
    from other_libraries import need

    if library in ("transformers", "timm"):
        need(library)
    hub.add_folder(REPO, complete)
    (picture,) = pictures(1, size=32)
    Image.fromarray(picture).save(tmp_path / "photo.jpg", quality=100)
    codes = re.findall(r"```python\n(.*?)```", model_card(complete, REPO), re.S)
    (code,) = [code for code in codes if library in code]
    monkeypatch.chdir(tmp_path)
    variables = {}
    exec(code, variables)
    vectors = np.asarray(
        variables["vectors"].detach() if hasattr(variables["vectors"], "detach") else variables["vectors"]
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, from_pretrained(complete).embed(["photo.jpg"]), atol=1e-4)


def test_an_entry_of_the_zoo_loads_what_was_published(hub, complete, tmp_path, monkeypatch):
    commit = push_to_hub(complete, REPO, token="writer", data="my photos")
    stage(complete, tmp_path / "staged", REPO, {"data": "my photos"})
    entry = json.loads(json.dumps(zoo_entry(tmp_path / "staged", REPO, commit)))
    monkeypatch.setitem(registry.HUB, "massl_vit.photos", registry.HubModel(**entry))
    known = registry.facts("massl_vit.photos")
    assert known["where"] == REPO and known["data"] == "my photos" and known["knn"] == pytest.approx(0.51239)
    assert known["linear"] is None and "onnx/model.onnx" in known["sizes"]
    assert same_weights(from_pretrained("massl_vit.photos"), from_pretrained(complete))
    assert read_card("massl_vit.photos").startswith("# massl_vit.photos")


def test_on_the_command_line(hub, complete, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    said = run("push", complete, REPO, "--token", "writer", "--license", "apache-2.0", "--data", "photos")
    assert f"published as {hub.refs[REPO]['main']}" in said
    said = run("convert", REPO, "--out", tmp_path / "again")
    assert "a ViT of width 24, 2 blocks, 3 heads, patch 8, for 32 px" in said
    assert same_weights(from_pretrained(tmp_path / "again"), from_pretrained(complete))
    said = run("convert", tmp_path / "photo.jpg", "--out", tmp_path / "no", code=1)
    assert "error:" in said and not (tmp_path / "no").exists()


def test_a_card_says_that_pairs_are_weak_labels(complete):
    before = model_card(complete, REPO)
    settings = json.loads((complete / "run.json").read_text())
    (complete / "run.json").write_text(json.dumps(settings | {"pairs": {"probability": 0.6}}))
    after = model_card(complete, REPO)
    assert "Pretrained without labels with MaSSL" in before and "weak labels" not in before
    assert "Pretrained on pairs of images of one group, which are weak labels, with MaSSL" in after


@pytest.mark.parametrize("name", registry.bundled_models())
def test_bundled_models_are_of_one_piece_and_their_cards_up_to_date(name):
    folder = registry.resolve(name)
    assert max(check_parity(folder).values()) < 0.05
    assert (folder / "README.md").read_text(encoding="utf-8") == model_card(folder, name)


def test_finding_models_loads_neither_torch_nor_keras():
    code = "import memssl_keras.zoo.hub, sys; print({'torch', 'keras'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
