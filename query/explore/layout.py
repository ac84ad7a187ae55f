"""Lays all pictures of a gallery out on a plane under one condition.

``pca``: the two directions of the largest variance of the vectors, as they are compared.
``umap``: UMAP (McInnes et al. 2018, arXiv 1802.03426) of the first 50 such directions, with the
package umap-learn (extra ``cies[map]``). A layout is computed once and kept in the gallery's folder
of caches. Pictures that are added later are put among their nearest neighbours of a kept UMAP
layout, which stays as it is until they are a fifth of all.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.files import replacing
from indexes.search.open_table import OpenTable
from indexes.vectors import Vectors

#: How pictures can be laid out; the first that is installed is the default.
KINDS = ("umap", "pca")

#: Directions that UMAP gets, rows of a block, neighbours of a new picture, the share of new
#: pictures from which everything is laid out again.
_DIRECTIONS, _BLOCK, _NEIGHBOURS, _SHARE = 50, 8192, 5, 0.2

#: Seed of UMAP, and the fewest pictures that it lays out.
_SEED, _FEWEST = 0, 300


@dataclass(frozen=True)
class Layout:
    """Pictures on a plane.

    Attributes:
        keys: content keys, [n].
        points: float32 [n, 2], each coordinate from -1 to 1.
        kind: one of :data:`KINDS`.
        version: identifies keys and points.
    """

    keys: Sequence[str]
    points: NDArray[np.float32]
    kind: str
    version: str


def default_kind() -> str:
    """The kind of layout if none is named."""
    return KINDS[0] if find_spec("umap") is not None else KINDS[1]


def layout(table: OpenTable, folder: Path, kind: str = "") -> Layout:
    """The layout of a table's pictures: the kept one, or a new one, which is kept.

    Args:
        table: the condition's table.
        folder: the gallery's folder of caches; if it cannot be written, nothing is kept.
        kind: one of :data:`KINDS`; the default one if empty.

    Raises:
        UsageError: if there is no such kind, or its package is not installed.
    """
    kind = kind or default_kind()
    if kind not in KINDS:
        raise UsageError(f"There is no layout '{kind}'; choose one of {', '.join(KINDS)}.")
    if kind == "umap" and find_spec("umap") is None:
        raise UsageError("The layout umap needs umap-learn; run `pip install 'cies[map]'`.")
    if kind == "umap" and len(table) < _FEWEST:
        kind = "pca"
    path = folder / "maps" / f"{table.table.table}-{kind}.npz"
    keys = list(table.keys)
    before = _kept(path)
    if before is not None and before[0] == keys:
        return _layout(keys, before[1], kind)
    points = extended(table, keys, before) if kind == "umap" and before is not None else None
    if points is None:
        points = _scaled(_umap(table) if kind == "umap" else principal_components(table, 2))
    with (
        suppress(OSError),
        replacing(path, durable=False) as temporary,
        temporary.open("wb") as file,
    ):
        np.savez(file, keys=np.array(keys, dtype="S64"), points=points)
    return _layout(keys, points, kind)


def principal_components(table: OpenTable, count: int) -> NDArray[np.float32]:
    """Coordinates of all vectors along the directions of the largest variance.

    The sign of a direction is that of its largest entry, so that equal tables give equal maps.

    Args:
        table: the vectors.
        count: how many directions; fewer if the vectors are shorter.

    Returns:
        float32 [n, count].
    """
    rows = np.arange(len(table))
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    dimension = table.vectors(rows[:1]).shape[1]
    total = np.zeros(dimension)
    products = np.zeros((dimension, dimension))
    for block in blocks:
        vectors = table.vectors(block)
        total += vectors.sum(axis=0, dtype=np.float64)
        products += vectors.T @ vectors
    mean = total / len(rows)
    _, directions = np.linalg.eigh(products / len(rows) - np.outer(mean, mean))
    chosen = directions[:, ::-1][:, :count]
    largest = chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])]
    chosen = (chosen * np.where(largest < 0, -1, 1)).astype(np.float32)
    parts = [(table.vectors(block) - mean.astype(np.float32)) @ chosen for block in blocks]
    found = np.concatenate(parts)
    if found.shape[1] < count:
        found = np.pad(found, ((0, 0), (0, count - found.shape[1])))
    return np.asarray(found, dtype=np.float32)


def _umap(table: OpenTable) -> NDArray[np.float32]:
    import umap

    vectors = principal_components(table, _DIRECTIONS)
    neighbours = min(15, len(vectors) - 1)
    model = umap.UMAP(n_neighbors=neighbours, min_dist=0.1, random_state=_SEED, n_jobs=1)
    return np.asarray(model.fit_transform(vectors), dtype=np.float32)


def extended(
    table: OpenTable, keys: Sequence[str], before: tuple[list[str], NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    """The points of an earlier layout, and new pictures among their nearest neighbours of it.

    Args:
        table: the pictures.
        keys: their keys, [n].
        before: keys and points of the earlier layout.

    Returns:
        float32 [n, 2]; ``None`` if too many pictures are new.
    """
    place = {key: number for number, key in enumerate(before[0])}
    old = np.array([row for row, key in enumerate(keys) if key in place], dtype=np.int64)
    new = np.array([row for row, key in enumerate(keys) if key not in place], dtype=np.int64)
    if not len(old) or len(new) > _SHARE * len(keys):
        return None
    points = np.zeros((len(keys), 2), dtype=np.float32)
    points[old] = before[1][[place[keys[row]] for row in old]]
    mask = np.zeros(len(keys), dtype=np.bool_)
    mask[old] = True
    for start in range(0, len(new), _BLOCK):
        rows = new[start : start + _BLOCK]
        vectors: Vectors = table.vectors(rows)
        nearest, _ = table.search(vectors, _NEIGHBOURS, mask)
        for row, found in zip(rows, nearest, strict=True):
            points[row] = points[found[found >= 0]].mean(axis=0)
    return points


def _scaled(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moved and scaled into -1 to 1, with the same factor for both coordinates."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-9)
    return np.asarray((points - (low + high) / 2) / half, dtype=np.float32)


def _kept(path: Path) -> tuple[list[str], NDArray[np.float32]] | None:
    """A kept layout; ``None`` if there is none, or it is not what was written."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            keys, points = stored["keys"], stored["points"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    sound = keys.dtype == np.dtype("S64") and points.dtype == np.float32
    if not sound or points.shape != (len(keys), 2) or not np.isfinite(points).all():
        return None
    return [key.decode("ascii", "replace") for key in keys], np.clip(points, -1, 1)


def _layout(keys: Sequence[str], points: NDArray[np.float32], kind: str) -> Layout:
    content = hashlib.sha256(points.tobytes())
    content.update("".join(keys).encode())
    return Layout(keys, points, kind, content.hexdigest()[:16])
