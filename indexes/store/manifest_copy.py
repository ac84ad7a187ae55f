"""The file ``gallery.json``: a copy of the manifest, and what guards the ledgers.

The copy has all entries of the table ``manifest``, and two of its own: ``ledgers``, the count and
hash of each table's ledger, and ``checksum``, the hash of all the rest. Copies of earlier versions
have neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexes.documents import DamagedDocument, LedgerGuard, checked, checked_entry, parse
from indexes.errors import GalleryDamaged
from indexes.files import replacing, sync

#: Name of the copy, in the gallery's folder.
MANIFEST_COPY = "gallery.json"

_LEDGERS = "ledgers"
_CHECKSUM = "checksum"


@dataclass(frozen=True)
class ManifestCopy:
    """The content of the copy.

    Attributes:
        entries: the entries of the manifest by key.
        guards: count and hash of each table's ledger, by the table's name; empty in copies of
            earlier versions.
    """

    entries: Mapping[str, Any]
    guards: Mapping[str, LedgerGuard] = field(default_factory=dict)


def read_copy(folder: Path) -> ManifestCopy | None:
    """Read the copy of a gallery's manifest; ``None`` if there is none.

    Raises:
        GalleryDamaged: if it cannot be read, or is not what was written.
    """
    try:
        data = (folder / MANIFEST_COPY).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(folder, (error.strerror or str(error)).lower()) from error
    try:
        document = parse(data, dict[str, Any])
        found = document.pop(_CHECKSUM, None)
        if found is not None and found != _checksum(document):
            raise DamagedDocument("its content differs from its checksum")
        guards = checked(document.pop(_LEDGERS, {}), dict[str, LedgerGuard])
        entries = {key: checked_entry(key, value) for key, value in document.items()}
        if "gallery" not in entries:
            raise DamagedDocument("it has no entry 'gallery'")
    except DamagedDocument as error:
        raise _damaged(folder, str(error)) from error
    return ManifestCopy(entries, guards)


def write_copy(
    folder: Path,
    entries: Mapping[str, Any],
    guards: Mapping[str, LedgerGuard],
    durable: bool = True,
) -> None:
    """Replace the copy of a gallery's manifest, atomically.

    Args:
        folder: the gallery's folder.
        entries: the entries of the manifest.
        guards: count and hash of each table's ledger.
        durable: whether a power cut must not bring back the copy that was there before.

    Raises:
        OSError: if it cannot be written.
    """
    document: dict[str, Any] = dict(entries)
    document[_LEDGERS] = {name: guard.model_dump() for name, guard in guards.items()}
    document[_CHECKSUM] = _checksum(document)
    data = json.dumps(document, indent=1, sort_keys=True).encode()
    with replacing(folder / MANIFEST_COPY, durable) as temporary:
        temporary.write_bytes(data)
        if not durable:
            # Either content is right after a power cut, an empty file is not.
            sync(temporary)


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _damaged(folder: Path, reason: str) -> GalleryDamaged:
    return GalleryDamaged(
        f"The copy {MANIFEST_COPY} of the manifest of {folder} is damaged ({reason}); "
        "`cies repair` writes it again."
    )
