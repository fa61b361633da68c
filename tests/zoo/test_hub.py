"""Models from a Hub on localhost, with the real client: what is fetched, what is cached, and what goes wrong."""

import json
import os
import pathlib
import subprocess
import sys
import time

import huggingface_hub
import numpy as np
import pytest
from hub_server import lead_to
from onnx_folder import write_encoder
from small_models import pictures, rich_vit, same_weights

from memssl_keras import OnnxEncoder, from_pretrained
from memssl_keras.zoo import hub as zoo_hub
from memssl_keras.zoo import registry

REPO = "someone/massl_vit.photos"
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with Keras weights, and two ONNX files that stand for variants."""
    folder = tmp_path_factory.mktemp("saved")
    write_encoder(folder)
    (folder / "onnx" / "model_quantized.onnx").write_bytes((folder / "onnx" / "model.onnx").read_bytes())
    rich_vit().save_pretrained(folder)
    return folder


@pytest.fixture
def published(hub, saved):
    hub.add_folder(REPO, saved)
    return hub


def gets(hub):
    """Names of the files that were sent."""
    return [
        line.split("/resolve/")[1].partition("/")[2]
        for line in hub.requests
        if line.startswith("GET /someone")
    ]


def test_only_what_is_needed_is_fetched_and_a_second_call_asks_nothing(published, saved):
    encoder = from_pretrained(REPO)
    assert same_weights(encoder, from_pretrained(saved))
    assert gets(published) == ["config.json", "model.safetensors"]
    published.requests.clear()
    assert same_weights(encoder, from_pretrained(REPO)) and not published.requests
    OnnxEncoder.from_pretrained(REPO, variant="int8")
    assert gets(published) == ["onnx/model_quantized.onnx"]
    published.requests.clear()
    images = pictures(2, size=32)
    vectors = OnnxEncoder.from_pretrained(REPO, variant="int8", local_files_only=True).embed(images)
    np.testing.assert_array_equal(vectors, OnnxEncoder.from_pretrained(saved, variant="int8").embed(images))
    assert not published.requests


def test_the_cache_is_the_hubs_own(published, tmp_path):
    from_pretrained(REPO)
    (repo,) = huggingface_hub.scan_cache_dir(tmp_path / "cache").repos
    assert repo.repo_id == REPO and "main" in repo.refs
    from_pretrained(REPO, cache_dir=tmp_path / "mine")
    assert [r.repo_id for r in huggingface_hub.scan_cache_dir(tmp_path / "mine").repos] == [REPO]


def test_revisions_and_force_download(published, tmp_path):
    first = published.refs[REPO]["main"]
    old = from_pretrained(REPO)
    rich_vit(depth=1).save_pretrained(tmp_path / "new")
    second = published.add_folder(REPO, tmp_path / "new")
    assert from_pretrained(REPO).depth == old.depth  # the cache knows nothing of the new commit
    assert from_pretrained(REPO, force_download=True).depth == 1
    assert from_pretrained(REPO).depth == 1
    assert from_pretrained(REPO, revision=first).depth == old.depth
    assert from_pretrained(REPO, revision=second).depth == 1
    with pytest.raises(
        zoo_hub.HubError, match=r"@v9: revision='v9' does not exist; expected a branch, tag or commit"
    ):
        from_pretrained(REPO, revision="v9")


def test_a_file_is_of_the_commit_that_its_config_is_of(published, monkeypatch, tmp_path):
    rich_vit(depth=1).save_pretrained(tmp_path / "new")
    original = zoo_hub._Repository.pin

    def moved(self, file):
        original(self, file)
        published.add_folder(REPO, tmp_path / "new")

    monkeypatch.setattr(zoo_hub._Repository, "pin", moved)
    assert from_pretrained(REPO).depth == rich_vit().depth


def test_a_cut_connection_is_resumed(published, saved):
    published.cut["model.safetensors"] = 20 * 1024
    assert same_weights(from_pretrained(REPO), from_pretrained(saved))
    assert ("GET", "model.safetensors", 20 * 1024) in published.ranges


def test_an_interrupted_download_leaves_the_cache_usable(published, saved):
    published.cut["model.safetensors"], published.dies = 20 * 1024, True
    with pytest.raises(
        zoo_hub.HubError, match="model.safetensors could not be fetched .* the same call tries again"
    ):
        from_pretrained(REPO)
    with pytest.raises(
        zoo_hub.HubError, match="model.safetensors is not in the cache and local_files_only=True"
    ):
        from_pretrained(REPO, local_files_only=True)
    published.down = False
    assert same_weights(from_pretrained(REPO), from_pretrained(saved))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_file_that_arrives_changed_is_refused_and_fetched_again(published, file):
    published.spoil.add(file)
    with pytest.raises(
        zoo_hub.HubError, match=rf"{file} is damaged: its checksum is not .* removed from the cache"
    ):
        from_pretrained(REPO)
    published.spoil.clear()
    assert from_pretrained(REPO).depth == rich_vit().depth


def test_a_file_that_changes_in_the_cache_is_noticed(published, tmp_path):
    OnnxEncoder.from_pretrained(REPO)
    (file,) = (tmp_path / "cache").rglob("snapshots/*/onnx/model.onnx")
    file.resolve().write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(zoo_hub.HubError, match="is damaged"):
        OnnxEncoder.from_pretrained(REPO)
    OnnxEncoder.from_pretrained(REPO)


def test_what_the_zoo_pins_is_checked(published, monkeypatch, saved):
    config = zoo_hub.sha256(saved / "config.json")
    entry = lambda sums: registry.HubModel(REPO, published.refs[REPO]["main"], sums, {})  # noqa: E731
    sums = {"config.json": config, "model.safetensors": zoo_hub.sha256(saved / "model.safetensors")}
    monkeypatch.setitem(registry.HUB, "massl_vit.photos", entry(sums))
    published.add(REPO, {"model.safetensors": b"of a later commit"})
    assert same_weights(from_pretrained("massl_vit.photos"), from_pretrained(saved))
    assert "massl_vit.photos" in registry.list_models()
    monkeypatch.setitem(registry.HUB, "massl_vit.photos", entry(sums | {"model.safetensors": "0" * 64}))
    with pytest.raises(zoo_hub.HubError, match="model.safetensors is damaged: its checksum is not 0000"):
        from_pretrained("massl_vit.photos")


def test_private_and_gated_repositories_say_what_to_do(published, monkeypatch):
    published.private[REPO] = "secret"
    for token in (None, "wrong"):
        with pytest.raises(
            zoo_hub.HubError, match="that can be seen; for a private one pass token= or set HF_TOKEN"
        ):
            from_pretrained(REPO, token=token)
    from_pretrained(REPO, token="secret")
    published.private.clear()
    published.gated.add("someone/gated")
    published.add("someone/gated", {"config.json": b"{}"})
    with pytest.raises(zoo_hub.HubError, match="access is gated; accept its terms"):
        from_pretrained("someone/gated")
    monkeypatch.setenv("HF_TOKEN", "mine")
    with pytest.raises(zoo_hub.HubError, match="has no model.safetensors or pytorch_model.bin"):
        from_pretrained("someone/gated")


@pytest.mark.parametrize(
    "files, words",
    [
        ({"README.md": b"text"}, "it has no config.json; it holds README.md"),
        (
            {"config.json": b"{}", "big.gguf": b"x"},
            "it has no model.safetensors or pytorch_model.bin; it holds big.gguf",
        ),
        ({"config.json": b"<html>"}, "its config.json is not valid JSON"),
    ],
)
def test_repositories_without_our_files_are_named(hub, files, words):
    hub.add("someone/other", files)
    with pytest.raises(zoo_hub.HubError, match=words):
        from_pretrained("someone/other")


def test_a_newer_format_is_refused(hub, saved):
    config = json.loads((saved / "config.json").read_text()) | {"format_version": 3}
    hub.add_folder(REPO, saved)
    hub.add(REPO, {"config.json": json.dumps(config).encode()})
    with pytest.raises(
        ValueError, match="format_version is 3; this version of memssl-keras reads 2; update it"
    ):
        from_pretrained(REPO)


def test_an_unknown_repository_suggests_near_names(hub):
    with pytest.raises(zoo_hub.HubError, match="neither a folder here .* Did you mean massl_vitn4.cifar10"):
        from_pretrained("someone/massl_vitn4.cifar100")
    with pytest.raises(registry.UnknownModel, match="expected a repository as owner/name"):
        from_pretrained("some one/model")


def test_without_network_one_quick_attempt_is_made(monkeypatch, tmp_path):
    lead_to("http://127.0.0.1:9", tmp_path, monkeypatch)  # a port that nothing listens on
    attempts = []
    monkeypatch.setattr(time, "sleep", attempts.append)  # what a retry waits with
    with pytest.raises(zoo_hub.HubError, match="no folder here, and config.json could not be fetched"):
        from_pretrained(REPO, cache_dir=tmp_path)
    assert not attempts


def test_a_hub_out_of_order_is_named(published):
    published.down = True
    with pytest.raises(zoo_hub.HubError, match="could not be fetched .*503"):
        from_pretrained(REPO)


def test_revision_is_refused_where_there_is_none(saved):
    with pytest.raises(ValueError, match="revision='v1': .* is not on the Hub"):
        from_pretrained(saved, revision="v1")
    with pytest.raises(ValueError, match="revision='v1'"):
        OnnxEncoder.from_pretrained("massl_vitn4.cifar10", revision="v1")


@pytest.mark.slow
def test_the_clients_environment_is_respected(published, tmp_path):
    """`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` in processes of their own, without torch."""
    published.private[REPO] = "secret"
    code = f"from memssl_keras import OnnxEncoder; OnnxEncoder.from_pretrained({REPO!r}, variant='int8')"
    settings = {
        "HF_ENDPOINT": published.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }

    def run(**more):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings, **more}
        environment = {name: value for name, value in environment.items() if value}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert "set HF_TOKEN" in run(HF_TOKEN="").stderr
    assert run(HF_TOKEN="secret").returncode == 0
    asked = len(published.requests)
    assert run(HF_TOKEN="", HF_HUB_OFFLINE="1").returncode == 0
    offline = run(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    assert "config.json is not in the cache and HF_HUB_OFFLINE is set" in offline.stderr
    assert len(published.requests) == asked


def test_bundled_models_need_no_network(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    for name in registry.bundled_models():
        assert (
            from_pretrained(name).output_shape[-1]
            == OnnxEncoder.from_pretrained(name, variant="int8").embed_dim
        )
