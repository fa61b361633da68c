"""An index of vectors in Milvus: one model's, each picture once, its columns as filters.

A row's key is the hash of the picture's file, so writing the same file of embeddings twice, or again after an
interruption, changes nothing, and a picture that was moved keeps its row. The metric is cosine, and vectors have unit
length. A property of the collection holds the model, its revision and its image size.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from memssl_keras.embedding.fields import BASE, IMAGE, KEY, LONGEST, OWN, STATE, VECTOR
from memssl_keras.embedding.milvus import LONG, TIMEOUT, Address, connected, in_words, parse_address
from memssl_keras.embedding.table import Embeddings, revision_words

FORMAT, PROPERTY = 1, "memssl"
MOST_NEIGHBOURS = 16_384  # Milvus gives no more
LINKS, BUILT_WITH = 16, 128  # of the graph of neighbours (HNSW)
SEARCHED_WITH, FILTERED_WITH = 128, 1024  # neighbours looked at; of those, a filter leaves a part
PAGE = 1000  # rows read at once


class Hit(NamedTuple):
    """A picture that was found."""

    image: str
    similarity: float  # cosine
    base: str  # folder that a relative name starts from
    columns: dict[str, Any]

    @property
    def path(self) -> str:
        """The name as a path that leads there from this process, as far as it is one."""
        return Embeddings([], np.zeros((0, 1)), "", base=self.base).locate(self.image)


class VectorIndex:
    """An open index; `open_index` and `create_index` give one.

    Attributes:
        about: Model, revision, image size and folder of the first file written, as `Embeddings` without rows.
        embed_dim: D.
        fields: Field → Milvus's type, of the columns that can be filtered by.
    """

    def __init__(self, client: Any, address: Address):
        self.client, self.address = client, address
        with in_words(address, "cannot be read"):
            if not client.has_collection(address.collection, timeout=TIMEOUT):
                there = ", ".join(client.list_collections(timeout=TIMEOUT)) or "none"
                raise ValueError(
                    f"index={address.uri!r}: no collection {address.collection!r}; there are: {there}. "
                    "`memssl index FILE --to URI` makes one"
                )
            described = client.describe_collection(address.collection, timeout=TIMEOUT)
        self.about = _about(address, described)
        kinds = {field["name"]: field for field in described["fields"]}
        self.embed_dim = int(kinds[VECTOR]["params"]["dim"])
        self.fields = {name: field["type"].name for name, field in kinds.items() if name not in OWN}
        with in_words(address, "cannot be loaded"):
            client.load_collection(address.collection, timeout=LONG)

    def __len__(self):
        with self._request("cannot be counted"):
            (row,) = self.client.query(
                self.address.collection,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=TIMEOUT,
            )
        return int(row["count(*)"])

    @contextlib.contextmanager
    def _request(self, what):
        with in_words(self.address, what):
            yield

    def check(self, model: str, revision: str, embed_dim: int, image_size: int | None = None) -> None:
        """Raise ValueError unless vectors of that model and revision belong here; the size is for the words alone."""
        if revision == self.about.revision and embed_dim == self.embed_dim:
            return
        raise ValueError(
            f"index={self.address.uri!r}: its vectors are of {self.about.model} at revision "
            f"{revision_words(self.about.revision, self.about.image_size)}, these of {model} at "
            f"{revision_words(revision, image_size)}; vectors of two models or revisions do not compare. Write them to "
            "another collection (URI#NAME)"
        )

    def states(self, keys: Sequence[str]) -> dict[str, str]:
        """Key → state of the rows that are there."""
        with self._request("cannot be read"):
            rows = self.client.get(
                self.address.collection,
                ids=list(keys),
                output_fields=[KEY, STATE],
                consistency_level="Strong",
                timeout=TIMEOUT,
            )
        return {row[KEY]: row[STATE] for row in rows}

    def upsert(self, rows: list[dict[str, Any]]) -> None:
        """Write rows; one whose key is there is replaced."""
        with self._request("writing failed; what was written is kept, and the same command resumes"):
            self.client.upsert(self.address.collection, rows, timeout=TIMEOUT)

    def flush(self) -> None:
        """Put what was written on disk."""
        with self._request("writing failed; what was written is kept, and the same command resumes"):
            self.client.flush(self.address.collection, timeout=LONG)

    def search(self, queries: np.ndarray, k: int, where: str = "") -> list[list[Hit]]:
        """The k nearest of each query.

        Args:
            queries: `(Q, D)` float32 of unit length.
            k: Neighbours, at most 16,384.
            where: A filter in Milvus's language, such as `label == 7 and city in ["Rome", "Oslo"]`.

        Raises:
            ValueError: `k`, the width or the filter is wrong, or the engine does not answer.
        """
        if not 1 <= k <= MOST_NEIGHBOURS:
            raise ValueError(f"k={k}: expected 1 to {MOST_NEIGHBOURS:,}")
        if queries.ndim != 2 or queries.shape[1] != self.embed_dim:
            raise ValueError(
                f"queries of shape {queries.shape}; the index holds vectors of width {self.embed_dim}"
            )
        names = ", ".join([IMAGE, *self.fields])
        failed = (
            f"filter={where!r} cannot be searched with; its columns are {names}" if where else "no search"
        )
        width = max(FILTERED_WITH if where else SEARCHED_WITH, 2 * k)
        with self._request(failed):
            found = self.client.search(
                self.address.collection,
                data=list(np.ascontiguousarray(queries, np.float32)),
                anns_field=VECTOR,
                limit=k,
                filter=where,
                output_fields=[IMAGE, BASE, *self.fields],
                search_params={"metric_type": "COSINE", "params": {"ef": width}},
                consistency_level="Strong",
                timeout=TIMEOUT,
            )
        return [[self._hit(hit) for hit in hits] for hits in found]

    def _hit(self, hit):
        entity = hit["entity"]
        columns = {name: entity.get(name) for name in self.fields}
        return Hit(entity[IMAGE], float(hit["distance"]), entity[BASE], columns)

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows with their vectors, a page at a time, in the order of their keys."""
        wanted = [KEY, VECTOR, IMAGE, BASE, *self.fields]
        with self._request("cannot be read"):
            pages = self.client.query_iterator(
                self.address.collection, batch_size=PAGE, filter="", output_fields=wanted, timeout=TIMEOUT
            )
            while page := pages.next():
                yield from page
            pages.close()


def _about(address, described):
    try:
        content = json.loads(dict(described["properties"])[PROPERTY])
        if content["format"] != FORMAT:
            raise ValueError(f"index={address.uri!r}: written by another version of memssl")
        return Embeddings(
            [],
            np.zeros((0, 1)),
            content["model"],
            content["revision"],
            content["base"],
            address.uri,
            content.get("image_size"),
        )
    except (KeyError, TypeError, json.JSONDecodeError):
        raise ValueError(
            f"index={address.uri!r}: the collection {address.collection!r} is not one of memssl's"
        ) from None


@contextlib.contextmanager
def open_index(uri: str) -> Iterator[VectorIndex]:
    """Open an index that is there.

    Args:
        uri: `NAME.db`, a folder of this machine, or `http://HOST:PORT` of a Milvus server; `#COLLECTION` after it.

    Raises:
        Locked: another process has the folder open.
        ValueError: nothing is there, something else is, it is damaged, or no server answers.

    Example:
        >>> from memssl_keras.embedding.index import open_index
        >>> with open_index("photos.db") as index:  # doctest: +SKIP
        ...     index.search(encoder.embed(["holiday.jpg"]), k=5)
    """
    address = parse_address(uri)
    with connected(address) as client:
        yield VectorIndex(client, address)


@contextlib.contextmanager
def create_index(
    uri: str, about: Embeddings, embed_dim: int, fields: dict[str, str]
) -> Iterator[VectorIndex]:
    """Open an index, made first where it is not there, for vectors of one model.

    Args:
        uri: As `open_index` takes it.
        about: Model, revision, image size and base folder.
        embed_dim: D.
        fields: Field → Milvus's type, of a new index.

    Raises:
        Locked, ValueError: as `open_index` does, and where the index holds vectors of another model or revision.
    """
    address = parse_address(uri)
    with connected(address, create=True) as client:
        with in_words(address, "no collection can be made"):
            if not client.has_collection(address.collection, timeout=TIMEOUT):
                _create(client, address, about, embed_dim, fields)
        index = VectorIndex(client, address)
        index.check(about.model, about.revision, embed_dim, about.image_size)
        yield index


def _create(client, address, about, embed_dim, fields):
    from pymilvus import DataType

    content = {"format": FORMAT, "model": about.model, "revision": about.revision, "base": about.base}
    content["image_size"] = about.image_size
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(KEY, DataType.VARCHAR, max_length=64, is_primary=True)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=embed_dim)
    schema.add_field(IMAGE, DataType.VARCHAR, max_length=LONGEST)
    schema.add_field(BASE, DataType.VARCHAR, max_length=LONGEST)
    schema.add_field(STATE, DataType.VARCHAR, max_length=16)
    for name, kind in fields.items():
        longest = {"max_length": LONGEST} if kind == "VARCHAR" else {}
        schema.add_field(name, DataType[kind], nullable=True, **longest)
    graph = client.prepare_index_params()
    settings = {"M": LINKS, "efConstruction": BUILT_WITH}
    graph.add_index(VECTOR, index_type="HNSW", metric_type="COSINE", params=settings)
    client.create_collection(
        address.collection,
        schema=schema,
        index_params=graph,
        properties={PROPERTY: json.dumps(content)},
        timeout=TIMEOUT,
    )
