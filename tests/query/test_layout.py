"""All pictures on a plane: the directions of numpy's own decomposition, kept and extended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cies
from indexes.search.open_table import OpenTable
from query.explore.layout import layout


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
