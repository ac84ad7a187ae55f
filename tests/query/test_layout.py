"""All pictures on a plane: the directions of numpy's own decomposition, kept and extended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import clouds

import cies
from indexes.search.open_table import OpenTable
from indexes.vectors import unit
from query.explore.layout import extended, layout


@pytest.fixture(scope="module")
def table(world_gallery: Path) -> OpenTable:
    return cies.open(world_gallery, follow=False).opened("color")


def test_pca_is_that_of_a_singular_value_decomposition(table: OpenTable, tmp_path: Path) -> None:
    found = layout(table, tmp_path, "pca")
    vectors = table.vectors(np.arange(len(table))).astype(np.float64)
    _, _, directions = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    expected = (vectors - vectors.mean(axis=0)) @ directions[:2].T
    for axis in range(2):
        correlation = np.corrcoef(found.points[:, axis], expected[:, axis])[0, 1]
        assert abs(correlation) == pytest.approx(1, abs=1e-4)
    spread = np.ptp(expected, axis=0)
    assert np.ptp(found.points, axis=0) == pytest.approx(2 * spread / spread.max(), rel=1e-3)
    assert list(found.keys) == list(table.keys) and np.abs(found.points).max() <= 1 + 1e-6


def test_it_is_kept_until_the_pictures_change(table: OpenTable, tmp_path: Path) -> None:
    first = layout(table, tmp_path, "pca")
    (kept,) = (tmp_path / "maps").iterdir()
    written = kept.stat().st_mtime_ns
    assert layout(table, tmp_path, "pca").version == first.version
    assert kept.stat().st_mtime_ns == written
    # What is damaged, or not an archive of numbers, is worked out again.
    for content in (b"", b"no archive", kept.read_bytes()[:300]):
        kept.write_bytes(content)
        assert layout(table, tmp_path, "pca").version == first.version
    with kept.open("wb") as file:
        np.savez(file, keys=np.array([object()]), points=np.zeros((1, 2), np.float32))
    assert layout(table, tmp_path, "pca").version == first.version
    # A folder that cannot be written keeps nothing.
    assert layout(table, kept, "pca").version == first.version


def test_new_pictures_are_put_among_their_neighbours() -> None:
    """A kept layout by UMAP stays, and new pictures are put where their nearest ones are."""
    vectors, groups = _groups(330)
    keys = [f"{n:064x}" for n in range(330)]
    places = np.stack([np.cos(groups * 2.1), np.sin(groups * 2.1)], axis=1).astype(np.float32)
    opened = clouds.table(vectors)
    points = extended(opened, keys, (keys[:300], places[:300]))
    assert points is not None
    assert np.array_equal(points[:300], places[:300])
    assert np.allclose(points[300:], places[300:], atol=0.2)
    # Too many new ones are not.
    assert extended(opened, keys, (keys[:200], places[:200])) is None


@pytest.mark.soak
def test_umap_keeps_groups_together(tmp_path: Path) -> None:
    pytest.importorskip("umap")
    vectors, groups = _groups(400)
    found = layout(clouds.table(vectors), tmp_path, "umap")
    distances = np.linalg.norm(found.points[:, None] - found.points, axis=2)
    nearest = np.argsort(distances, axis=1)[:, 1:6]
    assert found.kind == "umap" and (groups[nearest] == groups[:, None]).mean() > 0.95


def _groups(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around three directions, and the number of each one's direction."""
    random = np.random.default_rng(2)
    groups = np.arange(count) % 3
    vectors = 4 * np.eye(16)[groups] + random.standard_normal((count, 16)) * 0.3
    return unit(vectors.astype(np.float32)), groups
