"""JPEGs read by OpenCV: Pillow's pixels where they are whole and plain, Pillow's own word on everything else."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image
from small_models import pictures

from memssl_keras.images import jpeg
from memssl_keras.images.read import ImageError, read_image


def encoded(mode="RGB", kind="JPEG", size=61, **options):
    buffer = io.BytesIO()
    Image.fromarray(pictures(1, size)[0][:, :47]).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(exif=exif)


@pytest.fixture
def opencv_calls(monkeypatch):
    calls, decode = [], jpeg.cv2.imdecode
    monkeypatch.setattr(jpeg.cv2, "imdecode", lambda *args: calls.append(1) or decode(*args))
    return calls


@pytest.mark.parametrize(
    "data",
    [
        *(encoded(quality=90, subsampling=s) for s in (0, 1, 2)),
        encoded(quality=30),
        encoded(progressive=True),
        encoded(optimize=True, restart_marker_blocks=3),
        encoded("L"),
        turned(1),
    ],
)
def test_plain_jpegs_have_pillows_pixels(data, opencv_calls, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        np.testing.assert_array_equal(jpeg.read_fast(source), read_image(source))
    assert len(opencv_calls) == 3 and jpeg.read_fast(data).flags.writeable


@pytest.mark.parametrize(
    "source",
    [
        *(turned(orientation) for orientation in (3, 6, 8)),
        encoded("CMYK"),
        encoded(kind="PNG"),
        encoded(kind="WEBP"),
        encoded()[:-2] + b"\0\0",
        pictures(1)[0],
        Image.fromarray(pictures(1)[0]),
        bytearray(encoded()),
    ],
)
def test_everything_else_is_read_by_pillow(source, opencv_calls):
    np.testing.assert_array_equal(jpeg.read_fast(source), read_image(source))
    assert not opencv_calls


def outcome(read, source):
    try:
        return read(source).tobytes()
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_damaged_jpegs_are_judged_as_by_pillow(options, end):
    whole = encoded(quality=95, **options)
    cuts = [whole[:length] + end for length in range(0, len(whole), 29)]
    assert [outcome(jpeg.read_fast, c) for c in cuts] == [outcome(read_image, c) for c in cuts]


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    for path in (tmp_path / "missing.jpg", tmp_path):
        assert outcome(jpeg.read_fast, path) == outcome(read_image, path)
        assert str(path) in outcome(jpeg.read_fast, path)
    with pytest.raises(TypeError, match="source: got int"):
        jpeg.read_fast(3)
    path = pathlib.Path(tmp_path / "large.jpg")
    path.write_bytes(encoded())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageError, match="limit of 2000"):
        jpeg.read_fast(path)
