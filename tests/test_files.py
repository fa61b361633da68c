"""Files that cannot be written: named, before the work where that is known, and nothing half-written."""

import errno

import pytest
from commands import run

from memssl_keras.files import make_folder, replace_file


def test_a_full_disk_names_the_file(tmp_path):
    def write(part):
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*out\.parquet'"):
        replace_file(tmp_path / "out.parquet", write)
    assert not list(tmp_path.iterdir())


def test_an_error_that_names_its_file_is_left_alone(tmp_path):
    def write(part):
        (tmp_path / "gone" / "x").read_bytes()

    with pytest.raises(FileNotFoundError, match="gone/x"):
        replace_file(tmp_path / "out.parquet", write)


def test_a_folder_is_made_and_written_into(tmp_path):
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "massl_vitn4.cifar10", "--data", "no/data", "--out"],
        ["benchmark", "massl_vitn4.cifar10", "--out"],
    ],
)
def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path, arguments, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "file").write_text("no folder")
    said = run(*arguments, tmp_path / "file" / "out", code=1)
    assert said.startswith("error: ") and "file" in said and "no/data" not in said
