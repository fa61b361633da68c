"""Milvus behind one address: a folder `NAME.db` on this machine, or a server or cluster at `http://HOST:PORT`.

In a folder runs milvus-lite, in this process. Either way the same client speaks the same protocol, and what goes wrong
becomes one `ValueError` that names the address.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from memssl_keras.embedding.milvus_folder import clear_unmade, damage_of
from memssl_keras.files import Locked

COLLECTION = "images"
PATIENCE = 10.0  # seconds to wait for a server to answer at all
TIMEOUT = 120.0  # seconds for one request
LONG = 600.0  # seconds to load or flush a collection, for which an engine may have to build graphs first
_EXPECTED = (
    "expected a folder NAME.db on this machine or http://HOST:PORT of a Milvus server, #COLLECTION after it"
)


class Address(NamedTuple):
    """Where an index is: a folder or a server, and the collection in it."""

    uri: str  # as it was given, for errors
    place: str
    collection: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return "://" not in self.place


def parse_address(uri: str) -> Address:
    """Split `PLACE#COLLECTION`; without a collection it is `images`.

    Raises:
        ValueError: it is neither a folder that ends in `.db` nor the address of a server, or the collection's name has
            characters that Milvus does not take.

    Example:
        >>> from memssl_keras.embedding.milvus import parse_address
        >>> parse_address("photos.db#holidays")[1:]
        ('photos.db', 'holidays')
    """
    place, _, collection = str(uri).partition("#")
    collection = collection or COLLECTION
    if not re.fullmatch(r"https?://[^/\s]+/?", place) and ("://" in place or not place.endswith(".db")):
        raise ValueError(f"index={str(uri)!r}: {_EXPECTED}")
    if not re.fullmatch(r"[A-Za-z_]\w{0,254}", collection, re.ASCII):
        raise ValueError(
            f"index={str(uri)!r}: the collection {collection!r}; expected letters, digits and _, no digit first"
        )
    return Address(str(uri), place, collection)


@contextlib.contextmanager
def connected(address: Address, create: bool = False) -> Iterator[Any]:
    """A client of what is at an address.

    The environment variable `MILVUS_TOKEN` holds the token, or `user:password`, of a server that asks for one.

    Args:
        address: A folder or a server.
        create: Make a folder that is not there.

    Raises:
        Locked: another process has the folder open.
        ValueError: the package is not installed, nothing is there, something else is, or it is damaged.
    """
    try:
        client_class = _client_class()
    except ImportError:
        raise _missing(address, "pymilvus") from None
    _quiet()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_served(address, create)) if address.is_local else address.place
        with in_words(address, f"no Milvus server answers at {address.place}"):
            token = "" if address.is_local else os.environ.get("MILVUS_TOKEN", "")
            client = client_class(
                place, token=token, timeout=PATIENCE, dedicated=True
            )  # not one that died since
            stack.callback(client.close)
        yield client


@contextlib.contextmanager
def in_words(address: Address, what: str) -> Iterator[None]:
    """Turn an error of the client into a `ValueError`: the address, what failed, and Milvus's own words."""
    import grpc
    from pymilvus import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
        said = error.details() if isinstance(error, grpc.Call) else getattr(error, "message", "")
        said = str(said or error).strip().split("\n")[0]
        raise ValueError(f"index={address.uri!r}: {what} ({said[:300]})") from None


def _client_class():
    """`MilvusClient`, without what pymilvus does to the process: it closes all handlers of logging when imported."""
    configure = logging.config.dictConfig
    logging.config.dictConfig = _leave_logging
    try:
        from pymilvus import MilvusClient
    finally:
        logging.config.dictConfig = configure
    return MilvusClient


def _leave_logging(settings):
    """In place of `logging.config.dictConfig`."""


def _missing(address, package):
    return ValueError(f"index={address.uri!r}: {package} is not installed; pip install 'memssl-keras[index]'")


def _quiet():
    """Errors come as exceptions; the packages also log them with a traceback."""
    for name in [*logging.root.manager.loggerDict]:
        if name.split(".")[0] in ("pymilvus", "milvus_lite") or name == "grpc._server":
            logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _served(address, create):
    """milvus-lite on a folder, in threads of this process; its address."""
    folder = Path(address.place)
    _check_folder(address, folder, create)
    try:
        from milvus_lite.adapter.grpc.server import start_server_in_thread
        from milvus_lite.exceptions import DataDirLockedError
    except ImportError:
        raise _missing(address, "milvus-lite") from None
    try:
        server, engine, port = start_server_in_thread(str(folder))
    except DataDirLockedError:
        raise Locked(
            f"index={address.uri!r}: another process has it open; wait for it to end, or let many use it through "
            f"`milvus-lite server --data-dir {folder}` and its http address"
        ) from None
    except OSError as error:
        raise ValueError(f"index={address.uri!r}: cannot be opened ({error})") from None
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(grace=2).wait()
        engine.close()


def _check_folder(address, folder, create):
    """Refuse what milvus-lite would take without a word: a folder that is missing, another program's, or damaged."""
    if folder.is_file():
        raise ValueError(f"index={address.uri!r} is a file; {_EXPECTED}")
    if not folder.is_dir():
        if not create:
            raise ValueError(f"index={address.uri!r}: no such index; `memssl index FILE --to URI` makes one")
        if not folder.absolute().parent.is_dir():
            raise ValueError(f"index={address.uri!r}: the folder {folder.parent} does not exist")
        return
    if any(folder.iterdir()) and not (folder / "collections").is_dir():
        raise ValueError(f"index={address.uri!r} is a folder of something else; {_EXPECTED}")
    if create:
        clear_unmade(folder)
    if reason := damage_of(folder):
        raise ValueError(
            f"index={address.uri!r}: damaged ({reason}); move it away and run `memssl index` again with the Parquet "
            "file, which holds all there is"
        )
