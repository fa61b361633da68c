"""Columns of Parquet as fields of an index: their types, names and values."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from memssl_keras.embedding.run import HASH

LONGEST = 65_535  # bytes of a text in Milvus
# The index's own: the hash of the picture's file, its vector, its name, the folder that the name starts from, and a
# hash of all but the vector, by which a row that is there already is known.
KEY, VECTOR, IMAGE, BASE, STATE = HASH, "embedding", "image", "memssl_base", "memssl_state"
OWN = (KEY, VECTOR, IMAGE, BASE, STATE)


def kind_of(column: pa.DataType) -> str | None:
    """Milvus's type for a column of Parquet: BOOL, INT64, DOUBLE, VARCHAR or JSON; None for bytes, which are not kept.

    Example:
        >>> import pyarrow as pa
        >>> from memssl_keras.embedding.fields import kind_of
        >>> kind_of(pa.uint8()), kind_of(pa.date32()), kind_of(pa.binary())
        ('INT64', 'VARCHAR', None)
    """
    if pa.types.is_dictionary(column):
        return kind_of(column.value_type)
    if pa.types.is_boolean(column):
        return "BOOL"
    if pa.types.is_integer(column):
        return "INT64"
    if pa.types.is_floating(column) or pa.types.is_decimal(column):
        return "DOUBLE"
    if pa.types.is_nested(column):
        return None if _holds_bytes(column) else "JSON"
    if _is_bytes(column) or pa.types.is_null(column):
        return None
    return "VARCHAR"  # texts, and times and dates as ISO 8601


def _is_bytes(column):
    return (
        pa.types.is_binary(column)
        or pa.types.is_large_binary(column)
        or pa.types.is_fixed_size_binary(column)
    )


def _holds_bytes(column):
    inner = [column.field(i).type for i in range(column.num_fields)]
    return any(_is_bytes(kind) or (pa.types.is_nested(kind) and _holds_bytes(kind)) for kind in inner)


def field_name(column: str) -> str:
    """A column's name as Milvus takes it: letters, digits and `_`, no digit first.

    Example:
        >>> from memssl_keras.embedding.fields import field_name
        >>> field_name("label id"), field_name("2nd")
        ('label_id', '_2nd')
    """
    name = re.sub(r"\W", "_", column, flags=re.ASCII)
    return f"_{name}" if not name or name[0].isdigit() else name[:255]


def fields_of(schema: pa.Schema) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """The columns that become fields.

    Returns:
        Column → (field, type), and what a reader should know, in words.

    Raises:
        ValueError: two columns would have one name.
    """
    fields: dict[str, tuple[str, str]] = {}
    dropped, renamed = [], []
    for column in schema:
        if column.name in OWN:
            continue
        name, kind = field_name(column.name), kind_of(column.type)
        if kind is None:
            dropped.append(column.name)
            continue
        if name in OWN or name in {field for field, _ in fields.values()}:
            raise ValueError(f"column {column.name!r}: there is another that is called {name} in an index")
        fields[column.name] = (name, kind)
        renamed += [f"column {column.name!r} is called {name}"] if name != column.name else []
    notes = [f"columns of bytes or without values not kept: {', '.join(dropped)}"] if dropped else []
    return fields, [*notes, *renamed]


def value_of(value: Any, kind: str) -> Any:
    """A value of Parquet as Milvus takes it; a text is cut after 65,535 bytes.

    Raises:
        ValueError: a whole number that has no place in 64 bits.
    """
    if value is None:
        return None
    if kind == "VARCHAR":
        text = (
            value
            if isinstance(value, str)
            else value.isoformat()
            if hasattr(value, "isoformat")
            else str(value)
        )
        raw = text.encode("utf-8", "replace")
        return text if len(raw) <= LONGEST else raw[:LONGEST].decode("utf-8", "ignore")
    if kind == "DOUBLE":
        return float(value)
    if kind == "INT64" and not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"{value}: a whole number outside of 64 bits")
    return json.loads(json.dumps(value, default=str)) if kind == "JSON" else value


def state_of(row: Mapping[str, Any], names: Iterable[str]) -> str:
    """A hash of a row's values, `names` of them, as 16 hexadecimal digits."""
    content = json.dumps([row.get(name) for name in names], sort_keys=True, default=str)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
