"""Every kind of image that people have lying around: the right pixels, or one error that names the file."""

import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from memssl_keras.images import ImageError, list_images, read_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def save(path, image, **options):
    image.save(path, **options)
    return path


def assert_is_colour(pixels, colour, size=(4, 4), tolerance=0):
    assert pixels.dtype == np.uint8 and pixels.shape == (size[1], size[0], 3)
    assert np.abs(pixels.astype(int) - colour).max() <= tolerance, pixels[0, 0]


@pytest.mark.parametrize(
    ("mode", "colour", "expected", "suffix"),
    [
        ("RGB", RED, RED, "png"),
        ("RGBA", (255, 0, 0, 0), WHITE, "png"),
        ("RGBA", (255, 0, 0, 102), (255, 153, 153), "png"),
        ("L", 90, (90, 90, 90), "png"),
        ("LA", (0, 51), (204, 204, 204), "png"),
        ("1", 1, WHITE, "png"),
        ("1", 0, (0, 0, 0), "png"),
        ("CMYK", (0, 255, 255, 0), RED, "tif"),
        ("CMYK", (0, 255, 255, 0), RED, "jpg"),
        ("F", 0.2, (51, 51, 51), "tif"),
    ],
)
def test_reads_each_mode(tmp_path, mode, colour, expected, suffix):
    path = save(tmp_path / f"image.{suffix}", Image.new(mode, (4, 4), colour))
    assert_is_colour(read_image(path), expected, tolerance=2 if suffix == "jpg" else 0)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_scales_16_bits_instead_of_clipping(tmp_path, suffix):
    wide = np.array([[0, 257, 32768, 65535]], np.uint16)
    path = save(tmp_path / f"wide.{suffix}", Image.fromarray(wide))
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("top, bits", [(4095, 12), (16383, 14)])
def test_a_16_bit_file_of_fewer_bits_is_not_black(tmp_path, top, bits, monkeypatch):
    wide = np.array([[0, top // 2, top]], np.uint16)
    for suffix in ("png", "tif"):
        path = save(tmp_path / f"wide.{suffix}", Image.fromarray(wide))
        with pytest.warns(
            UserWarning, match=f"wide.{suffix}: .* largest value is {top} is read as one of {bits} bits"
        ):
            assert read_image(path)[0, :, 0].tolist() == [0, 127, 255]
        with pytest.warns(UserWarning, match="a 16-bit picture"):
            assert read_image(wide).tolist() == read_image(path).tolist()
        with monkeypatch.context() as patched:
            patched.setenv("MEMSSL_BIT_DEPTH", "16")
            assert read_image(wide).tolist() == read_image(path).tolist()
            assert read_image(path)[0, 2, 0] == round(top / 257)
            patched.setenv("MEMSSL_BIT_DEPTH", "x")
            with pytest.raises(
                ValueError, match="MEMSSL_BIT_DEPTH='x': expected a number of bits from 8 to 16"
            ):
                read_image(path)


def test_heif_is_read_or_names_the_package(tmp_path, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.new("RGB", (16, 16), (200, 30, 30))).save(tmp_path / "phone.heic")
    assert np.abs(read_image(tmp_path / "phone.heic") - np.array([200.0, 30, 30])).max() < 6
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ImageError, match="phone.heic: a HEIC or HEIF picture; pip install pillow-heif"):
        read_image(tmp_path / "phone.heic")


def test_lays_a_transparent_16_bit_value_on_white(tmp_path):
    path = save(tmp_path / "wide.png", Image.fromarray(np.array([[0, 50000]], np.uint16)), transparency=0)
    assert read_image(path)[0, :, 0].tolist() == [255, 195]


def test_reads_palettes_with_and_without_transparency(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    assert_is_colour(read_image(save(tmp_path / "opaque.png", image)), RED)
    assert_is_colour(read_image(save(tmp_path / "clear.png", image, transparency=1)), WHITE)
    assert_is_colour(
        read_image(save(tmp_path / "half.png", image, transparency=b"\xff\x66")), (255, 153, 153)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_photos_upright(tmp_path, orientation):
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:4, :8] = RED  # top left, of a landscape format: no two orientations look the same
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(upright)))
    path = save(tmp_path / "photo.png", stored, exif=exif)
    assert np.array_equal(read_image(path), upright)


def test_takes_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    for suffix in ("gif", "png", "webp"):
        options = {"lossless": True} if suffix == "webp" else {}
        path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
        assert_is_colour(read_image(path), RED)


def test_takes_paths_bytes_pil_images_and_arrays(tmp_path):
    image = Image.new("RGB", (1, 1), RED)
    path = save(tmp_path / "one.png", image)
    pixels = np.asarray(image)
    for source in (
        path,
        str(path),
        path.read_bytes(),
        bytearray(path.read_bytes()),
        image,
        pixels,
    ):
        assert_is_colour(read_image(source), RED, size=(1, 1))
    assert read_image(pixels) is pixels


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((4, 4), 7, np.uint8), (7, 7, 7)),
        (np.full((4, 4, 1), 7, np.uint8), (7, 7, 7)),
        (np.full((4, 4, 3), 0.2, np.float32), (51, 51, 51)),
        (np.full((4, 4), 1.0), WHITE),
        (np.full((4, 4), 0.999), WHITE),
        (np.full((4, 4, 3), 257 * 90, np.uint16), (90, 90, 90)),
        (np.broadcast_to(np.uint8([255, 0, 0, 102]), (4, 4, 4)), (255, 153, 153)),
    ],
)
def test_reads_arrays(array, expected):
    assert_is_colour(read_image(array), expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((4,), np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.int64), "dtype int64"),
        (np.full((4, 4, 3), 255.0), "floats from 255 to 255"),
        (np.full((4, 4), -0.1), "floats from -0.1"),
        (np.full((4, 4), np.nan), "floats from nan"),
    ],
)
def test_refuses_other_arrays(array, message):
    with pytest.raises(ImageError, match=message):
        read_image(array)


def test_refuses_other_types():
    with pytest.raises(TypeError, match="source: got int"):
        read_image(3)


def noisy(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return save(tmp_path / f"noise.{suffix}", Image.fromarray(pixels))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_names_a_truncated_file(tmp_path, suffix, share):
    path = noisy(tmp_path, suffix)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=rf"noise\.{suffix}: (truncated|damaged|not an image)"):
        read_image(path)


def test_names_what_is_no_image(tmp_path):
    (tmp_path / "text.png").write_text("no pixels here")
    (tmp_path / "empty.png").touch()
    save(tmp_path / "deep.tif", Image.new("I", (4, 4), 70000))
    for name, message in [
        ("text.png", "not an image"),
        ("empty.png", "the file is empty"),
        ("missing.png", "no such file"),
        ("deep.tif", "32-bit integer"),
    ]:
        with pytest.raises(ImageError, match=message) as caught:
            read_image(tmp_path / name)
        assert caught.value.name == str(tmp_path / name)
        assert str(caught.value) == f"{caught.value.name}: {caught.value.reason}"
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("limit", [15, 10, 4])  # of 16 pixels: a warning up to half, an error below
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_refuses_a_decompression_bomb(tmp_path, monkeypatch, limit):
    path = save(tmp_path / "bomb.png", Image.new("RGB", (4, 4)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ImageError, match=r"bomb\.png: .*limit of \d+.*; MEMSSL_MAX_PIXELS.* raises it"):
        read_image(path)
    monkeypatch.setenv("MEMSSL_MAX_PIXELS", "16")
    assert read_image(path).shape == (4, 4, 3)
    monkeypatch.setenv("MEMSSL_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="MEMSSL_MAX_PIXELS='many': expected a number of pixels"):
        read_image(path)


def test_the_pixel_limit_is_pillows_own():
    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3


def test_an_error_crosses_processes():
    error = pickle.loads(pickle.dumps(ImageError("a.png", "the file is empty")))
    assert (error.name, error.reason) == ("a.png", "the file is empty")


def test_lists_images_by_suffix_in_subfolders(tmp_path):
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    for name in ("b.PNG", "a.jpg", "sub/c.webp", "sub/deep/d.tiff", "notes.txt", "._a.jpg"):
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["a.jpg", "b.PNG", "sub/c.webp", "sub/deep/d.tiff"]


def test_says_why_there_is_nothing_to_list(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        ImageError, match=r"holds no image \(1 other file not read\); expected files such as \.jpg"
    ):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(ImageError, match="is a file"):
        list_images(tmp_path / "notes.txt")
