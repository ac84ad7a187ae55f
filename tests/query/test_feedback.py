"""Likes and dislikes move a query, as the published formulas say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import cies
from cies import collections
from indexes.errors import UsageError
from query.collections import UnknownCollection
from query.engine import Engine
from query.explore import feedback
from query.hits import Hit


@pytest.fixture(scope="module")
def gallery(world_gallery: Path) -> Engine:
    return cies.open(world_gallery, follow=False)


def test_rocchio_is_its_formula(gallery: Engine) -> None:
    column = gallery.vectors("color")
    mean = column.vectors.mean(axis=0)
    liked, disliked = [4, 9, 17], [2, 30]

    def centred(row: int) -> np.ndarray:
        away = column.vectors[row] - mean
        return away / np.linalg.norm(away)

    direction = centred(0) + feedback.LIKED * np.mean([centred(row) for row in liked], axis=0)
    direction -= feedback.DISLIKED * np.mean([centred(row) for row in disliked], axis=0)
    distance = np.linalg.norm(column.vectors[0] - mean)
    query = mean + distance * direction / np.linalg.norm(direction)
    scores = column.vectors @ (query / np.linalg.norm(query))
    rated = {0, *liked, *disliked}
    expected = [row for row in np.argsort(-scores, kind="stable") if row not in rated][:8]
    hits = gallery.search(
        column.keys[0],
        "color",
        k=8,
        like=[column.keys[row] for row in liked],
        dislike=[column.keys[row] for row in disliked],
    )
    assert [hit.key for hit in hits] == [column.keys[row] for row in expected]
    assert [hit.score for hit in hits] == pytest.approx(scores[expected].tolist(), abs=1e-5)
    assert hits.query.like == tuple(column.keys[row] for row in liked)
    assert hits.query.feedback == "rocchio" and len(hits.query.dislike) == 2


@pytest.mark.parametrize("count", [3, 40])
def test_ridge_minimises_its_error(count: int) -> None:
    """Fewer and more ratings than dimensions: no other direction has a smaller error."""
    random = np.random.default_rng(count)
    rows = random.standard_normal((2 * count + 1, 12)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mean = rows.mean(axis=0)
    start = rows[0] - mean
    start = start / np.linalg.norm(start)
    rated = rows[1:] - mean
    rated = rated / np.linalg.norm(rated, axis=1, keepdims=True)
    wanted = np.concatenate([np.ones(count), np.zeros(count)])

    def error(w: np.ndarray) -> float:
        fit = ((rated @ w - wanted) ** 2).sum() / count
        return float(fit + feedback.RIDGE * ((w - start) ** 2).sum())

    query = feedback.moved(rows[0], rows[1 : count + 1], rows[count + 1 :], mean, "ridge")
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-6)
    # The direction is known up to the length, which the distance from the mean replaces.
    scale = np.linalg.norm(rows[0] - mean)
    found = [length * query - mean for length in np.linspace(0.2, 3, 3000)]
    away = min(found, key=lambda one: abs(np.linalg.norm(one) - scale))
    direction = away / np.linalg.norm(away)
    best = min(error(length * direction) for length in np.linspace(0, 4, 4000))
    exact = np.linalg.solve(
        rated.T @ rated / count + feedback.RIDGE * np.eye(12),
        rated.T @ wanted / count + feedback.RIDGE * start,
    )
    assert best == pytest.approx(error(exact), rel=2e-2)


def test_a_true_user_is_helped(gallery: Engine) -> None:
    """Who wants one color and rates the nearest by shape truly finds that color earlier."""
    column = gallery.vectors("color")
    words = dict(zip(column.keys, column.words, strict=True))
    color, _ = Counter(column.words).most_common(1)[0]
    gains = []
    for key in [key for key in column.keys if words[key] == color]:
        asked = {"shape": 1, "color": 0.3}
        before = gallery.search(key, asked, k=10)
        liked = [hit.key for hit in before if words[hit.key] == color]
        disliked = [hit.key for hit in before if words[hit.key] != color]
        rated = {key, *liked, *disliked}

        def mean_rank(hits: Sequence[Hit], rated: set[str]) -> float:
            left = [hit.key for hit in hits if hit.key not in rated]
            return float(np.mean([at for at, one in enumerate(left) if words[one] == color]))

        after = gallery.search(key, asked, k=60, like=liked, dislike=disliked)
        assert not {hit.key for hit in after} & rated
        if {words[hit.key] for hit in after} & {color}:
            gains.append(
                mean_rank(gallery.search(key, asked, k=60), rated) - mean_rank(after, rated)
            )
    assert len(gains) >= 3 and np.mean(gains) > 0


def test_likes_alone_are_the_examples_and_not_is_left_alone(gallery: Engine) -> None:
    keys = gallery.vectors("color").keys
    alone = gallery.search((), "color", k=5, like=[keys[3], keys[5]])
    examples = gallery.search([keys[3], keys[5]], "color", k=5)
    assert alone.hits == examples.hits
    # A liked picture does not say which shape is to be avoided.
    liked = gallery.search(keys[0], "color", k=40, unlike="shape", like=keys[3])
    shape = gallery.vectors("shape")
    rows = {key: row for row, key in enumerate(shape.keys)}
    for hit in liked:
        part = next(one for one in hit.parts if one["weight"] < 0)
        cosine = float(shape.vectors[rows[hit.key]] @ shape.vectors[rows[keys[0]]])
        assert part["score"] == pytest.approx(cosine, abs=1e-5)


def test_what_cannot_be_rated_is_refused(gallery: Engine, tmp_path: Path) -> None:
    keys = gallery.vectors("color").keys
    with pytest.raises(UsageError, match="--feedback 'magic'"):
        gallery.search(keys[0], "color", like=keys[1], feedback="magic")
    with pytest.raises(UsageError, match="Cannot read the query"):
        gallery.search(keys[0], "color", like=tmp_path / "none.jpg")
    with pytest.raises(UsageError, match="no picture to search with"):
        gallery.search((), "color", dislike=keys[1])
    with pytest.raises(UnknownCollection, match="'none'"):
        gallery.search((), "color", like="@none")


def test_a_collection_is_rated_as_its_pictures(
    world_gallery: Path, tmp_path: Path, gallery: Engine
) -> None:
    import shutil

    own = tmp_path / world_gallery.name
    shutil.copytree(world_gallery, own)
    opened = cies.open(own)
    keys = [record.key for record in opened.gallery.files()][:4]
    collections.add(opened.gallery, "liked ones", keys[1:])
    opened.refresh()
    named = opened.search(keys[0], "color", k=6, like="@liked ones")
    assert named.hits == opened.search(keys[0], "color", k=6, like=keys[1:]).hits
    assert opened.search("@liked ones", "color", k=6).hits == (
        opened.search(keys[1:], "color", k=6).hits
    )
