"""Some 300 pictures as a person has them after years: every format, odd names, links, and files that are broken."""

import io
import os

import numpy as np
from PIL import Image
from small_models import pictures

ODD_NAMES = [
    b"caf\xe9.png",
    b"IMG [edited].png",
    b"z[/bold].png",
    b" space in front.png",
    b"two\nlines.png",
    b"tab\there.png",
    "chat 🐈.png".encode(),
    b"quote'\"`.png",
    b"#1#2.png",
    b"100%41.png",
    b"-dash.png",
    b"a;b,c.png",
    b"$(touch x).png",
    b"x" * 200 + b".png",
    "e\u0301te\u0301.PNG".encode(),
]


def encoded(picture, kind, **options):
    """Bytes of a picture in one of Pillow's formats."""
    out = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(out, kind, **options)
    return out.getvalue()


def wide(picture, top):
    """16 bits a pixel, of which the values up to `top` are used."""
    return Image.fromarray((picture[..., 0].astype(np.uint16) * (top // 255)).astype(np.uint16))


def turned(picture):
    """A JPEG that lies on its side and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture, "JPEG", exif=exif)


def rgb(picture, mode):
    return Image.fromarray(picture).convert(mode)


FORMATS = {
    "jpg": lambda p: encoded(p, "JPEG"),
    "JPG": turned,
    "jpeg": lambda p: encoded(p, "JPEG", progressive=True),
    "jfif": lambda p: encoded(p, "JPEG"),
    "png": lambda p: encoded(p, "PNG"),
    "gif": lambda p: encoded(p, "GIF", save_all=True, append_images=[Image.fromarray(p[::-1])]),
    "bmp": lambda p: encoded(p, "BMP"),
    "tif": lambda p: encoded(p, "TIFF"),
    "webp": lambda p: encoded(p, "WEBP"),
    "avif": lambda p: encoded(p, "AVIF"),
    "heic": lambda p: encoded(p, "HEIF"),
    "tga": lambda p: encoded(p, "TGA"),
    "pgm": lambda p: encoded(rgb(p, "L"), "PPM"),
    "jp2": lambda p: encoded(p, "JPEG2000"),
    "16.png": lambda p: encoded(wide(p, 65535), "PNG"),
    "12in16.tif": lambda p: encoded(wide(p, 4095), "TIFF"),
    "cmyk.jpg": lambda p: encoded(rgb(p, "CMYK"), "JPEG"),
    "cmyk.tif": lambda p: encoded(rgb(p, "CMYK"), "TIFF"),
    "rgba.png": lambda p: encoded(rgb(p, "RGBA"), "PNG"),
    "palette.png": lambda p: encoded(rgb(p, "P"), "PNG"),
    "bilevel.png": lambda p: encoded(rgb(p, "1"), "PNG"),
    "": lambda p: encoded(p, "PNG"),  # a name without suffix
}


def broken(picture):
    """Name → content of files that call themselves pictures."""
    whole = {kind: FORMATS[kind](picture) for kind in ("jpg", "png", "heic", "avif", "webp")}
    cut = {f"cut.{kind}": content[: len(content) // 3] for kind, content in whole.items()}
    return cut | {
        "empty.jpg": b"",
        "words.jpg": b"no picture",
        "page.png": b"<!doctype html><title>404</title>",
        "header.png": whole["png"][:20],
        "zeros.jpg": bytes(3000),
    }


def write_day(root, far, count=300):
    """Write the pictures into a folder of two classes.

    Args:
        root: Folder to make.
        far: Folder to make outside of it, to which a link leads.
        count: Files that call themselves pictures, broken ones included.

    Returns:
        Paths as bytes of the good pictures, of the broken ones, of files that are no pictures or hidden; and how many
        folders are not looked into.
    """
    import pillow_heif

    pillow_heif.register_heif_opener()
    classes = [root / "mug", root / "pen"]
    for folder in (*classes, root / "mug" / "deeper" / "still", far):
        folder.mkdir(parents=True)
    (root / "pen" / "linked").symlink_to(far)
    (root / "pen" / "circle").symlink_to(root)
    places = [*classes, root / "mug" / "deeper" / "still", root / "pen" / "linked"]
    bad = broken(pictures(1, size=96)[0])
    good, lost, others = [], [], []

    def write(folder, name, content, into):
        path = os.path.join(os.fsencode(folder), name if isinstance(name, bytes) else os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)  # one of the odd names lies in a folder
        with open(path, "wb") as file:
            file.write(content)
        into.append(path)

    shown = pictures(count - len(bad), size=48)
    for number, picture in enumerate(shown):
        if number < len(ODD_NAMES):
            name, content = ODD_NAMES[number], FORMATS["png"](picture)
        else:
            kind = list(FORMATS)[number % len(FORMATS)]
            name, content = f"{number:03d}.{kind}".rstrip("."), FORMATS[kind](picture)
        write(places[number % len(places)], name, content, good)
    for number, (name, content) in enumerate(bad.items()):
        write(places[number % len(places)], name, content, lost)
    write(classes[0], "notes.txt", b"words", others)
    write(classes[0], "film.mp4", bytes(100), others)
    write(classes[1], ".hidden.png", FORMATS["png"](shown[0]), others)
    write(classes[1], "Thumbs.db", bytes(100), others)
    (classes[1] / "gone.png").symlink_to(root / "nowhere.png")
    others.append(os.fsencode(classes[1] / "gone.png"))
    hidden = (".ipynb_checkpoints", "@eaDir")
    for name in hidden:
        (classes[0] / name).mkdir()
        write(classes[0] / name, "copy.png", FORMATS["png"](shown[0]), [])
    return good, lost, others, len(hidden)
