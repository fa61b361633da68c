"""The sets of photographs are rebuilt as their list says, whole or not at all."""

import csv
import hashlib
import pathlib
import struct
import sys
import zlib
from collections import Counter

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "zoo" / "experiments"))
import photographs

COLUMNS = ("set", "class", "file", "package", "path", "member", "sha256_16")


def row(name, content, package="scratch", path="a.bin"):
    digest = hashlib.sha256(content).hexdigest()[:16]
    return dict(zip(COLUMNS, ("scenes", "nature", name, package, path, "", digest), strict=True))


def compiled(files):
    """Qt's binary resources, version 1: a tree of nodes, the files' contents, their names."""
    nodes, data, names = struct.pack(">IHII", 0, 2, len(files), 1), b"", b""
    for name, (content, packed) in files.items():
        if packed:
            content = struct.pack(">I", len(content)) + zlib.compress(content)
        nodes += struct.pack(">IHHHI", len(names), packed, 0, 0, len(data))
        data += struct.pack(">I", len(content)) + content
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    tree = 20
    at = (1, tree, tree + len(nodes), tree + len(nodes) + len(data))
    return b"qres" + struct.pack(">4I", *at) + nodes + data + names


def test_the_list_says_where_each_photograph_is():
    with pathlib.Path(photographs.__file__).with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["set"] for row in rows) == {"scenes": 283, "materials": 283, "foods": 391}
    assert {row["package"] for row in rows} == set(photographs.PACKAGES)
    assert len({(row["set"], row["class"], row["file"]) for row in rows}) == len(rows)
    assert all(len(row["sha256_16"]) == 16 and set(row) == set(COLUMNS) for row in rows)
    assert min(Counter((row["set"], row["class"]) for row in rows).values()) >= 15


def test_reads_stored_and_packed_resources():
    files = {"bison.webp": (b"a picture", 0), "pig.webp": (b"another " * 40, 1)}
    assert dict(photographs.resources(compiled(files))) == {
        f"/{name}": content for name, (content, _) in files.items()
    }


@pytest.mark.parametrize("fault", ["", "missing", "changed"])
def test_a_set_is_written_whole_or_not_at_all(tmp_path, monkeypatch, capsys, fault):
    contents = {"a.bin": b"first", "b.bin": b"second"}
    rows = [row(name, content, path=name) for name, content in contents.items()]

    def unpack(package, folder):
        for name, content in contents.items():
            if name != "b.bin" or fault != "missing":
                (folder / name).write_bytes(content + (b"!" if fault == "changed" else b""))
        return folder

    (tmp_path / "photographs.csv").write_text(
        "\n".join([",".join(COLUMNS), *(",".join(one[column] for column in COLUMNS) for one in rows)])
    )
    monkeypatch.setattr(photographs, "__file__", str(tmp_path / "photographs.py"))
    monkeypatch.setattr(photographs, "unpack", unpack)
    monkeypatch.setattr(sys, "argv", ["photographs.py", str(tmp_path / "out")])
    assert photographs.main() == (1 if fault else 0)
    written = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written == ([] if fault else ["SOURCES.txt", "a.bin", "b.bin"])
    said = capsys.readouterr().err
    assert {"": not said, "missing": "b.bin is not in the package" in said, "changed": "SHA-256" in said}[
        fault
    ]
