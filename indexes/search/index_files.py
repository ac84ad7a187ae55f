"""Indexes in files next to the cached rows, with the measured recall of each."""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.documents import DamagedDocument, Document, FileSum, PlainName, checked
from indexes.errors import CiesError
from indexes.search.base import Index, IndexKind, best
from indexes.search.factory import find_kind
from indexes.search.faiss import candidates_per_hit
from indexes.search.matrix import VectorMatrix
from indexes.search.row_cache import DamagedCache, RowCache, read_checked, write_checked
from indexes.vectors import Vectors, unit

#: Neighbours that recall is measured over.
RECALL_AT = 10

#: Queries that recall is measured with, half of them vectors of the gallery.
_QUERIES = 128

#: Length of the noise that is added to a unit vector for the other half.
_NOISE = 0.3

#: Difference of scores that counts as equal: fp32 sums in another order.
_TIE = 1e-5


@dataclass(frozen=True)
class IndexProperties:
    """The properties of an index.

    Attributes:
        kind: its name, or a FAISS factory string.
        factory: FAISS's factory string; empty for other libraries.
        library: the library that built it, with its version.
        vectors: number of vectors.
        recall_at_10: share of the ten nearest vectors by exact search that it finds, measured
            when it was built. Ties count as found; the query's own vector is left out.
        queries: number of queries that recall was measured with.
        build_seconds: time of building.
        bytes: size on the disk, without the vectors themselves.
        made_at: seconds since 1970.
    """

    kind: str
    factory: str
    library: str
    vectors: int
    recall_at_10: float
    queries: int
    build_seconds: float
    bytes: int
    made_at: float


class IndexHeader(Document):
    """The JSON document of a stored index.

    Attributes:
        content: name of the file or folder with the index, next to the document.
        files: length and CRC-32 of that file, or of each file in the folder.
        built: the properties of the index.
    """

    content: PlainName
    files: FileSum | dict[str, FileSum]
    built: dict[str, Any]

    def properties(self) -> IndexProperties:
        """The properties of the index.

        Raises:
            DamagedCache: if a property is missing or has another type.
        """
        try:
            return checked(self.built, IndexProperties)
        except DamagedDocument as error:
            raise DamagedCache(str(error)) from error


def _stem(kind: IndexKind, rows: RowCache) -> str:
    factory = kind.factory(len(rows), rows.dimension)
    content = f"{kind.name}\0{factory}\0{kind.library()}".encode()
    return f"index-{hashlib.sha256(content).hexdigest()[:16]}"


def load_index(rows: RowCache, name: str) -> tuple[Index, IndexProperties] | None:
    """Load an index over cached rows; ``None`` if it was not built.

    Raises:
        DamagedCache: if its files are damaged.
        CiesError: if FAISS is needed and not installed.
    """
    kind = find_kind(name)
    if rows.folder is None or kind.storage == "memory":
        return None
    header = rows.folder / f"{_stem(kind, rows)}.json"
    if not header.is_file():
        return None
    built, content, data = check_index(header)
    try:
        index = kind.load(content if data is None else data)
        if built.kind != name or len(index) != len(rows):
            raise DamagedCache(f"{content} is an index of other vectors")
    except ValueError as error:
        raise DamagedCache(f"{header}: {error}") from error
    return index, built


def check_index(header: Path) -> tuple[IndexProperties, Path, bytes | None]:
    """Read an index's files and compare them with their checksums.

    Args:
        header: the JSON document that names them.

    Returns:
        The properties of the index; the path of its content; and the content, if it is a file.

    Raises:
        DamagedCache: if a file is damaged or missing.
    """
    document = read_checked(header, IndexHeader)
    content = header.parent / document.content
    try:
        data = None if content.is_dir() else content.read_bytes()
        now = _checksums(content) if data is None else [len(data), zlib.crc32(data)]
    except OSError as error:
        raise DamagedCache(f"{header}: {error}") from error
    if now != document.files:
        raise DamagedCache(f"{content} is damaged")
    return document.properties(), content, data


def build_index(rows: RowCache, matrix: VectorMatrix, name: str) -> tuple[Index, IndexProperties]:
    """Build an index over cached rows, measure its recall, and store it next to them.

    Args:
        rows: the cached rows; with rows in memory, the index is not stored.
        matrix: their vectors.
        name: a registered kind or a FAISS factory string.

    Raises:
        CiesError: if FAISS is needed and not installed.
        UsageError: if there is no such index, or it cannot hold these vectors.
        OSError: if it cannot be written.
    """
    kind = find_kind(name)
    count, dimension, folder = len(rows), rows.dimension, rows.folder
    stem = _stem(kind, rows)
    content = f"{stem}-{uuid.uuid4().hex[:8]}"
    place = folder / content if folder is not None else None
    if place is None and kind.storage == "folder":
        raise CiesError(
            f"The index '{name}' is stored on the disk, but the gallery is not writable; choose "
            "another index."
        )
    began = time.perf_counter()
    try:
        index = kind.build(matrix.rows, count, dimension, place)
    except BaseException:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        raise
    data = kind.save(index) if kind.storage == "file" else b""
    files: Any = [len(data), zlib.crc32(data)]
    size = len(data)
    if place is not None and kind.storage == "folder":
        files = _checksums(place)
        size = sum(length for length, _ in files.values())
    seconds = time.perf_counter() - began
    recall, queries = measured_recall(index, matrix)
    built = IndexProperties(
        kind=name,
        factory=kind.factory(count, dimension),
        library=kind.library(),
        vectors=count,
        recall_at_10=recall,
        queries=queries,
        build_seconds=round(seconds, 3),
        bytes=size,
        made_at=time.time(),
    )
    if place is not None and kind.storage != "memory":
        if kind.storage == "file":
            place.write_bytes(data)
        document = {"content": content, "files": files, "built": asdict(built)}
        write_checked(place.parent / f"{stem}.json", document)
        _remove_contents(place.parent, stem, keep=content)
    return index, built


def _remove_contents(folder: Path, stem: str, keep: str = "") -> None:
    """Remove what other builds of an index have left."""
    for path in folder.glob(f"{stem}-*"):
        if path.name != keep:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(True)


def _checksums(folder: Path) -> dict[str, list[int]]:
    """The files below a folder, with length and CRC-32."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "latest_version_hint.json":
            data = path.read_bytes()
            found[path.relative_to(folder).as_posix()] = [len(data), zlib.crc32(data)]
    return found


def remove_index(folder: Path, name: str) -> None:
    """Remove the indexes of a kind from a folder of cached rows."""
    for header in folder.glob("index-*.json"):
        with suppress(DamagedCache):
            if check_index(header)[0].kind == name:
                header.unlink(missing_ok=True)
                _remove_contents(folder, header.stem)


def stored_indexes(folder: Path) -> list[IndexProperties]:
    """The properties of the indexes in a folder, by name, without damaged ones."""
    found = []
    for path in sorted(folder.glob("index-*.json")):
        with suppress(DamagedCache):
            found.append(read_checked(path, IndexHeader).properties())
    return sorted(found, key=lambda built: built.kind)


def measured_recall(index: Index, matrix: VectorMatrix) -> tuple[float, int]:
    """Recall@10 of an index after re-ranking, against exact search.

    Half of the queries are vectors of the gallery, half are such vectors with noise; the query's
    own vector is left out of both results.

    Returns:
        The recall, and the number of queries.
    """
    count = len(matrix)
    if count < 2:
        return 1.0, 0
    random = np.random.default_rng(1)
    own = random.choice(count, min(_QUERIES, count), replace=False)
    queries = matrix.rows(own)
    noise = random.standard_normal(queries.shape, dtype=np.float32) / np.sqrt(queries.shape[1])
    queries = unit(queries + (np.arange(len(own)) % 2)[:, None] * _NOISE * noise)
    k = min(RECALL_AT, count - 1)
    least = np.empty(len(own), dtype=np.float32)
    for start in range(0, len(own), 32):
        block = slice(start, start + 32)
        exact = matrix.scores(queries[block])
        exact[np.arange(len(exact)), own[block]] = -np.inf
        least[block] = best(exact, k)[1][:, -1]
    rows, scores = reranked_search(index, matrix, queries, k + 1)
    scores = np.where(rows == own[:, None], -np.inf, scores)
    reached = -np.sort(-scores, axis=1)[:, :k] >= least[:, None] - _TIE
    return float(reached.mean()), len(own)


def reranked_search(
    index: Index, matrix: VectorMatrix, queries: Vectors, k: int
) -> tuple[NDArray[np.int64], Vectors]:
    """The hits of an index, re-ranked by their exact cosines.

    Args:
        index: over the first rows of ``matrix``.
        matrix: the vectors.
        queries: float32 [n, dim], unit rows.
        k: number of hits.

    Returns:
        Rows int64 [n, k] and cosines float32 [n, k], best first; -1 and -inf where fewer were
        found.
    """
    rows, _ = index.search(queries, k * candidates_per_hit(len(matrix)))
    scores = matrix.scores_of(queries, np.maximum(rows, 0))
    scores = np.where(rows >= 0, scores, -np.inf)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
