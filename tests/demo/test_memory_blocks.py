"""The blocks of the training memory: looked up, on the page, over the network, and where a model ships none."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from demo_page import NASTY, get, keep_screenshot, png, save
from memory_run import train, write_pictures
from PIL import Image

from memssl_keras.data.sources import open_source
from memssl_keras.demo.blocks import show
from memssl_keras.demo.inside import Inside
from memssl_keras.demo.models import open_model
from memssl_keras.demo.recall import open_recall
from memssl_keras.demo.search import load
from memssl_keras.demo.space import write_space

pytestmark = pytest.mark.slow

CREDITS = f"Noto Emoji (Apache-2.0), {NASTY}"
COUNT = 54  # in 64 slots


@pytest.fixture(scope="module")
def images(hands):
    """Emoji of one style, which are in the gallery too."""
    return [
        np.asarray(Image.open(io.BytesIO(item)).convert("RGB")) for item in list(open_source(hands))[:903:17]
    ]


@pytest.fixture(scope="module", params=["vit", "resnet"])
def folder(request, tmp_path_factory, images, demo_cache):
    """A model with its memory, which was trained for seconds."""
    from memssl_keras import export_onnx
    from memssl_keras.zoo.run_memory import memory_of_run, ship_memory

    path = tmp_path_factory.mktemp(request.param)
    names = [f"Emoji {i}" if i else NASTY for i in range(len(images))]
    model = train(path / "run", write_pictures(path / "emoji.parquet", images, names), request.param)
    ship_memory(memory_of_run(path / "run", open_source(path / "emoji.parquet")), path / "run", CREDITS)
    export_onnx(model.encoder, path / "run", variants=["fp32", "int8"])
    return path / "run"


def test_blocks_are_those_of_a_step(folder, images):
    recall = open_recall(open_model(str(folder)))
    assert recall.blocks == 4
    blocks = recall.look_up(images[3], draw=7, k=16)
    order = np.concatenate([block.slots for block in blocks])
    assert sorted(order.tolist()) == list(range(64))
    similarities = recall.memory.vectors @ recall.vector(images[3])
    for block in blocks:
        np.testing.assert_allclose(block.similarities, similarities[block.slots], atol=1e-6)
        assert (np.diff(block.similarities) <= 0).all()
        logits = np.exp(block.similarities.astype(float) / recall.memory.temperature)
        np.testing.assert_allclose(block.shares, logits / logits.sum(), atol=1e-5)
    first = {frozenset(block.slots.tolist()) for block in blocks}
    again = recall.look_up(images[3], draw=7, k=16)
    assert first == {frozenset(block.slots.tolist()) for block in again}
    assert first != {frozenset(block.slots.tolist()) for block in recall.look_up(images[3], draw=8, k=16)}
    for wrong in ({"draw": -1}, {"k": 0}, {"k": 101}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: got"):
            recall.look_up(images[3], **wrong)


def test_vectors_are_those_of_the_teacher(folder, images):
    from memssl_keras.zoo.run_memory import memory_of_run

    model = memory_of_run(folder, open_source(folder.parent / "emoji.parquet")).model
    for spec, tolerance in ((folder, 1e-4), (f"{folder}@int8", 0.5)):
        opened = open_model(str(spec))
        recall = open_recall(opened)
        pixels = opened.encoder.preprocessing.batch([images[5]])
        expected = model.teacher.head(model.encoder.predict_on_batch(pixels), training=False)[0]
        np.testing.assert_allclose(recall.vector(images[5]), expected.detach().numpy(), atol=tolerance)


def test_shows_nothing_where_there_is_no_memory_and_says_that_one_is_damaged(
    folder, model, colours, tmp_path, capsys
):
    assert Inside(load(model, colours)).remember(None) == ("", "", False)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "memory" / "vectors.safetensors").write_bytes(b"nothing")
    said, _, more = Inside(load(broken, colours)).remember(None)
    assert "is damaged or cannot be fetched" in said and str(tmp_path) not in said and not more
    assert str(broken) in capsys.readouterr().out
    other = shutil.copytree(folder, tmp_path / "other")
    shutil.copy(other / "onnx" / "model.onnx", other / "onnx" / "head.onnx")
    with pytest.raises(ValueError, match="other: its head maps .*; expected feature"):
        open_recall(open_model(str(other)))


def test_texts_from_outside_are_escaped(folder, images):
    recall = open_recall(open_model(str(folder)))
    html = show(recall, recall.look_up(images[0], k=16))
    assert "<b id=injected>" not in html and "&lt;b id=injected&gt;" in html
    assert html.count("<figure") == 64 and html.count('class="nothing"') == 0


def test_slots_without_a_picture_and_many_blocks_are_said(folder, images):
    recall = open_recall(open_model(str(folder)))
    empty = dataclasses.replace(recall.memory, indices=np.full(64, -1), names=None, block_size=4)
    recall.memory = dataclasses.replace(empty, indices=np.arange(64) % 9 - 1)
    html = show(recall, recall.look_up(images[0], k=4))
    assert html.count("<section>") == 8 and "The first 8 of 16 blocks." in html
    assert 'class="nothing">random start<' in html and 'alt="Training picture 3"' in html
    recall.memory = empty
    html = show(recall, recall.look_up(images[0], k=4))
    assert html.count('class="nothing"') == 32 and "<img" not in html


def test_pictures_come_by_slot_and_nothing_else_does(folder, serve, colours, tmp_path):
    gradio_client = pytest.importorskip("gradio_client")
    address = serve(folder, colours)
    client = gradio_client.Client(address, verbose=False)
    picture = gradio_client.handle_file(save(tmp_path, png("red")))
    answer = client.predict(picture, 3, 2, api_name="/memory")
    assert answer["block_size"] == 16 and answer["credits"] == CREDITS and len(answer["blocks"]) == 4
    assert all(len(block) == 2 for block in answer["blocks"])
    nearest = answer["blocks"][0][0]
    status, data, headers = get(address + nearest["picture"])
    assert status == 200 and headers["Content-Type"] == "image/webp"
    assert max(Image.open(io.BytesIO(data)).size) == 48
    assert nearest["name"] in {NASTY, *(f"Emoji {i}" for i in range(COUNT))}
    key = nearest["picture"].split("/")[1]
    for path in ("64", "-1", "0/../../config.json"):
        assert get(f"{address}gallery/{key}/{path}.webp")[0] in (404, 422)
    for arguments, message in (((picture, -1, 2), "draw: got -1"), ((picture, 0, 101), "k: got 101")):
        with pytest.raises(Exception, match=message):
            client.predict(*arguments, api_name="/memory")


def test_the_endpoint_says_that_there_is_none(serve, model, colours, tmp_path):
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(serve(model, colours), verbose=False)
    with pytest.raises(Exception, match="this model does not ship its memory"):
        client.predict(gradio_client.handle_file(save(tmp_path, png("red"))), api_name="/memory")


def test_a_space_takes_the_memory_with_it(folder, colours, tmp_path):
    space = write_space(tmp_path / "space", folder, colours)
    assert len(open_recall(open_model(str(space / folder.name))).memory) == 64
    assert "Pictures of the training memory: Noto Emoji (Apache-2.0)" in (space / "README.md").read_text()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_shows_the_blocks_and_draws_others(folder, tmp_path, visit, width, scheme):
    page = visit(folder, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.get_by_role("tab", name="Look inside").click()
    page.locator("#memory h2", has_text="What the training memory saw").wait_for()
    assert "last 64 pictures" in page.inner_text("#memory") and "4 blocks of 16" in page.inner_text("#memory")
    assert not page.locator("#draw").is_visible()
    page.locator("#map .dot").nth(902).wait_for(timeout=60_000)
    page.locator("#inside-examples .card").nth(3).click()
    page.locator("#blocks .blocks section").nth(3).wait_for()
    assert page.locator("#blocks figure.card").count() == 24
    cards = page.locator("#blocks figure img")
    cards.last.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('#blocks img')].every(img => img.naturalWidth && img.alt)"
    )
    assert page.locator("#injected").count() == 0
    before = page.locator("#blocks .blocks").inner_html()
    page.locator("#draw").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "before => document.querySelector('#blocks .blocks').innerHTML != before", arg=before
    )
    page.wait_for_function("[...document.querySelectorAll('#blocks img')].every(img => img.naturalWidth)")
    assert NASTY in page.locator("#blocks .notes").inner_text()
    keep_screenshot(page, tmp_path, f"memory-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_hides_what_a_model_does_not_ship(model, colours, visit):
    page = visit(model, colours)
    page.get_by_role("tab", name="Look inside").click()
    page.locator("#map .dot").nth(2).wait_for()
    page.locator("#inside-examples .card").first.click()
    page.locator("#inside-status h2", has_text="Where its look-alikes are").wait_for()
    assert page.locator("#memory h2").count() == 0 and page.locator("#blocks .blocks").count() == 0
    assert not page.locator("#draw").is_visible()
