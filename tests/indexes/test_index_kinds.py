"""The contract of every registered kind of index: built, stored, loaded and searched alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.galleries import TABLE, clustered, forget, kept, key, made, put, table_loader

import indexes.search.table_loader
from indexes.errors import CiesError
from indexes.search.base import ExactIndex, Index, IndexKind, query_blocks
from indexes.search.factory import KINDS, REGISTRY, find_kind, make_index
from indexes.search.index_files import reranked_search
from indexes.search.matrix import VectorMatrix
from indexes.store.gallery import Gallery
from indexes.vectors import Vectors

COUNT, DIMENSION = 1200, 32

#: A factory string is a kind as well, without a name of its own.
NAMES = [*REGISTRY, "IVF16,SQ8"]


@pytest.fixture(params=NAMES)
def kind(request: pytest.FixtureRequest) -> IndexKind:
    """Each kind that works on this machine."""
    kind = find_kind(request.param)
    try:
        kind.library()
        if kind.name == "gpu":
            kind.build(lambda rows: clustered(1, 8)[rows], 1, 8, None)
    except CiesError as error:
        pytest.skip(str(error))
    return kind


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return clustered(COUNT, DIMENSION)


def build(kind: IndexKind, vectors: Vectors, folder: Path) -> Index:
    place = folder / "index"
    return kind.build(lambda rows: vectors[rows], *vectors.shape, place)


def recall(index: Index, vectors: Vectors, queries: Vectors, k: int = 10) -> float:
    """Share of re-ranked hits that score at least as high as the k-th by exact search."""
    _, scores = reranked_search(index, VectorMatrix(None, vectors), queries, k)
    exact = np.sort(queries @ vectors.T, axis=1)[:, -k]
    return float((scores >= exact[:, None] - 1e-5).mean())


def test_every_kind_is_registered_under_its_name() -> None:
    assert ("auto", *REGISTRY) == KINDS
    for name, kind in REGISTRY.items():
        assert kind.name == name and 0.9 <= kind.recall_at_10 <= 1
        assert kind.storage in ("file", "folder", "memory")
        assert kind.fallback in ("", *REGISTRY)


def test_search_reaches_the_recall_it_claims(
    kind: IndexKind, vectors: Vectors, tmp_path: Path
) -> None:
    index = build(kind, vectors, tmp_path)
    assert len(index) == COUNT
    queries = np.concatenate([vectors[::50], clustered(20, DIMENSION, seed=1)])
    assert recall(index, vectors, queries) >= kind.recall_at_10
    rows, scores = index.search(queries, 10)
    assert rows.shape == scores.shape == (len(queries), 10)
    assert rows.dtype == np.int64 and scores.dtype == np.float32
    assert ((rows >= -1) & (rows < COUNT)).all()
    assert all(len(set(line)) == len(line) for line in ([r for r in x if r >= 0] for x in rows))
    # One query or many: the same hits.
    assert np.array_equal(index.search(queries[:1], 10)[0], rows[:1])


def test_more_hits_than_vectors_are_asked_for(
    kind: IndexKind, vectors: Vectors, tmp_path: Path
) -> None:
    few = vectors[:300]
    index = build(kind, few, tmp_path)
    rows, scores = index.search(few[:2], 1000)
    assert rows.shape == scores.shape == (2, 300)
    found = [set(line[line >= 0].tolist()) for line in rows]
    assert all(line <= set(range(300)) and len(line) >= 30 for line in found)


def test_a_stored_index_answers_as_the_built_one(
    kind: IndexKind, vectors: Vectors, tmp_path: Path
) -> None:
    index = build(kind, vectors, tmp_path)
    if kind.storage == "memory":
        with pytest.raises(NotImplementedError):
            kind.load(b"")
        return
    content = kind.save(index) if kind.storage == "file" else tmp_path / "index"
    loaded = kind.load(content)
    queries = clustered(20, DIMENSION, seed=2)
    assert len(loaded) == COUNT
    assert np.array_equal(loaded.search(queries, 10)[0], index.search(queries, 10)[0])
    broken = tmp_path / "nothing"
    broken.mkdir()
    with pytest.raises(ValueError):
        kind.load(b"not an index" if kind.storage == "file" else broken)


def test_a_gallery_with_deleted_and_new_rows_is_searched(
    kind: IndexKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes.search.table_loader, "CACHED_FROM", 1)
    gallery, expected = made(tmp_path / "g.cies", COUNT)
    table_loader(gallery).build(kind.name)
    deleted = sorted(expected)[40:55]
    new = {key(f"new {n}"): row for n, row in enumerate(clustered(20, DIMENSION, seed=3))}
    put(gallery, new)
    forget(gallery, deleted)
    expected = {name: row for name, row in expected.items() if name not in deleted}
    expected |= {name: kept(row) for name, row in new.items()}
    table = table_loader(Gallery.open(gallery.path)).open()
    assert table.kind == kind.name and list(table.keys) == sorted(expected)
    rows = np.stack([expected[name] for name in sorted(expected)])
    queries = np.concatenate([rows[::100], clustered(10, DIMENSION, seed=5)])
    found, scores = table.search(queries, 10)
    truth = queries @ rows.T
    assert np.allclose(scores, np.take_along_axis(truth, found, 1), atol=1e-5)
    assert (scores >= np.sort(truth, axis=1)[:, -10][:, None] - 1e-5).mean() >= kind.recall_at_10
    # New rows are found although no index has them; more hits than rows are all rows.
    for name, row in new.items():
        hit, score = table.search(kept(row)[None], 1)
        assert table.keys[int(hit[0, 0])] == name and score[0, 0] > 0.9999
    every, _ = table.search(queries[:2], len(expected) + 5)
    assert every.shape == (2, len(expected))
    assert np.array_equal(np.sort(every, axis=1)[0], np.arange(len(expected)))


def test_no_vectors(kind: IndexKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index(np.empty((0, 8), dtype=np.float32), kind.name)
    rows, scores = index.search(np.eye(8, dtype=np.float32)[:3], 5)
    assert len(index) == 0 and rows.shape == scores.shape == (3, 0)
    monkeypatch.setattr(indexes.search.table_loader, "CACHED_FROM", 0)
    gallery = Gallery.create(tmp_path / "g.cies")
    with gallery.writer() as writer:
        writer.declare(TABLE)
    table = table_loader(gallery).open(kind.name)
    assert len(table) == 0 and table.search(clustered(2, DIMENSION), 5)[0].shape == (2, 0)


def test_blocks_of_queries_cover_all_of_them() -> None:
    blocks = query_blocks(10, ExactIndex.SCORES // 3)
    assert [len(range(10)[block]) for block in blocks] == [3, 3, 3, 1]
