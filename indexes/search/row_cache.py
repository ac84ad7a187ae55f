"""A condition's rows on disk as a search reads them: mapped into memory, checked, never changed.

==================  =========================================================================
vectors.f16         float16 [n, width], in the geometry they are compared in; ``width`` is the
                    dimension rounded up to 4, so that a row is whole words of 8 bytes
lengths.f32         the rows' lengths after rounding to fp16
hashes.u64          a hash of each row of vectors.f16; a row is checked when it is first used
keys.u8             uint8 [n, 32], ascending
sums.u32            the rows' checksums in the gallery, by which changes are found
codes.u32           position of each row's word in words.json
probabilities.f32   of the words
pairs.f32           sorted cosines of pairs among a sample
header.json         what all this was made from, with length and CRC-32 of every other file
==================  =========================================================================

It is a cache: whatever is wrong with a file, the folder is not used and made anew.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.search.compact_columns import KEY_BYTES, Keys, Words, positions
from indexes.search.snapshot import Digest, Part, Snapshot
from indexes.search.transform import Space
from indexes.vectors import Vectors

#: Written into every header; files of another layout are not read.
LAYOUT = 1

#: Pictures drawn to learn how alike the pairs of a gallery are; all their pairs are compared.
_SAMPLE = 1000

#: What makes a folder one of ours; without it the rest is not read.
HEADER = "header.json"
_VECTORS = "vectors.f16"

#: Seconds after which a folder that is not finished is nobody's any more.
_CRASHED = 86_400.0

#: Disk left free for what is no cache.
_SPARE_BYTES = 256 * 2**20

#: The files that are checked whole when they are opened: name to dtype and columns.
_SMALL: dict[str, tuple[Any, int]] = {
    "lengths.f32": (np.float32, 0),
    "hashes.u64": (np.uint64, 0),
    "keys.u8": (np.uint8, KEY_BYTES),
    "sums.u32": (np.uint32, 0),
    "codes.u32": (np.uint32, 0),
    "probabilities.f32": (np.float32, 0),
    "pairs.f32": (np.float32, 0),
}


class DamagedCache(Exception):
    """A cached file is not what it was when it was written."""


@dataclass
class RowCache:
    """The rows of a folder, or the same in memory where nothing can be written.

    Attributes:
        folder: where they lie; ``None`` in memory.
        state: the gallery's state they were read from.
        dimension: of the vectors.
        halves: float16 [n, width].
        lengths: float32 [n].
        hashes: uint64 [n].
        keys: uint8 [n, 32].
        sums: uint32 [n].
        codes: uint32 [n].
        dictionary: the words that the codes name.
        probabilities: float32 [n].
        pairs: float32 [pairs], ascending.
    """

    folder: Path | None
    state: str
    dimension: int
    halves: NDArray[np.float16]
    lengths: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    keys: NDArray[np.uint8]
    sums: NDArray[np.uint32]
    codes: NDArray[np.uint32]
    dictionary: list[str]
    probabilities: NDArray[np.float32]
    pairs: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keys)


def row_hashes(halves: NDArray[np.float16]) -> NDArray[np.uint64]:
    """A hash of each row: its 64-bit words times fixed odd numbers, summed modulo 2**64.

    An odd factor loses nothing modulo 2**64, so that a change within one word always shows, and
    any other one with a chance of 2**-64 (multilinear hashing, Carter and Wegman 1979).

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
    """Sorted cosines of the pairs among unit vectors, float32 [n, dim]: float32 [pairs]."""
    cosines = vectors @ vectors.T
    return np.sort(cosines[np.triu_indices(len(vectors), 1)])


def sample_rows(count: int) -> NDArray[np.int64]:
    """The rows whose pairs are compared, the same ones for equal counts."""
    if count <= _SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, _SAMPLE, replace=False))


def write_base(held: Snapshot, space: Space, parent: Path, name: str, label: str) -> RowCache:
    """Write the rows that shall be found to a folder, whole or not at all, and open it.

    Args:
        held: the table's state.
        space: what they become.
        parent: the folder that gets the new one; made if it is not there.
        name: of the new one.
        label: how the names of those it replaces begin.

    Raises:
        OSError: if it cannot be written; nothing is left of it then.
        DamagedCache: if it does not come back from the disk as it was written.
        ValueError: if the keys are not such as a cache can hold.
        GalleryError: if the table cannot be read.
    """
    digest = held.digest()
    final = parent / name
    fresh = parent / f".new-{uuid.uuid4().hex[:12]}"
    try:
        fresh.mkdir(parents=True)
        shape = (len(digest.keys), _width(space.dimension))
        _reserve(fresh / _VECTORS, 2 * shape[0] * shape[1])
        halves = _mapped(fresh / _VECTORS, np.float16, shape, "r+")
        base = _filled(held, digest, space, halves)
        if isinstance(halves, np.memmap):
            halves.flush()
        _write_rest(fresh, base)
        # Opened before it has its name: what another process then does to it does not matter.
        opened = read_base(fresh)
        with suppress(FileNotFoundError):
            final.rename(parent / f".old-{uuid.uuid4().hex[:12]}")
        try:
            fresh.rename(final)
        except OSError:
            # Another process was quicker with the same rows.
            if not final.is_dir():
                raise
            shutil.rmtree(fresh, ignore_errors=True)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    sweep(parent, name, label)
    return replace(opened, folder=final)


def base_in_memory(held: Snapshot, space: Space) -> RowCache:
    """The same rows without a file."""
    digest = held.digest()
    halves = np.zeros((len(digest.keys), _width(space.dimension)), dtype=np.float16)
    return _filled(held, digest, space, halves)


def moved_parts(
    held: Snapshot, parts: Iterator[Part], space: Space
) -> Iterator[tuple[Part, Vectors]]:
    """Rows with their vectors as they are compared, float32 [n, moved], unit rows; and words."""
    for part in parts:
        stored = held.unit(part.halves)
        words, sure = space.words(stored, part.words, part.probabilities)
        moved = space.move(Keys(part.keys), stored)
        yield replace(part, words=words, probabilities=sure), moved


def _width(dimension: int) -> int:
    return -(-dimension // 4) * 4


def _filled(held: Snapshot, digest: Digest, space: Space, halves: NDArray[np.float16]) -> RowCache:
    """Read the table once, each row into its place."""
    count, dimension = len(digest.keys), space.dimension
    lengths = np.zeros(count, dtype=np.float32)
    hashes = np.zeros(count, dtype=np.uint64)
    codes = np.zeros(count, dtype=np.uint32)
    probabilities = np.zeros(count, dtype=np.float32)
    seen = np.zeros(count, dtype=bool)
    known: dict[str, int] = {}
    for whole in held.parts():
        places = positions(digest.keys, whole.keys)
        chosen = np.flatnonzero(places >= 0)
        if not len(chosen):
            continue
        rows = places[chosen]
        stored = held.unit(whole.halves[chosen])
        moved = space.move(Keys(whole.keys[chosen]), stored)
        # Vectors that were not moved keep the very bits of the gallery.
        same = moved is stored
        rounded = np.zeros((len(rows), halves.shape[1]), dtype=np.float16)
        rounded[:, :dimension] = whole.halves[chosen] if same else moved
        halves[rows] = rounded
        lengths[rows] = np.linalg.norm(rounded.astype(np.float32), axis=1)
        hashes[rows] = row_hashes(rounded)
        own = Words(whole.words.codes[chosen], whole.words.dictionary)
        words, probabilities[rows] = space.words(stored, own, whole.probabilities[chosen])
        into = [known.setdefault(word, len(known)) for word in words.dictionary]
        codes[rows] = np.array(into, dtype=np.uint32)[words.codes]
        seen[rows] = True
    if not seen.all():
        raise ValueError("the table was read twice and was not the same")
    drawn = sample_rows(count)
    wide = halves[drawn, :dimension].astype(np.float32) / lengths[drawn, None]
    return RowCache(
        None, held.state, dimension, halves, lengths, hashes, digest.keys, digest.sums, codes,
        list(known), probabilities, pair_scores(wide),
    )  # fmt: skip


def _write_rest(folder: Path, base: RowCache) -> None:
    arrays = {
        "lengths.f32": base.lengths,
        "hashes.u64": base.hashes,
        "keys.u8": base.keys,
        "sums.u32": base.sums,
        "codes.u32": base.codes,
        "probabilities.f32": base.probabilities,
        "pairs.f32": base.pairs,
    }
    files = {}
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        (folder / name).write_bytes(data)
        files[name] = [len(data), zlib.crc32(data)]
    words = json.dumps(base.dictionary).encode()
    (folder / "words.json").write_bytes(words)
    files["words.json"] = [len(words), zlib.crc32(words)]
    write_checked(
        folder / HEADER,
        {
            "layout": LAYOUT,
            "state": base.state,
            "rows": len(base),
            "dimension": base.dimension,
            "width": base.halves.shape[1],
            "files": files,
        },
    )


def read_base(folder: Path) -> RowCache:
    """Open a folder. All but the vectors is checked now, they when they are used.

    Raises:
        DamagedCache: if anything is not what it was when it was written.
    """
    header = read_checked(folder / HEADER)
    try:
        if header["layout"] != LAYOUT:
            raise DamagedCache(f"{folder} has another layout")
        rows, width = header["rows"], header["width"]
        arrays = {}
        for name, (dtype, columns) in _SMALL.items():
            data = _checked_bytes(folder / name, *header["files"][name])
            array = np.frombuffer(data, dtype=dtype)
            arrays[name] = array.reshape(-1, columns) if columns else array
        words = json.loads(_checked_bytes(folder / "words.json", *header["files"]["words.json"]))
        if (folder / _VECTORS).stat().st_size != rows * width * 2:
            raise DamagedCache(f"{folder / _VECTORS} has another length")
        halves = _mapped(folder / _VECTORS, np.float16, (rows, width), "r")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedCache(f"{folder}: {error}") from error
    return RowCache(
        folder, header["state"], header["dimension"], halves, arrays["lengths.f32"],
        arrays["hashes.u64"], arrays["keys.u8"], arrays["sums.u32"], arrays["codes.u32"],
        words, arrays["probabilities.f32"], arrays["pairs.f32"],
    )  # fmt: skip


def _mapped(path: Path, dtype: Any, shape: tuple[int, int], mode: Any) -> NDArray[Any]:
    """A file as an array; an empty one cannot be mapped."""
    if not shape[0] * shape[1]:
        return np.zeros(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode=mode, shape=shape)


def _reserve(path: Path, size: int) -> None:
    """Make a file whose bytes the disk has: a mapped one that finds it full ends the process.

    Raises:
        OSError: if there is no room for it, and some to spare for what must be written.
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
    """Write a JSON document with its own checksum, whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    text = json.dumps(document, sort_keys=True)
    fresh = path.with_name(f".new-{uuid.uuid4().hex[:12]}")
    fresh.write_text(json.dumps({"crc": zlib.crc32(text.encode()), "document": document}))
    fresh.replace(path)


def read_checked(path: Path) -> dict[str, Any]:
    """Read what :func:`write_checked` wrote.

    Raises:
        DamagedCache: if it is not there or not whole.
    """
    try:
        outer = json.loads(path.read_bytes())
        document = outer["document"]
        if zlib.crc32(json.dumps(document, sort_keys=True).encode()) != outer["crc"]:
            raise DamagedCache(f"{path} is damaged")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCache(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise DamagedCache(f"{path} is damaged")
    return document


def sweep(parent: Path, keep: str, label: str) -> None:
    """Remove what a new folder replaces, and leftovers of a crash.

    Readers go on with the files they have mapped; where the system does not let them be removed
    meanwhile, the next one does it.
    """
    for path in parent.iterdir():
        left = path.name.startswith(".old-")
        with suppress(OSError):
            if path.name.startswith(".new-"):
                left = path.stat().st_mtime < time.time() - _CRASHED
        if left or (path.name.startswith(f"{label}-") and path.name != keep):
            shutil.rmtree(path, ignore_errors=True)
