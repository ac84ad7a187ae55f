"""A cache on disk of a condition's rows, in the form in which they are searched.

==================  =========================================================================
vectors.f16         float16 [n, width], transformed as they are compared; ``width`` is the
                    dimension rounded up to a multiple of 4, so that a row is whole 8-byte words
lengths.f32         the rows' lengths after rounding to float16
hashes.u64          a hash of each row of vectors.f16, checked when the row is first used
keys.u8             uint8 [n, 32], ascending
sums.u32            the rows' checksums in the gallery, which show changes
codes.u32           position of each row's word in words.json
probabilities.f32   probabilities of the words
pairs.f32           sorted cosines of the pairs of a sample
header.json         what the cache was made from, with length and CRC-32 of every other file
==================  =========================================================================

The vectors are mapped into memory, and the files are never changed. If any file is damaged, the
folder is not used, and the cache is built again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexes.documents import Count, DamagedDocument, Dimension, Document, FileSum, checked, parse
from indexes.files import write_atomic
from indexes.search.compact_columns import KEY_BYTES, Keys, positions
from indexes.search.snapshot import RowDigest, RowTransform, Snapshot, StoredRows
from indexes.vectors import Vectors

#: Version of the layout, in every header; caches of another version are not read.
LAYOUT = 1

#: Size of the sample for the distribution of similarities; all its pairs are compared.
_SAMPLE = 1000

#: Written last: a folder without it is not read.
HEADER = "header.json"
_VECTORS = "vectors.f16"

#: Seconds after which an unfinished folder was left by a crash.
_CRASHED = 86_400.0

#: Free space that a cache leaves on the disk.
_SPARE_BYTES = 256 * 2**20

#: The files that are checked when the cache is opened: attribute, name, dtype and columns.
_ARRAYS: tuple[tuple[str, str, Any, int], ...] = (
    ("lengths", "lengths.f32", np.float32, 0),
    ("hashes", "hashes.u64", np.uint64, 0),
    ("keys", "keys.u8", np.uint8, KEY_BYTES),
    ("checksums", "sums.u32", np.uint32, 0),
    ("codes", "codes.u32", np.uint32, 0),
    ("probabilities", "probabilities.f32", np.float32, 0),
    ("pairs", "pairs.f32", np.float32, 0),
)
_DICTIONARY = "words.json"


class DamagedCache(Exception):
    """A cached file is missing or has changed."""


class CacheHeader(Document):
    """The content of :data:`HEADER`; see :class:`RowCache` for the first attributes.

    Attributes:
        layout: version of the layout.
        state: identifies the state of the gallery.
        rows: number of rows.
        dimension: the dimension of the vectors.
        width: numbers in a stored row.
        files: length and CRC-32 of every other file but the vectors.
    """

    layout: int
    state: str
    rows: Count
    dimension: Dimension
    width: Dimension
    files: dict[str, FileSum]


class _Sealed(Document):
    """A document with its CRC-32."""

    crc: int
    document: dict[str, Any]


CheckedModel = TypeVar("CheckedModel", bound=Document)


@dataclass
class RowCache:
    """The cached rows of a folder, or the same arrays in memory if the disk cannot be written.

    Attributes:
        folder: the folder of the files; ``None`` in memory.
        state: identifies the state of the gallery that was read.
        dimension: the dimension of the vectors.
        halves: vectors, float16 [n, width].
        lengths: the lengths of the vectors, float32 [n].
        hashes: the hashes of the vectors, uint64 [n].
        keys: uint8 [n, 32], ascending.
        checksums: uint32 [n].
        codes: positions in ``dictionary``, uint32 [n].
        dictionary: the distinct words.
        probabilities: the probabilities of the words, float32 [n].
        pairs: cosines of the pairs of a sample, float32 [pairs], ascending.
    """

    folder: Path | None
    state: str
    dimension: int
    halves: NDArray[np.float16]
    lengths: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    keys: NDArray[np.uint8]
    checksums: NDArray[np.uint32]
    codes: NDArray[np.uint32]
    dictionary: list[str]
    probabilities: NDArray[np.float32]
    pairs: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keys)


def row_hashes(halves: NDArray[np.float16]) -> NDArray[np.uint64]:
    """A hash of each row: its 64-bit words times fixed odd numbers, summed modulo 2**64.

    A product with an odd number is invertible modulo 2**64: a change of one word is always
    detected, and any other change with probability 1 - 2**-64 (multilinear hashing, Carter and
    Wegman 1979).

    Args:
        halves: float16 [n, width], width divisible by 4.
    """
    words = np.ascontiguousarray(halves).view(np.uint64)
    factors = np.random.Generator(np.random.PCG64(20261121)).integers(
        0, 2**64, words.shape[1], dtype=np.uint64
    )
    hashes: NDArray[np.uint64] = words @ (factors | np.uint64(1))
    return hashes


def pair_scores(vectors: Vectors) -> NDArray[np.float32]:
    """Sorted cosines of all pairs of unit vectors, float32 [n, dim]: float32 [pairs]."""
    cosines = vectors @ vectors.T
    return np.sort(cosines[np.triu_indices(len(vectors), 1)])


def sample_rows(count: int) -> NDArray[np.int64]:
    """The rows of the sample, int64 [at most count], ascending; the same for equal counts."""
    if count <= _SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, _SAMPLE, replace=False))


def write_row_cache(
    snapshot: Snapshot, transform: RowTransform, parent: Path, name: str, label: str
) -> RowCache:
    """Write the cache of a snapshot as a new folder, atomically, and open it.

    Args:
        snapshot: the rows.
        transform: applied to the rows.
        parent: contains the new folder; created if it does not exist.
        name: the name of the new folder.
        label: prefix of the names of the folders that the new one replaces.

    Raises:
        OSError: if it cannot be written; nothing is left of it then.
        DamagedCache: if it cannot be read back as it was written.
        ValueError: if the gallery's keys cannot be cached.
        GalleryError: if the table cannot be read.
    """
    digest = snapshot.digest()
    final = parent / name
    new = parent / f".new-{uuid.uuid4().hex[:12]}"
    try:
        new.mkdir(parents=True)
        shape = (len(digest.keys), _width(transform.dimension))
        _reserve(new / _VECTORS, 2 * shape[0] * shape[1])
        halves = _mapped(new / _VECTORS, np.float16, shape, "r+")
        cache = _filled(snapshot, digest, transform, halves)
        if isinstance(halves, np.memmap):
            halves.flush()
        _write_arrays(new, cache)
        # Opened before it is renamed: what another process does to it then does not matter.
        opened = read_row_cache(new)
        with suppress(FileNotFoundError):
            final.rename(parent / f".old-{uuid.uuid4().hex[:12]}")
        try:
            new.rename(final)
        except OSError:
            # Another process has written the same rows in the meantime.
            if not final.is_dir():
                raise
            shutil.rmtree(new, ignore_errors=True)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    remove_old_caches(parent, name, label)
    return replace(opened, folder=final)


def row_cache_in_memory(snapshot: Snapshot, transform: RowTransform) -> RowCache:
    """As :func:`write_row_cache`, in memory."""
    digest = snapshot.digest()
    halves = np.zeros((len(digest.keys), _width(transform.dimension)), dtype=np.float16)
    return _filled(snapshot, digest, transform, halves)


def transformed_rows(
    snapshot: Snapshot, batches: Iterable[StoredRows], transform: RowTransform
) -> Iterator[tuple[StoredRows, Vectors, bool]]:
    """Rows with transformed words, and their transformed vectors.

    Yields:
        The rows with their words replaced; their vectors, float32 [n, transformed], unit rows;
        and whether these are the stored vectors unchanged.
    """
    for rows in batches:
        stored = snapshot.unit(rows.halves)
        words, chances = transform.words_of(stored, rows.words, rows.probabilities)
        vectors = transform.vectors(Keys(rows.keys), stored)
        yield replace(rows, words=words, probabilities=chances), vectors, vectors is stored


def _width(dimension: int) -> int:
    return -(-dimension // 4) * 4


def _filled(
    snapshot: Snapshot, digest: RowDigest, transform: RowTransform, halves: NDArray[np.float16]
) -> RowCache:
    """Read the table once, and put each row into its place."""
    count, dimension = len(digest.keys), transform.dimension
    lengths = np.zeros(count, dtype=np.float32)
    hashes = np.zeros(count, dtype=np.uint64)
    codes = np.zeros(count, dtype=np.uint32)
    probabilities = np.zeros(count, dtype=np.float32)
    seen = np.zeros(count, dtype=bool)
    code_of: dict[str, int] = {}
    included = (
        rows.select(chosen)
        for rows in snapshot.batches()
        if len(chosen := np.flatnonzero(positions(digest.keys, rows.keys) >= 0))
    )
    for rows, vectors, is_stored in transformed_rows(snapshot, included, transform):
        places = positions(digest.keys, rows.keys)
        rounded = np.zeros((len(places), halves.shape[1]), dtype=np.float16)
        # Unchanged vectors keep the bits of the gallery.
        rounded[:, :dimension] = rows.halves if is_stored else vectors
        halves[places] = rounded
        lengths[places] = np.linalg.norm(rounded.astype(np.float32), axis=1)
        hashes[places] = row_hashes(rounded)
        codes[places] = rows.words.recoded(code_of)
        probabilities[places] = rows.probabilities
        seen[places] = True
    if not seen.all():
        raise ValueError("the table was read twice and was not the same")
    sample = sample_rows(count)
    vectors = halves[sample, :dimension].astype(np.float32) / lengths[sample, None]
    return RowCache(
        folder=None,
        state=snapshot.state,
        dimension=dimension,
        halves=halves,
        lengths=lengths,
        hashes=hashes,
        keys=digest.keys,
        checksums=digest.checksums,
        codes=codes,
        dictionary=list(code_of),
        probabilities=probabilities,
        pairs=pair_scores(vectors),
    )


def _write_arrays(folder: Path, cache: RowCache) -> None:
    contents = {
        name: np.ascontiguousarray(getattr(cache, attribute)).tobytes()
        for attribute, name, _, _ in _ARRAYS
    }
    contents[_DICTIONARY] = json.dumps(cache.dictionary).encode()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    header = {
        "layout": LAYOUT,
        "state": cache.state,
        "rows": len(cache),
        "dimension": cache.dimension,
        "width": cache.halves.shape[1],
        "files": {name: [len(data), zlib.crc32(data)] for name, data in contents.items()},
    }
    write_checked(folder / HEADER, header)


def read_row_cache(folder: Path) -> RowCache:
    """Open a folder. All files but the vectors are checked; those are checked when they are used.

    Raises:
        DamagedCache: if a file is missing or has changed.
    """
    header = read_checked(folder / HEADER, CacheHeader)
    try:
        if header.layout != LAYOUT:
            raise DamagedCache(f"{folder} has another layout")
        rows, width = header.rows, header.width
        arrays = {}
        for attribute, name, dtype, columns in _ARRAYS:
            data = _checked_bytes(folder / name, *header.files[name])
            array = np.frombuffer(data, dtype=dtype)
            arrays[attribute] = array.reshape(-1, columns) if columns else array
        words = _checked_bytes(folder / _DICTIONARY, *header.files[_DICTIONARY])
        if (folder / _VECTORS).stat().st_size != rows * width * 2:
            raise DamagedCache(f"{folder / _VECTORS} has another length")
        return RowCache(
            folder=folder,
            state=header.state,
            dimension=header.dimension,
            halves=_mapped(folder / _VECTORS, np.float16, (rows, width), "r"),
            dictionary=parse(words, list[str]),
            **arrays,
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedCache(f"{folder}: {error}") from error


def _mapped(path: Path, dtype: Any, shape: tuple[int, int], mode: Any) -> NDArray[Any]:
    """A file as an array; an empty file cannot be mapped."""
    if not shape[0] * shape[1]:
        return np.zeros(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode=mode, shape=shape)


def _reserve(path: Path, size: int) -> None:
    """Create a file whose disk space is allocated; writing to a mapped file without space kills
    the process.

    Raises:
        OSError: if the disk has not enough free space.
    """
    if shutil.disk_usage(path.parent).free < size + _SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with path.open("wb") as file:
        file.truncate(size)
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def _checked_bytes(path: Path, size: int, crc: int) -> bytes:
    data = path.read_bytes()
    if len(data) != size or zlib.crc32(data) != crc:
        raise DamagedCache(f"{path} is damaged")
    return data


def write_checked(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document with its checksum, atomically, into an existing folder.

    Raises:
        OSError: if it cannot be written.
    """
    crc = zlib.crc32(json.dumps(document, sort_keys=True).encode())
    content = json.dumps({"crc": crc, "document": document})
    # Another process may have replaced the folder, which must not be created again.
    write_atomic(path, content.encode(), durable=False, parents=False)


def read_checked(path: Path, model: type[CheckedModel]) -> CheckedModel:
    """Read a document of :func:`write_checked`.

    Args:
        path: the file.
        model: the type of the document.

    Raises:
        DamagedCache: if it is missing or damaged.
    """
    try:
        sealed = parse(path.read_bytes(), _Sealed)
        if zlib.crc32(json.dumps(sealed.document, sort_keys=True).encode()) != sealed.crc:
            raise DamagedCache(f"{path} is damaged")
        return checked(sealed.document, model)
    except (OSError, DamagedDocument) as error:
        raise DamagedCache(f"{path}: {error}") from error


def remove_old_caches(parent: Path, keep: str, label: str) -> None:
    """Remove the folders that a new one replaces, and what a crash has left.

    Readers keep the files that they have mapped. Where the system does not allow to remove those,
    the next call removes them.
    """
    for path in parent.iterdir():
        remove = path.name.startswith(".old-")
        with suppress(OSError):
            if path.name.startswith("."):
                remove |= path.stat().st_mtime < time.time() - _CRASHED
        if remove or (path.name.startswith(f"{label}-") and path.name != keep):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
