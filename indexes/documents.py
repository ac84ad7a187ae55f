"""The JSON documents that a gallery stores, as typed models, and the one function that reads them.

What a disk returns may be anything: a value of another type, a changed key, bytes that are no text.
A document is therefore checked as a whole before any of it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

#: A number of things.
Count = Annotated[int, Field(ge=0)]

#: The length of a vector.
Dimension = Annotated[int, Field(gt=0, lt=2**24)]

#: Length and CRC-32 of a file.
FileSum = Annotated[list[int], Field(min_length=2, max_length=2)]

#: The name of a file in the folder of the document, never a path.
PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class DamagedDocument(ValueError):
    """A stored document is not what was written."""


class Document(BaseModel):
    """A stored JSON object. Fields of later versions are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class GalleryEntry(Document):
    """The manifest's entry ``gallery``.

    Attributes:
        format: version of the layout.
        geometry: how vectors are compared.
    """

    format: int
    geometry: str


class ConditionEntry(Document):
    """The manifest's entry for a vector table; see :class:`indexes.store.records.VectorTable`."""

    name: str
    dimension: Dimension
    made_by: dict[str, Any]
    order: int
    partial: bool = False
    filling: bool = False


class RemovedEntry(Document):
    """The manifest's entry for the table of a condition that was removed."""

    name: str
    removed_at: int


class WordsEntry(Document):
    """The manifest's entry for a condition's list of words."""

    words: list[str]
    template: str = ""
    source: str = ""


class CollectionEntry(Document):
    """The manifest's entry for a collection: pictures that the user picked, in this order."""

    keys: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]


class RootEntry(Document):
    """The manifest's entry for the folders that stored paths were relative to, the newest first."""

    paths: list[str] = []


class LedgerGuard(Document):
    """What the manifest knows about a table's ledger; see :mod:`indexes.store.ledger`.

    Attributes:
        generation: how often the ledger was rewritten.
        lines: number of its first lines that are covered.
        sha256: hash of these lines in alphabetical order, in hexadecimal.
    """

    generation: Count
    lines: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


#: The type of the manifest's values, by the beginning of the key. A value under another key, which
#: a later version wrote, is any object.
_ENTRIES: Mapping[str, Any] = {
    "gallery": GalleryEntry,
    "condition:": ConditionEntry,
    "removed:": RemovedEntry,
    "words:": WordsEntry,
    "collection:": CollectionEntry,
    "root": RootEntry,
    "columns": dict[str, str | None],
}
_OBJECT = dict[str, Any]

Model = TypeVar("Model")


def parse(data: str | bytes, model: type[Model]) -> Model:
    """Read a stored document.

    Args:
        data: JSON text, or its UTF-8 bytes.
        model: its type: a :class:`Document`, a dataclass, or a type such as ``dict[str, int]``.

    Raises:
        DamagedDocument: if the text is not JSON, or not a document of this type; the message is a
            part of a sentence.
    """
    return checked(_loaded(data), model)


def checked(value: object, model: type[Model]) -> Model:
    """Check a value that was read from JSON; see :func:`parse` for arguments and errors."""
    try:
        return cast(Model, _adapter(cast(Any, model)).validate_python(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = str(first["msg"]).partition("\n")[0]
        reason = reason[:1].lower() + reason[1:]
        raise DamagedDocument(f"{place}: {reason}" if place else reason) from error


@cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    # Documents have a configuration of their own, and a strict dataclass refuses JSON objects.
    if is_dataclass(model) or (isinstance(model, type) and issubclass(model, Document)):
        return TypeAdapter(model)
    return TypeAdapter(model, config=ConfigDict(strict=True))


def checked_entry(key: object, value: object) -> dict[str, Any]:
    """Check an entry of the manifest, of which the value was read from JSON.

    Returns:
        The value as it was read, with fields of later versions.

    Raises:
        DamagedDocument: if it has not the type of this key's values.
    """
    if not isinstance(key, str) or not key:
        raise DamagedDocument("a key is not a text")
    start = key if key in _ENTRIES else f"{key.partition(':')[0]}:"
    try:
        checked(value, _ENTRIES.get(start, _OBJECT))
    except DamagedDocument as error:
        raise DamagedDocument(f"entry {key[:80]!r}: {error}") from error
    assert isinstance(value, dict)
    return value


def parse_entry(key: object, text: object) -> dict[str, Any]:
    """As :func:`checked_entry`, from the JSON text of a row of the manifest."""
    if not isinstance(text, str):
        raise DamagedDocument(f"entry {str(key)[:80]!r} has no text")
    try:
        value = _loaded(text)
    except DamagedDocument as error:
        raise DamagedDocument(f"entry {str(key)[:80]!r}: {error}") from error
    return checked_entry(key, value)


def _loaded(data: str | bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedDocument(f"it is not JSON ({str(error)[:100]})") from error
