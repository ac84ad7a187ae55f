"""Indexes in files beside the rows they were built over, and what was measured of each."""

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

from indexes.errors import CiesError
from indexes.search.base import Index, best
from indexes.search.faiss import FaissIndex, GpuIndex, candidates_per_hit, factory_of
from indexes.search.faiss import version as faiss_version
from indexes.search.matrix import Matrix
from indexes.search.row_cache import DamagedCache, RowCache, read_checked, write_checked
from indexes.vectors import Vectors, unit

#: Neighbours that recall is measured over.
RECALL_AT = 10

#: Questions it is measured with, half of them the gallery's own vectors.
_QUERIES = 128

#: Length of what is added to a unit vector for the other half.
_PERTURBED = 0.3

#: Scores this close are as good: fp32 sums in another order.
_TIE = 1e-5


@dataclass(frozen=True)
class Built:
    """What is known of an index.

    Attributes:
        kind: by name, or a factory string.
        factory: how FAISS calls it; empty where it is not FAISS's.
        library: what built it, with its version.
        vectors: it holds.
        recall_at_10: share of the ten nearest, by exact comparison, that it finds, ties counted
            as found; measured when it was built, the vector that was asked with left out.
        queries: it was measured with.
        build_seconds: it took.
        bytes: on the disk, beside the vectors themselves.
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


def _named(kind: str, count: int, dimension: int) -> tuple[str, str]:
    """Factory and library of a kind."""
    if kind == "lance":
        from indexes.search.lance_index import version

        return "", version()
    return factory_of(kind, count, dimension), faiss_version()


def _stem(kind: str, factory: str, library: str) -> str:
    content = f"{kind}\0{factory}\0{library}".encode()
    return f"index-{hashlib.sha256(content).hexdigest()[:16]}"


def load_index(base: RowCache, kind: str) -> tuple[Index, Built] | None:
    """Read an index that was built over rows; ``None`` if there is none.

    Raises:
        DamagedCache: if it is not what it was when it was written.
        CiesError: if FAISS is needed and not installed.
    """
    if base.folder is None:
        return None
    factory, library = _named(kind, len(base), base.dimension)
    stem = _stem(kind, factory, library)
    about = base.folder / f"{stem}.json"
    if not about.is_file():
        return None
    built, content, data = check_index(about)
    try:
        if data is None:
            from indexes.search.lance_index import LanceIndex

            index: Any = LanceIndex(content)
        else:
            index = FaissIndex.from_bytes(data)
        if built.kind != kind or len(index) != len(base):
            raise DamagedCache(f"{content} is of other vectors")
    except ValueError as error:
        raise DamagedCache(f"{about}: {error}") from error
    return index, built


def check_index(about: Path) -> tuple[Built, Path, bytes | None]:
    """Read an index's files and compare them with their checksums.

    Args:
        about: the document that names them.

    Returns:
        What is known of it; where its content lies; and the content, unless that is a folder.

    Raises:
        DamagedCache: if anything is not what it was when it was written.
    """
    document = read_checked(about)
    try:
        built = Built(**document["built"])
        content = about.parent / document["content"]
        data = None if content.is_dir() else content.read_bytes()
        now = _list(content) if data is None else [len(data), zlib.crc32(data)]
        if now != document["files"]:
            raise DamagedCache(f"{content} is damaged")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCache(f"{about}: {error}") from error
    return built, content, data


def build_index(base: RowCache, matrix: Matrix, kind: str) -> tuple[Index, Built]:
    """Build an index over rows, measure its recall, and keep it beside them.

    Args:
        base: the rows; in memory, nothing is kept.
        matrix: their vectors.
        kind: any but ``auto`` and ``exact``.

    Raises:
        CiesError: if FAISS is needed and not installed.
        UsageError: if there is no such index, or these vectors cannot fill it.
        OSError: if it cannot be written.
    """
    numbers = np.arange(len(base))
    if kind == "gpu":
        began = time.perf_counter()
        gpu = GpuIndex(matrix.rows, numbers, base.dimension)
        return gpu, _measured(gpu, base, matrix, kind, "Flat", faiss_version(), began, 0)
    factory, library = _named(kind, len(base), base.dimension)
    stem = _stem(kind, factory, library)
    content = f"{stem}-{uuid.uuid4().hex[:8]}"
    began = time.perf_counter()
    if kind == "lance":
        from indexes.search.lance_index import LanceIndex

        if base.folder is None:
            raise CiesError(
                "The index 'lance' lies on the disk, and the gallery cannot be written to; choose "
                "another index."
            )
        place = base.folder / content
        try:
            lance = LanceIndex.build(place, matrix.rows, numbers, base.dimension)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        files: Any = _list(place)
        size = sum(size for size, _ in files.values())
        built = _measured(lance, base, matrix, kind, factory, library, began, size)
        _keep(base.folder, stem, content, files, built)
        return lance, built
    index = FaissIndex.build(matrix.rows, numbers, base.dimension, factory)
    data = index.to_bytes()
    built = _measured(index, base, matrix, kind, factory, library, began, len(data))
    if base.folder is not None:
        (base.folder / content).write_bytes(data)
        _keep(base.folder, stem, content, [len(data), zlib.crc32(data)], built)
    return index, built


def _keep(folder: Path, stem: str, content: str, files: Any, built: Built) -> None:
    """Name a finished index as the one to use, and remove what it replaces."""
    document = {"content": content, "files": files, "built": asdict(built)}
    write_checked(folder / f"{stem}.json", document)
    for path in folder.glob(f"{stem}-*"):
        if path.name != content:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(True)


def _list(folder: Path) -> dict[str, list[int]]:
    """The files of a folder, with length and CRC-32."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "latest_version_hint.json":
            data = path.read_bytes()
            found[path.relative_to(folder).as_posix()] = [len(data), zlib.crc32(data)]
    return found


def remove_index(folder: Path, kind: str) -> None:
    """Remove the indexes of a kind from beside some rows."""
    for about in folder.glob("index-*.json"):
        with suppress(DamagedCache):
            if check_index(about)[0].kind == kind:
                about.unlink(missing_ok=True)
                for path in folder.glob(f"{about.stem}-*"):
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(True)


def built_over(folder: Path) -> list[Built]:
    """What is known of the indexes in a folder, by name; damaged ones are left out."""
    found = []
    for path in sorted(folder.glob("index-*.json")):
        try:
            found.append(Built(**read_checked(path)["built"]))
        except (DamagedCache, TypeError, KeyError):
            continue
    return sorted(found, key=lambda built: built.kind)


def _measured(
    index: Index,
    base: RowCache,
    matrix: Matrix,
    kind: str,
    factory: str,
    library: str,
    began: float,
    size: int,
) -> Built:
    seconds = time.perf_counter() - began
    recall, queries = measured_recall(index, matrix)
    return Built(
        kind, factory, library, len(base), recall, queries, round(seconds, 3), size, time.time()
    )


def measured_recall(index: Index, matrix: Matrix) -> tuple[float, int]:
    """Recall@10 of an index after re-ranking, against exact comparison.

    Half of the questions are vectors of the gallery, half are such with noise added; the vector
    that was asked with is left out of both answers.

    Returns:
        The recall, and how many questions were asked.
    """
    count = len(matrix)
    if count < 2:
        return 1.0, 0
    random = np.random.default_rng(1)
    asked = random.choice(count, min(_QUERIES, count), replace=False)
    queries = matrix.rows(asked)
    noise = random.standard_normal(queries.shape, dtype=np.float32) / np.sqrt(queries.shape[1])
    queries = unit(queries + (np.arange(len(asked)) % 2)[:, None] * _PERTURBED * noise)
    k = min(RECALL_AT, count - 1)
    least = np.empty(len(asked), dtype=np.float32)
    for start in range(0, len(asked), 32):
        part = slice(start, start + 32)
        exact = matrix.scores(queries[part])
        exact[np.arange(len(exact)), asked[part]] = -np.inf
        least[part] = best(exact, k)[1][:, -1]
    rows, scores = nearest(index, matrix, queries, k + 1)
    scores = np.where(rows == asked[:, None], -np.inf, scores)
    reached = -np.sort(-scores, axis=1)[:, :k] >= least[:, None] - _TIE
    return float(reached.mean()), len(asked)


def nearest(
    index: Index, matrix: Matrix, queries: Vectors, k: int
) -> tuple[NDArray[np.int64], Vectors]:
    """What an index finds, compared anew with the vectors themselves and put in order.

    Args:
        index: over the first rows of ``matrix``.
        matrix: the vectors.
        queries: float32 [n, dim], unit rows.
        k: how many.

    Returns:
        Rows int64 [n, k] and cosines float32 of the same shape, best first; -1 and -inf where
        fewer were found.
    """
    rows, scores = ranked_anew(index, matrix, queries, k * candidates_per_hit(len(matrix)))
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)


def ranked_anew(
    index: Index, matrix: Matrix, queries: Vectors, candidates: int
) -> tuple[NDArray[np.int64], Vectors]:
    """An index's candidates with their exact cosines, in no order; -1 and -inf for none."""
    rows, _ = index.search(queries, candidates)
    scores = matrix.scores_of(queries, np.maximum(rows, 0))
    return rows, np.where(rows >= 0, scores, -np.inf)
