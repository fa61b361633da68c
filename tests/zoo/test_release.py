"""`memssl push --all`: everything of the zoo, resumable."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import run
from small_models import small_vit, varied

from memssl_keras import save_pretrained
from memssl_keras.zoo import registry
from memssl_keras.zoo import release as module
from memssl_keras.zoo.hub import HubError
from memssl_keras.zoo.release import release

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two small models as the package would bundle them."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("massl_vita.small", "massl_vitb.small"):
        save_pretrained(varied(small_vit()), folder / name, exports=("transformers", "keras", "fp32"))
    return folder


@pytest.fixture
def bundled(weights, tmp_path, monkeypatch):
    folder = shutil.copytree(weights, tmp_path / "weights")
    monkeypatch.setattr(registry, "_WEIGHTS", folder)
    return folder


@pytest.fixture
def entries(tmp_path):
    path = tmp_path / "models.json"
    path.write_text("{}")
    return path


def test_everything_is_published_and_pinned(hub, bundled, entries, tmp_path):
    icon = {"image": {"bytes": b"png", "path": None}, "set": "lucide", "licence": "ISC"}
    (tmp_path / "benchmark" / "lowshot").mkdir(parents=True)
    for name in ("all.parquet", "lowshot/train.parquet", "lowshot/test.parquet"):
        pq.write_table(pa.Table.from_pylist([icon]), tmp_path / "benchmark" / name)

    def space(folder):
        folder.mkdir()
        (folder / "app.py").write_text("print()")
        (folder / "README.md").write_text("---\nsdk: gradio\n---\n")

    done = list(
        release("me", benchmark=tmp_path / "benchmark", space=space, registry=entries, token="writer")
    )
    names = ["me/massl_vita.small", "me/massl_vitb.small", "me/icons-benchmark", "me/memssl-icons"]
    assert [one.repo_id for one in done] == names and all(one.new for one in done)
    pinned = json.loads(entries.read_text())
    assert list(pinned) == ["massl_vita.small", "massl_vitb.small"]
    for one, (name, entry) in zip(done, pinned.items(), strict=False):
        files = hub.commits[entry["revision"]]
        assert (entry["repo_id"], entry["revision"]) == (f"me/{name}", one.revision)
        assert set(entry["sha256"]) == set(files) - {"README.md", ".gitattributes"}
    data = hub.commits[hub.refs["datasets/me/icons-benchmark"]["main"]]
    assert {"all.parquet", "lowshot/train.parquet", "README.md"} <= set(data)
    assert b"| lucide | ISC | 3 |" in data["README.md"] and b"split: train" in data["README.md"]
    assert "app.py" in hub.commits[hub.refs["spaces/me/memssl-icons"]["main"]]


def test_a_release_goes_on_where_it_stopped(hub, bundled, entries, monkeypatch):
    upload, sent = module.upload, []

    def once(folder, repo_id, **options):
        if sent:
            raise HubError("cut")
        sent.append(repo_id)
        return upload(folder, repo_id, **options)

    monkeypatch.setattr(module, "upload", once)
    with pytest.raises(HubError, match="cut"):
        list(release("me", registry=entries, token="writer"))
    assert list(json.loads(entries.read_text())) == ["massl_vita.small"]
    monkeypatch.setattr(module, "upload", upload)
    assert [one.new for one in release("me", registry=entries, token="writer")] == [False, True]
    assert [one.new for one in release("me", registry=entries, token="writer")] == [False, False]


def test_a_model_that_changed_is_sent_again(hub, bundled, entries):
    first = list(release("me", registry=entries, token="writer"))
    config = bundled / "massl_vita.small" / "config.json"
    config.write_text(config.read_text() + "\n")
    again = list(release("me", registry=entries, token="writer"))
    assert [one.new for one in again] == [True, False] and again[0].revision != first[0].revision


def test_what_the_hub_lost_is_sent_again(hub, bundled, entries):
    list(release("me", registry=entries, token="writer"))
    del hub.refs["me/massl_vitb.small"]
    assert [one.new for one in release("me", registry=entries, token="writer")] == [False, True]


def test_bad_input_is_refused_before_anything_is_sent(hub, bundled, entries, tmp_path):
    with pytest.raises(ValueError, match="owner='me/x'"):
        next(release("me/x", registry=entries))
    with pytest.raises(ValueError, match="expected a folder of Parquet"):
        next(release("me", benchmark=tmp_path / "nothing", registry=entries))
    with pytest.raises(HubError, match="401"):
        next(release("me", registry=entries, token="reader"))
    assert json.loads(entries.read_text()) == {} and not hub.refs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["push"], "MODEL and REPO_ID, or --all OWNER"),
        (["push", "m", "me/m", "--all", "me"], "MODEL: expected none beside --all"),
        (["push", "m", "me/m", "--benchmark", "b"], "--benchmark b: expected --all OWNER with it"),
    ],
)
def test_the_command_says_what_it_expects(given, words):
    assert words in run(*given, code=1)
