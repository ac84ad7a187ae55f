"""Near-duplicates and outliers, against every pair compared by itself."""

from __future__ import annotations

import numpy as np
import pytest
from support.clouds import cloud, table

from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.vectors import unit
from query.explore.duplicates import duplicate_groups
from query.explore.outliers import outliers


def linked(alike: np.ndarray) -> list[list[int]]:
    """Connected parts of two or more, by walking from each row in turn."""
    seen: set[int] = set()
    found = []
    for start in range(len(alike)):
        part, todo = set(), [start]
        while todo:
            row = todo.pop()
            if row not in part | seen:
                part.add(row)
                todo += np.flatnonzero(alike[row]).tolist()
        seen |= part
        if len(part) > 1:
            found.append(sorted(part))
    return sorted(found, key=lambda rows: (-len(rows), rows[0]))


def every_pair(tables: list[OpenTable], threshold: float) -> np.ndarray:
    return np.all([t.column.vectors @ t.column.vectors.T >= threshold for t in tables], axis=0)


@pytest.mark.parametrize("block", [7, 64, 2048])
@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.97, 0.999])
def test_groups_are_those_of_all_pairs(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch, block: int, threshold: float
) -> None:
    monkeypatch.setattr("query.explore.duplicates._BLOCK", block)
    # Few dimensions and noise of every size, so that groups of many sizes come about.
    seeds = unit(random.normal(size=(60, 6)))
    noise = random.choice([0, 0.01, 0.05, 0.2], (240, 1)) * random.normal(size=(240, 6))
    opened = table(seeds[random.integers(60, size=240)] + noise)
    expected = linked(every_pair([opened], threshold))
    assert expected
    assert duplicate_groups(opened, threshold) == expected


def test_a_pair_must_be_alike_under_every_condition(random: np.random.Generator) -> None:
    color, shape = (
        table(np.repeat(unit(random.normal(size=(12, 8))), 20, 0)[random.permutation(240)])
        for _ in range(2)
    )
    both = [color, shape]
    expected = linked(every_pair(both, 0.99))
    assert duplicate_groups(both, 0.99) == expected == duplicate_groups(both[::-1], 0.99)
    assert len(expected) > len(duplicate_groups(color, 0.99)) == 12


def test_a_chain_is_one_group_and_nothing_is_joined_across_rows_not_allowed() -> None:
    angles = np.deg2rad(np.arange(0, 20, 2))
    opened = table(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    threshold = float(np.cos(np.deg2rad(2.5)))
    assert duplicate_groups(opened, threshold) == [list(range(10))]
    allowed = np.arange(10) != 4
    assert duplicate_groups(opened, threshold, allowed) == [[5, 6, 7, 8, 9], [0, 1, 2, 3]]
    assert duplicate_groups(opened, threshold, np.arange(10) == 4) == []


def test_equal_vectors_reach_any_threshold(random: np.random.Generator) -> None:
    vectors = cloud(random, 0, 50, 0.5, 512).astype(np.float16).astype(np.float32)
    told: list[tuple[int, int]] = []
    opened = table(np.concatenate([vectors, vectors]))
    found = duplicate_groups(opened, 1.0, progress=lambda *state: told.append(state))
    assert found == [[row, row + 50] for row in range(50)]
    assert told == [(1, 1)]
    assert duplicate_groups(table(vectors[:1]), 0.5) == duplicate_groups(opened, 1.0)[:0]


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_no_cosine_has(threshold: float, random: np.random.Generator) -> None:
    with pytest.raises(UsageError, match=r"0\.98 is the usual one"):
        duplicate_groups(table(cloud(random, 0, 5)), threshold)


@pytest.mark.parametrize("chosen", [None, 3])
def test_outliers_are_those_of_plain_arithmetic(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch, chosen: int | None
) -> None:
    monkeypatch.setattr("query.explore.outliers._BLOCK", 16)
    vectors = np.concatenate([cloud(random, 0, 60, 0.2), random.normal(size=(30, 32))])
    vectors[10] = vectors[11] = vectors[12]  # copies are each other's neighbours
    opened = table(vectors)
    allowed = None if chosen is None else np.arange(90) % chosen > 0
    rows = np.arange(90) if allowed is None else np.flatnonzero(allowed)
    cosines = opened.column.vectors[rows] @ opened.column.vectors[rows].T
    np.fill_diagonal(cosines, -np.inf)
    expected = np.sort(cosines, axis=1)[:, -5:].mean(1)
    order = np.argsort(expected, kind="stable")[:12]
    found = outliers(opened, 12, 5, allowed)
    assert [one.row for one in found] == rows[order].tolist()
    assert [one.score for one in found] == pytest.approx(expected[order], abs=1e-5)
    assert min(rows[order]) >= 60


def test_outliers_of_hardly_any_pictures(random: np.random.Generator) -> None:
    assert outliers(table(cloud(random, 0, 1))) == []
    opened = table(cloud(random, 0, 3))
    assert len(outliers(opened, neighbours=10)) == 3
