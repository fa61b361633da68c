"""The demo without a browser: gallery, vectors, index, search, and what a search says."""

import collections
import re
import socket
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_page import png, save, write_gallery
from onnx_folder import write_encoder
from PIL import Image

from memssl_keras.demo.app import launch
from memssl_keras.demo.gallery import BUNDLED, open_gallery
from memssl_keras.demo.index import CosineIndex
from memssl_keras.demo.inside import Inside
from memssl_keras.demo.map import lay_out, map_rows
from memssl_keras.demo.models import DEFAULT, beside, open_model, shown_name
from memssl_keras.demo.pictures import cut
from memssl_keras.demo.retrieve import Page
from memssl_keras.demo.search import Retrieval, load
from memssl_keras.demo.vectors import SHIPPED, embed_gallery, pixel_digest
from memssl_keras.images.read import ImageError, read_image
from memssl_keras.zoo.registry import bundled_models


def rows_in(html):
    return [int(row) for row in re.findall(r'data-row="(\d+)"', html)]


def test_the_bundled_gallery_is_complete():
    assert BUNDLED.stat().st_size < 6_000_000
    table = pq.read_table(BUNDLED).to_pydict()
    assert sorted(table) == ["category", "group", "id", "image", "licence", "name", "set", "style"]
    assert 10_000 <= len(table["id"]) == len(set(table["id"])) <= 12_000 and "lucide:house" in table["id"]
    assert set(table["style"]) == {"line", "solid", "duotone", "colour"}
    assert set(table["licence"]) == {"MIT", "ISC", "Apache-2.0", "CC-BY-4.0"}
    assert all(table["name"]) and all(table["group"]) and len(set(table["category"])) <= 40
    emoji = [name for name, style in zip(table["name"], table["style"], strict=True) if style == "colour"]
    assert set(collections.Counter(emoji).values()) == {3}  # each by three hands
    marks = {"github", "facebook", "twitter", "windows", "android", "whatsapp", "figma", "slack"}
    assert not marks.intersection(*[set(table["group"])])


def test_the_licences_of_all_sets_are_listed():
    table = pq.read_table(BUNDLED, columns=["id", "set", "licence"]).to_pylist()
    licences = (BUNDLED.parent / "LICENSES.md").read_text(encoding="utf-8")
    counts = collections.Counter((row["set"], row["id"].split(":")[0], row["licence"]) for row in table)
    for (title, prefix, licence), count in counts.items():
        (line,) = [line for line in licences.splitlines() if line.startswith(f"| {title} (`{prefix}`) |")]
        assert f"| {count:,} |" in line and re.search(rf"\| {re.escape(licence)}(, https://\S+)? \|$", line)
    assert f"{len(table):,} icons of {len(counts)} sets" in licences
    for words in ("Apache License 2.0", "creativecommons.org/licenses/by/4.0", "## MIT", "## ISC"):
        assert words in licences


def test_the_bundled_vectors_are_those_of_the_model():
    model, gallery = open_model(DEFAULT), open_gallery()
    known = embed_gallery(model.encoder, gallery.source, None, shipped=SHIPPED / model.revision)
    assert known.fresh == 0 and len(known.rows) == len(gallery)
    rows = list(range(0, len(gallery), 400))
    expected = model.encoder.embed([gallery.read(row) for row in rows])
    assert (known.vectors[rows] * expected).sum(1).min() > 0.99
    assert all(known.pixels[row] == pixel_digest(gallery.read(row)) for row in rows)


def test_datasets_reads_the_gallery_as_images(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset("parquet", data_files=str(BUNDLED), split="train", cache_dir=str(tmp_path))
    assert isinstance(rows.features["image"], datasets.Image)
    assert rows[0]["image"].size == (48, 48)


def test_reads_a_gallery_without_the_optional_columns(tmp_path):
    structs = [{"bytes": png("red"), "path": None}, {"bytes": png("blue"), "path": None}]
    gallery = open_gallery(write_gallery(tmp_path / "plain.parquet", structs, note=["a", "a"]))
    assert (
        gallery.names == ["Image 0", "Image 1"] and not gallery.columns
    )  # one value is nothing to filter by


def test_filters_by_the_gallerys_own_columns(tmp_path):
    path = tmp_path / "own.parquet"
    table = pa.table(
        {
            "image": [png(colour) for colour in ("red", "blue", "green")],
            "made_of": ["wood", "wood", "tin"],
            "year": [10, 9, None],
            "weight": [1.5, 2.5, 3.5],
            "id": ["a", "b", "c"],
        }
    )
    pq.write_table(table, path)
    gallery = open_gallery(path)
    assert gallery.columns["Made of"][0] == ["tin", "wood"]
    assert gallery.columns["Year"][0] == ["9", "10"] and gallery.value(2, "Year") == ""
    assert "Weight" not in gallery.columns


def test_a_folder_is_a_gallery_by_its_subfolders(tmp_path):
    for name in ("cats/tom.png", "cats/kit.png", "dogs/rex.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png("red"))
    gallery = open_gallery(tmp_path)
    assert gallery.names == ["kit.png", "tom.png", "rex.png"]
    assert [gallery.value(row, "Folder") for row in range(3)] == ["cats", "cats", "dogs"]


def test_says_what_is_wrong_with_a_gallery(tmp_path, model):
    (tmp_path / "text.parquet").write_text("no table")
    (tmp_path / "nothing here").mkdir()
    pq.write_table(pa.table({"picture": ["a", "b"], "name": ["a", "b"]}), tmp_path / "other.parquet")
    write_gallery(tmp_path / "empty.parquet", pa.array([], pa.binary()))
    write_gallery(tmp_path / "damaged.parquet", [None, png("red")[:45]])
    for name, message in [
        ("missing.parquet", "gallery: .*no such file"),
        ("text.parquet", "not readable as Parquet"),
        ("other.parquet", "image columns are none of picture, name"),
        ("empty.parquet", "has no rows"),
        ("nothing here", "holds no image"),
        ("damaged.parquet", "none of 2 images can be read; .*#0: the file is empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            load(model, tmp_path / name)


def test_leaves_out_what_cannot_be_read_and_says_what(tmp_path, model):
    images = [png("red"), png("red")[:45], png("blue")]
    retrieval = load(model, write_gallery(tmp_path / "one.parquet", images, name=["a", "b", "c"]))
    assert retrieval.gallery.names == ["a", "c"] and len(retrieval.index.vectors) == 2
    (error,) = retrieval.failures
    assert error.name.endswith("one.parquet#1") and "truncated or damaged" in error.reason


def test_only_what_is_new_is_embedded(tmp_path, model):
    opened, cache, folder = open_model(str(model)), tmp_path / "cache", tmp_path / "pictures"
    folder.mkdir()
    for colour in ("red", "blue"):
        save(folder, png(colour), f"{colour}.png")
    first = Retrieval(opened, open_gallery(folder), cache)
    assert (first.fresh, Retrieval(opened, open_gallery(folder), cache).fresh) == (2, 0)
    save(folder, png("green"), "another.png")
    (folder / "red.png").rename(folder / "renamed.png")
    seen = []
    grown = Retrieval(opened, open_gallery(folder), cache, seen.append)
    assert grown.fresh == 1 and sum(seen) == 3
    assert grown.gallery.names == ["another.png", "blue.png", "renamed.png"]
    np.testing.assert_array_equal(grown.index.vectors[[2, 1]], first.index.vectors[[1, 0]])
    save(folder, png("white"), "blue.png")  # the same name, another picture
    assert Retrieval(opened, open_gallery(folder), cache).fresh == 1


def test_a_damaged_cache_is_made_again(tmp_path, model, colours):
    opened, cache = open_model(str(model)), tmp_path / "cache"
    first = Retrieval(opened, open_gallery(colours), cache)
    (file,) = (cache / opened.revision).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-7])
    again = Retrieval(opened, open_gallery(colours), cache)
    assert again.fresh == 3
    np.testing.assert_array_equal(again.index.vectors, first.index.vectors)


def unit_vectors(count, width, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("exact", [100, 10])
def test_the_index_finds_the_most_similar_first(exact):
    vectors = unit_vectors(50, 8)
    index = CosineIndex(vectors, exact=exact)
    assert (index.graph is None) == (exact == 100)
    rows, similarities = index.search(vectors[7], k=5)
    assert rows[0] == 7 and similarities[0] == pytest.approx(1)
    assert np.array_equal(rows, np.argsort(-(vectors @ vectors[7]))[:5])
    assert (np.diff(similarities) <= 0).all()
    allowed = np.arange(50) % 2 == 0
    rows, _ = index.search(vectors[7], k=100, allowed=allowed)
    assert len(rows) == 25 and (rows % 2 == 0).all()
    rows, _ = index.search(vectors[7], k=3, allowed=np.arange(50) < 2)
    assert sorted(rows) == [0, 1]


def test_the_graph_is_kept_and_a_damaged_one_is_built_again(tmp_path):
    vectors, file = unit_vectors(300, 16), tmp_path / "folder" / "graph.hnsw"
    found = CosineIndex(vectors, exact=10, file=file).search(vectors[0], 10)
    kept = file.stat().st_mtime_ns
    np.testing.assert_array_equal(CosineIndex(vectors, 10, file).search(vectors[0], 10)[0], found[0])
    assert file.stat().st_mtime_ns == kept
    file.write_bytes(file.read_bytes()[:1000])
    np.testing.assert_array_equal(CosineIndex(vectors, 10, file).search(vectors[0], 10)[0], found[0])
    assert file.stat().st_size > 1000


def test_embeds_the_gallery_once_per_process(model, hands):
    assert load(model, hands) is load(str(model), str(hands))


def test_results_leave_the_query_itself_out(tmp_path, emoji):
    headline, results = Page(emoji).look(save(tmp_path, emoji.gallery.source[300]), k=5)
    rows = rows_in(results)
    assert len(rows) == 5 and 300 not in rows
    assert emoji.gallery.names[300] in headline and "5 of 902 pictures" in headline
    assert len(re.findall(r"[\d.]+ ms", headline)) == 2
    vectors = emoji.index.vectors
    similarities = vectors @ vectors[300]
    similarities[300] = -1
    assert rows == np.argsort(-similarities, kind="stable")[:5].tolist()


def test_a_copy_in_another_file_format_is_the_same_picture(tmp_path, emoji):
    path = tmp_path / "copy.bmp"
    Image.fromarray(emoji.gallery.read(10)).save(path)
    assert emoji.search(read_image(path), k=48).itself == 10


def test_a_large_picture_of_the_gallery_is_known_at_the_size_that_is_shown(tmp_path, model):
    gallery = write_gallery(tmp_path / "large.parquet", [png("red", (1500, 10)), png("blue")])
    retrieval = load(model, gallery)
    shown = retrieval.as_query(0)
    assert max(shown.size) == 1024 and retrieval.search(np.asarray(shown)).itself == 0


def test_a_part_is_searched_alone(tmp_path, model, colours):
    pixels = np.concatenate([read_image(png("blue", (30, 20))), read_image(png("red", (30, 20)))])
    assert (cut(pixels, (0, 0.5, 1, 1)) == [255, 0, 0]).all() and cut(pixels, (0, 0.5, 1, 1)).shape[0] == 20
    assert cut(pixels, (0.999, 0.999, 1, 1)).shape == (1, 1, 3)
    path = tmp_path / "both.png"
    Image.fromarray(pixels).save(path)
    headline, results = Page(load(model, colours)).look(path, (0, 0.5, 1, 1), 3)
    assert rows_in(results)[0] == 0 and "Nearest to the part in the box" in headline
    for part in [(0, 0, 0, 1), (0, 0, 2, 1), (0, 1), "left", (float("nan"), 0, 1, 1)]:
        with pytest.raises(ValueError, match="part: got"):
            cut(pixels, part)


def test_filters_restrict_and_combine(emoji):
    filters = {"Set": ["Noto Emoji", "Twitter Emoji"], "Category": ["Food & drink"]}
    rows = emoji.search(read_image(png("red")), 48, filters).rows
    assert len(rows) == 48
    assert {emoji.gallery.value(row, "Set") for row in rows} == {"Noto Emoji", "Twitter Emoji"}
    assert {emoji.gallery.value(row, "Category") for row in rows} == {"Food & drink"}
    with pytest.raises(ValueError, match="filters: got 'Colour'; expected Set, Category"):
        emoji.search(read_image(png("red")), 3, {"Colour": ["red"]})
    with pytest.raises(ValueError, match="Set: got 'Nobody'"):
        emoji.search(read_image(png("red")), 3, {"Set": ["Nobody"]})


def test_explains_when_filters_leave_nothing(tmp_path, model, colours):
    page = Page(load(model, colours))
    headline, results = page.look(save(tmp_path, png("red")), None, 3, None, ["Bob"], ["Warm"])
    assert "No picture matches these filters" in headline and not results


def test_starts_with_a_look_into_the_gallery(emoji):
    headline, results = Page(emoji).look(None)
    assert "bring your own" in headline and len(rows_in(results)) == 24


def test_explains_an_unreadable_picture(tmp_path, emoji):
    path = tmp_path / "notes.txt"
    path.write_text("no pixels")
    headline, results = Page(emoji).look(path)
    assert "notes.txt: not an image" in headline and not results


def test_compares_two_models_on_one_query(tmp_path, emoji):
    page = Page(emoji, {"other": lambda: emoji})
    headline, results = page.look(save(tmp_path, emoji.gallery.source[300]), None, 5, "other")
    assert "5 of 5 pictures are found by both" in headline and results.count("<section>") == 2
    rows = rows_in(results)
    assert rows[:5] == rows[5:]


def test_a_model_stands_beside_its_variants_and_the_bundled_ones(tmp_path):
    folder = write_encoder(tmp_path / "mine")
    (folder / "onnx" / "model_quantized.onnx").write_bytes((folder / "onnx" / "model.onnx").read_bytes())
    assert beside(str(folder)) == [f"{folder}@int8", *bundled_models()]
    assert beside(f"{folder}@int8")[0] == f"{folder}@fp32"
    assert shown_name(f"{folder}@int8") == "mine@int8"
    assert open_model(f"{folder}@int8").name == "mine@int8"


def test_without_a_variant_a_model_that_has_int8_alone_is_opened(tmp_path):
    folder = write_encoder(tmp_path / "small")
    (folder / "onnx" / "model.onnx").rename(folder / "onnx" / "model_quantized.onnx")
    assert open_model(str(folder)).file.name == "model_quantized.onnx"
    with pytest.raises(FileNotFoundError, match="variant='fp32': small has int8"):
        open_model(f"{folder}@fp32")
    assert all(open_model(name).encoder.embed_dim > 0 for name in bundled_models())
    assert beside(str(folder)) == bundled_models()


def test_a_model_to_compare_with_that_is_damaged_is_said(tmp_path, emoji):
    def broken():
        raise ValueError(f"{tmp_path}/model.onnx: not readable")

    page = Page(emoji, {"broken": broken})
    headline, results = page.look(save(tmp_path, png("red")), None, 5, "broken")
    assert "broken is missing or damaged" in headline and str(tmp_path) not in headline and not results


@pytest.mark.slow
def test_the_demo_loads_neither_torch_nor_keras(model, hands):
    code = (
        "import sys\nfrom memssl_keras.demo.app import build_app\n"
        f"build_app({str(model)!r}, {str(hands)!r})\n"
        "print(sorted({'torch', 'keras', 'tensorflow', 'jax', 'onnx'} & sys.modules.keys()))\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip().splitlines()[-1] == "[]"


def test_names_a_taken_port(model, hands):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port: got {port}"):
            launch(model, hands, port=port, open_browser=False, prevent_thread_lock=True)


def test_the_digest_of_pixels_depends_on_their_shape():
    assert pixel_digest(np.zeros((2, 3, 3), np.uint8)) != pixel_digest(np.zeros((3, 2, 3), np.uint8))
    with pytest.raises(ImageError):
        read_image(b"no image")


def test_the_map_keeps_neighbourhoods_and_is_computed_once(tmp_path):
    rng = np.random.default_rng(0)
    groups = np.eye(3, 12, dtype=np.float32).repeat(20, axis=0)
    vectors = groups + 0.1 * rng.standard_normal((60, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = lay_out(vectors, tmp_path)
    assert places.shape == (60, 2) and places.min() == 0 and places.max() == 1
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(60) * 9
    assert (apart.argmin(1) // 20 == np.arange(60) // 20).all()
    (file,) = tmp_path.iterdir()
    np.save(file, places[:, ::-1])
    np.testing.assert_array_equal(lay_out(vectors, tmp_path), places[:, ::-1])
    file.write_bytes(b"no array")
    np.testing.assert_array_equal(lay_out(vectors, tmp_path), places)
    for few in (1, 2, 5):
        assert np.isfinite(lay_out(vectors[:few])).all()


def test_the_map_of_a_large_gallery_is_spread_over_it():
    rows = map_rows(100_000)
    assert len(set(rows.tolist())) == 2000 and rows[0] < 50 and rows[-1] >= 99_950
    assert map_rows(3).tolist() == [0, 1, 2]


def test_the_map_of_the_bundled_gallery_is_shipped(monkeypatch):
    monkeypatch.setattr("memssl_keras.demo.inside.lay_out", None)  # nothing is laid out
    inside = Inside(load())
    assert inside.places.shape == (2000, 2) and inside.places.min() == 0 and inside.places.max() == 1
    vectors = inside.retrieval.index.vectors[inside.rows]
    nearest = vectors @ vectors.T - 2 * np.eye(2000)
    apart = np.linalg.norm(inside.places - inside.places[nearest.argmax(1)], axis=1)
    assert np.median(apart) < 0.02  # a fiftieth of the map is where the picture most alike is


def test_the_map_names_things_as_they_are(model, colours):
    html = Inside(load(model, colours)).picture()
    assert html.count('class="dot"') == 3 and "<b id" not in html
