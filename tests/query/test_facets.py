"""Words counted by what they mean, and pictures grouped by them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from support.clouds import cloud, table

import cies
from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.store.records import VectorColumn
from indexes.vectors import unit
from query.explore.facets import DIFFERENT, ENOUGH, SAME, facets, sums
from query.explore.groups import Group, groups, nearest_groups, representatives
from query.explore.spelling import plain, stem


@pytest.mark.parametrize(
    "forms",
    [
        "gray grey GREY Gray.",
        "color colors colour colours coloured coloring",
        "stripe stripes striped",
        "dot dots dotted",
        "dress dresses",
        "box boxes",
        "watch watches",
        "berry berries",
        "multicolored multi-coloured Multi_Colored",
        "stylised stylized",
        "theatre theater theaters",
        "woman women",
        "leaf leaves",
        "jewellery jewelry",
        "fill filled filling",
        "café CAFÉ cafe\u0301",
        "赤 赤",
    ],
)
def test_forms_of_a_word(forms: str) -> None:
    assert len({stem(word) for word in forms.split()}) == 1


@pytest.mark.parametrize(
    "words",
    [
        "red read bread",
        "string ring sing thing",
        "dress red bed wed",
        "plus pus bus glass",
        "four for hour",
        "赤 青",
        "square circle star ring heart diamond hexagon crescent arrow ellipse triangle cross",
        "red orange yellow green blue purple pink brown black white gray beige",
        "plain striped checked dotted printed photo flat outline pixelated one two three four",
    ],
)
def test_words_that_are_not_forms_of_one(words: str) -> None:
    listed = words.split()
    assert len({stem(word) for word in listed}) == len(listed)


def test_no_word_is_lost_to_its_key() -> None:
    for word in ("?!", "_", "-ed", "ed", "ing", "s", "ies", "es", "ss", "re", "our"):
        assert plain(word) and stem(word)


def by_word(open_table: OpenTable, **options: float) -> dict[str, int]:
    return {facet.word: facet.pictures for facet in facets(open_table, **options)}


def test_words_that_are_apart_are_counted_as_they_are(random: np.random.Generator) -> None:
    words = random.choice(["red", "green", "blue", ""], 200)
    place = {"red": 0, "green": 1, "blue": 2, "": 3}
    vectors = np.concatenate([cloud(random, place[word], 1) for word in words])
    found = facets(table(vectors, list(words)))
    counts = Counter(word for word in words.tolist() if word)
    assert {facet.word: facet.pictures for facet in found} == counts
    assert [facet.pictures for facet in found] == sorted(counts.values(), reverse=True)
    for facet in found:
        assert all(words[facet.rows] == facet.word)


def separation(first: np.ndarray, second: np.ndarray) -> float:
    """As the module's documentation defines it, pair by pair."""

    def inside(vectors: np.ndarray) -> float:
        return float((vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)].mean())

    one, two = inside(first), inside(second)
    weights = len(first) - 1, len(second) - 1
    mean = (one * weights[0] + two * weights[1]) / sum(weights)
    return ((one + two) / 2 - float((first @ second.T).mean())) / (1 - mean)


def test_two_names_of_one_thing_are_one(random: np.random.Generator) -> None:
    one = cloud(random, 0, 60)
    vectors = np.concatenate([one, cloud(random, 1, 30)])
    names = random.permutation(["scarlet"] * 20 + ["crimson"] * 40)
    opened = table(vectors, [*names, *["blue"] * 30])
    found = facets(opened)
    assert [(facet.word, facet.pictures) for facet in found] == [("crimson", 60), ("blue", 30)]
    merged = found[0].words[1]
    assert (merged.word, merged.pictures, merged.merged_by) == ("scarlet", 20, "meaning")
    stored = opened.column.vectors[:60]
    expected = separation(stored[names == "crimson"], stored[names == "scarlet"])
    assert merged.separation == pytest.approx(expected, abs=1e-4)
    assert by_word(opened, merge_below=0) == {"crimson": 40, "scarlet": 20, "blue": 30}


def test_many_names_of_one_thing_are_one_and_rare_ones_stay(random: np.random.Generator) -> None:
    names = [f"name{chr(97 + i)}" for i in range(12)]
    words = [name for name in names for _ in range(20)] + ["once"] * (ENOUGH - 1)
    found = facets(table(cloud(random, 0, len(words)), words))
    assert [facet.pictures for facet in found] == [240, ENOUGH - 1]
    assert {word.word for word in found[0].words} == set(names)


def test_words_spelled_alike_are_one_unless_their_pictures_say_otherwise(
    random: np.random.Generator,
) -> None:
    words = ["short"] * 20 + ["shorts"] * 10
    apart = np.concatenate([cloud(random, 0, 20), cloud(random, 1, 10)])
    assert by_word(table(apart, words)) == {"short": 20, "shorts": 10}
    assert by_word(table(cloud(random, 0, 30), words)) == {"short": 30}
    # Case is never a difference, and a few pictures are no evidence of one.
    assert by_word(table(apart, ["Short"] * 20 + ["short"] * 10)) == {"Short": 30}
    few = np.concatenate([cloud(random, 0, 20), cloud(random, 1, 2)])
    merged = facets(table(few, ["short"] * 20 + ["shorts"] * 2))[0]
    assert merged.words[1].merged_by == "spelling" and merged.words[1].separation is None


def test_only_allowed_pictures_count(random: np.random.Generator) -> None:
    opened = table(cloud(random, 0, 30), ["red", "green", "blue"] * 10)
    allowed = np.arange(30) % 3 == 0
    (facet,) = facets(opened, allowed)
    assert facet.word == "red" and facet.rows.tolist() == list(range(0, 30, 3))
    assert facets(opened, np.zeros(30, dtype=bool)) == []
    assert facets(table(cloud(random, 0, 3))) == []


def test_sums(random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("query.explore.facets._ROWS", 7)
    opened = table(random.normal(size=(50, 8)))
    part = random.permutation(50)
    parts = [part[:20], part[20:20], part[20:21], part[30:]]
    expected = np.array([opened.column.vectors[rows].sum(0) for rows in parts])
    assert np.allclose(sums(opened, parts), expected, atol=1e-5)


@pytest.fixture(scope="module")
def colors(world_gallery: object) -> OpenTable:
    return cies.open(str(world_gallery)).opened("color")


def renamed(opened: OpenTable, words: list[str]) -> OpenTable:
    column = opened.column
    chances = column.word_probabilities
    return OpenTable(opened.table, VectorColumn(column.keys, column.vectors, words, chances))


def test_on_rendered_pictures(colors: OpenTable, random: np.random.Generator) -> None:
    """What the thresholds rest on, smaller: 60 pictures and 12 colors, so 5 of each."""
    words = list(colors.words)
    assert by_word(colors) == Counter(words)
    vectors = colors.column.vectors
    count = Counter(words)
    large = [word for word in count if count[word] >= ENOUGH]
    sets = {word: vectors[np.array(words) == word] for word in large}
    apart = [separation(sets[a], sets[b]) for a in large for b in large if a < b]
    assert len(apart) > 10 and min(apart) > DIFFERENT
    # Three colors under one name, dealt to two names by chance, are one again.
    mixed = [i for i, word in enumerate(words) if word in large[:3]]
    for i in mixed:
        words[i] = ("kin", "kith")[int(random.integers(2))]
    assert separation(*(vectors[np.array(words) == w] for w in ("kin", "kith"))) < SAME
    assert len(mixed) in by_word(renamed(colors, words)).values()


# -- groups ---------------------------------------------------------------------------------------


def all_rows(found: list[Group]) -> list[int]:
    return sorted(row for group in found for row in [*group.sure, *group.likely])


def test_every_picture_is_in_one_group_by_its_word_or_its_place(
    random: np.random.Generator,
) -> None:
    vectors = np.concatenate([cloud(random, place, 40, 0.2) for place in range(3)])
    words = np.repeat(["red", "green", "blue"], 40)
    sure = np.where(random.random(120) < 0.2, 0.3, 0.9)
    words[5], words[50], words[100] = "", "odd", "odd"
    opened = table(vectors, words.tolist(), sure.tolist())
    found = groups(opened)
    assert all_rows(found) == list(range(120))
    assert sorted(group.word for group in found) == ["blue", "green", "red"]
    assert [g.pictures for g in found] == sorted((g.pictures for g in found), reverse=True)
    stored = opened.column.vectors
    means = unit(np.array([stored[group.sure].mean(0) for group in found]))
    for number, group in enumerate(found):
        assert all(words[group.sure] == group.word) and all(sure[group.sure] >= 0.5)
        # Everything else is where it is nearest, and the most typical picture leads.
        assert all(np.argmax(stored[group.likely] @ means.T, axis=1) == number)
        for rows in (group.sure, group.likely):
            assert np.all(np.diff(stored[rows] @ means[number]) <= 1e-6)
        others = np.argsort(-(means @ means[number]), kind="stable")
        assert list(group.nearest) == [n for n in others if n != number]
    rows = np.arange(120)
    assert np.array_equal(nearest_groups(opened, rows, found), np.argmax(stored @ means.T, axis=1))
    assert all(len(g.likely) == 0 for g in groups(opened, sure=0, smallest=1) if g.word != "red")


def test_groups_of_some_pictures(random: np.random.Generator) -> None:
    opened = table(cloud(random, 0, 30), ["red", "green", "blue"] * 10)
    allowed = np.arange(30) < 9
    found = groups(opened, allowed, merge_below=0)
    assert all_rows(found) == list(range(9)) and len(found) == 3
    assert groups(opened, np.zeros(30, dtype=bool)) == []


def test_groups_where_words_are_rare_or_unsure_or_none(random: np.random.Generator) -> None:
    vectors = cloud(random, 0, 4)
    rare = groups(table(vectors, ["a", "b", "b", "c"]))
    assert [(g.word, g.pictures) for g in rare] == [("b", 4)]
    unsure = groups(table(vectors, ["a", "a", "b", "b"], [0.1] * 4))
    assert all_rows(unsure) == [0, 1, 2, 3] and {g.word for g in unsure} == {"a", "b"}
    with pytest.raises(UsageError, match="No picture has a word under 'color'"):
        groups(table(vectors))


def test_representatives_are_spread_over_the_group(random: np.random.Generator) -> None:
    """A group of three parts, the smallest a tenth: each is shown; what does not belong is not."""
    sizes = (60, 30, 10)
    centres = np.eye(32)[:3] * 0.6 + np.eye(32)[3]
    parts = [c + 0.05 * random.normal(size=(n, 32)) for c, n in zip(centres, sizes, strict=True)]
    stray = -np.eye(32)[:2]
    opened = table(np.concatenate([*parts, stray]), ["red"] * 102)
    (group,) = groups(opened)
    shown = group.representatives
    assert len(set(shown.tolist())) == 6 and set(shown) <= set(group.sure)
    part = np.repeat([0, 1, 2, 3], [*sizes, 2])
    assert set(part[shown]) == {0, 1, 2}
    few = group.sure[:4]
    mean = opened.column.vectors[few].mean(0)
    assert sorted(representatives(opened, few, mean)) == sorted(few)
    same = table(np.ones((20, 4)), ["red"] * 20)
    assert len(set(groups(same)[0].representatives.tolist())) == 6
