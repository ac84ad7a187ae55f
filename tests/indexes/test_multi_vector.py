"""Rows of several vectors against plain loops, and the method that creates them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.galleries import key, put
from support.mixed import add_table

import cies
from indexes.errors import UsageError
from indexes.search.multi_vector import MultiVectorTable
from indexes.search.table_loader import TableLoader
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from indexes.vectors import unit
from ingest.encoders.methods.regional import RegionalEncoder
from ingest.encoders.options import EncoderChoice

PARTS, OWN = 5, 8

MADE_BY = {
    "method": "regional",
    "model": "none",
    "revision": "",
    "settings": {"parts": PARTS},
    "phrase": "color",
}


@pytest.fixture
def opened(tmp_path: Path, random: np.random.Generator) -> tuple[TableLoader, np.ndarray]:
    """70 rows of five parts, and these as the gallery keeps them: [70, 5, 8]."""
    parts = unit(random.normal(size=(70 * PARTS, OWN)).astype(np.float32))
    rows = parts.reshape(70, -1) / np.sqrt(np.float32(PARTS))
    held = {key(number): row for number, row in enumerate(rows)}
    gallery = Gallery.create(tmp_path / "gallery")
    table = VectorTable("color", PARTS * OWN, MADE_BY)
    put(gallery, held, table)
    table_loader = TableLoader(gallery, table, "parts", "", lambda _, vectors: vectors)
    kept = np.stack([held[one] for one in sorted(held)]).astype(np.float16).astype(np.float32)
    return table_loader, unit(kept).reshape(70, PARTS, OWN)


def likeness(query: np.ndarray, row: np.ndarray) -> float:
    """The best cosine of the query's first part with a part of a row."""
    lengths = np.linalg.norm(row, axis=1) * np.linalg.norm(query[0])
    return float((row @ query[0] / lengths).max())


def test_the_best_of_the_parts_counts(opened: tuple[TableLoader, np.ndarray]) -> None:
    table_loader, rows = opened
    table = table_loader.open()
    assert isinstance(table, MultiVectorTable)
    want = np.array([[likeness(rows[q], row) for row in rows] for q in range(3)])
    queries = rows[:3].reshape(3, -1)
    # In fp16 a part's length is its own by a rounding.
    assert np.allclose(table.scores(queries), want, atol=5e-4)
    found, scores = table.search(queries, 10)
    assert np.allclose(scores, np.take_along_axis(want, found, 1), atol=5e-4)
    assert np.allclose(scores, -np.sort(-want, axis=1)[:, :10], atol=5e-4)
    allowed = np.arange(70) % 3 == 1
    among, scores = table.search(queries, 5, allowed)
    assert allowed[among].all()
    masked = np.where(allowed, want, -np.inf)
    assert np.allclose(scores, -np.sort(-masked, axis=1)[:, :5], atol=5e-4)
    pairs = [likeness(rows[a], rows[b]) for a in range(70) for b in range(70) if a != b]
    asked = np.array([0.3, 0.7])
    share = [100 * np.mean(np.array(pairs) < one) for one in asked]
    assert np.allclose(table.percentiles(asked), share, atol=0.1)
    # A part that is in another row's corner is found there: not so the other way round.
    assert table.scores(queries).argmax(1).tolist() == [0, 1, 2]


def test_no_index_serves_them(opened: tuple[TableLoader, np.ndarray]) -> None:
    table_loader, _ = opened
    with pytest.raises(UsageError, match="which no index serves"):
        table_loader.build("hnsw")
    assert table_loader.build("auto") is None
    assert (
        isinstance(table_loader.open("faiss"), MultiVectorTable)
        and table_loader.open("faiss").kind == "exact"
    )


def test_regions_are_searched(world: Path, world_gallery: Path, tmp_path: Path) -> None:
    """By pictures, texts and filters, in the same space."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(1, 13):
        name = f"{number:05}.jpg"
        (pictures / name).write_bytes((world / "images" / name).read_bytes())
    cies.ingest(cies.create(tmp_path / "gallery"), [pictures], ["color"])
    encoder = RegionalEncoder.load(EncoderChoice("regional", "tiny-lvlm"))
    add_table(Gallery.open(tmp_path / "gallery"), encoder, "color")
    engine = cies.open(tmp_path / "gallery")
    engine.encoders.loaded.append(encoder)
    column = engine.vectors("color", "regional")
    parts = column.vectors.reshape(12, PARTS, -1)
    want = [likeness(parts[0], row) for row in parts]
    hits = engine.search(column.keys[0], "color", 11, method="regional")
    order = [row for row in np.argsort(-np.array(want), kind="stable") if row]
    assert [hit.key for hit in hits] == [column.keys[row] for row in order]
    assert hits[0].score == pytest.approx(want[order[0]], abs=1e-4)
    new = engine.search(engine.path(column.keys[0]), "color", 11, method="regional", crop="0,0,1,1")
    assert [hit.key for hit in new][:3] == [hit.key for hit in hits][:3]
    text = engine.search_text("a red heart", "color", 12, method="regional")
    vector = encoder.encode_text(["a red heart"], [cies.Condition.parse("color")])[0, 0]
    scores = {hit.key: hit.score for hit in text}
    for row, one in enumerate(column.keys):
        best = likeness(vector.reshape(PARTS, -1), parts[row])
        assert scores[one] == pytest.approx(best, abs=1e-4)
    fused = engine.search(column.keys[0], "color", 5, method=["dior", "regional"])
    assert len(fused) == 5 and fused.query.method == "dior + regional"
