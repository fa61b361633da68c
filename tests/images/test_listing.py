"""Which files in a folder are pictures, and that whatever is not read is accounted for."""

import io
import os
import shutil

import pytest
from PIL import Image

from memssl_keras.files import path_of, printable
from memssl_keras.images import find_images, read_image


def png(colour="red"):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()


def names(folder):
    return [printable(path.relative_to(folder)) for path in find_images(folder).images]


@pytest.mark.parametrize(
    "suffix", ["avif", "jfif", "jpe", "jp2", "tga", "pgm", "heic", "ico", "webp", "TIFF"]
)
def test_whatever_pillow_reads_is_a_picture(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(png())
    assert names(tmp_path) == [f"a.{suffix}"] and not find_images(tmp_path).summary()


def test_a_file_without_suffix_is_judged_by_its_content(tmp_path):
    (tmp_path / "IMG0001").write_bytes(png())
    (tmp_path / "README").write_text("words")
    (tmp_path / "notes.txt").write_text("words")
    listing = find_images(tmp_path)
    assert names(tmp_path) == ["IMG0001"]
    assert listing.summary() == "2 other files not read"
    assert listing.details() == [f"{tmp_path / name}: no picture" for name in ("README", "notes.txt")]


def test_linked_folders_are_read_once(tmp_path):
    for name in ("real", "far"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png())
    root = tmp_path / "photos"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "real")
    (root / "dog").symlink_to(tmp_path / "far")
    (root / "again").symlink_to(root)  # a circle
    assert names(root) == ["cat/a.png", "dog/a.png"]


def test_hidden_and_system_folders_are_no_data(tmp_path):
    for folder in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "kept"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(png())
    (tmp_path / ".hidden.png").write_bytes(png())
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    assert names(tmp_path) == ["kept/a.png"]
    listing = find_images(tmp_path)
    assert listing.summary() == "2 other files, 3 folders not read"
    assert f"{tmp_path / '.hidden.png'}: hidden or a system's file" in listing.details()


def test_a_folder_that_cannot_be_read_is_counted(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = find_images(tmp_path)
    assert [path.name for path in listing.images] == ["a.png"]
    assert listing.details() == [f"{tmp_path / 'secret'}: cannot be read (Permission denied)"]


def test_pictures_are_sorted_part_by_part(tmp_path):
    for name in ("a/b.png", "a-b.png", "a.png", "a/B/c.png", "a b/c.png", "é/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images(tmp_path).images
    assert (
        len(found) == 6
        and list(found) == sorted(tmp_path.rglob("*.png"))
        and list(found[2:4]) == [*found][2:4]
    )


def test_a_name_that_is_not_utf_8(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    try:
        with open(path, "wb") as file:
            file.write(png())
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert names(tmp_path) == ["caf\\xe9.png"]
    (found,) = find_images(tmp_path).images
    assert read_image(found).shape == (8, 8, 3)
    assert path_of(printable(found)) == found
    shutil.copy(found, tmp_path / "plain.png")
    assert path_of(str(tmp_path / "plain.png")).name == "plain.png"
