"""The words a model has for a gallery's pictures under a condition, and how many have each.

Words that mean the same are counted together. What says so is their spelling (grey, gray; stripe,
stripes, striped) and the gallery itself: where the pictures of two words are mixed among each
other, the words are two names of one thing.

How far two words lie apart is measured against how far the pictures of one word do. Let m(a, b) be
the mean cosine of a picture of word a with one of word b, m(a, a) that of two different pictures of
word a, and m that of two different pictures of the same word, of either. Then

    separation(a, b) = ((m(a, a) + m(b, b)) / 2 - m(a, b)) / (1 - m),

the squared distance of the words' means, less what chance puts between them, over the spread within
words (twice the ratio that Fisher's discriminant looks for, in all directions at once). It is 0 for
the pictures of one word dealt to two names, whatever the model and the geometry.

Measured with models of the built-in kind (``tests/test_facets.py`` does it again, smaller): words
of 1,500 rendered pictures, 12 colors, 12 shapes, 5 patterns and so on, are 1.38 apart at least.
The pictures of a word dealt to two names, on these and on 4,188 photographs and drawings, are 0.00
apart if they are dealt by chance (95 in 100 of such pairs below 0.14, five pictures against five
among them), 0.05 to 0.2 if by taste (the further along the direction in which they differ most, the
likelier the second name), and 0.2 to 1.2 if cut clean in two along it. Of photographs whose
respect a model was not schooled for, it calls one thing by many words, which then are merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from query.explore.spelling import plain, stem

#: Separation below which two words are taken for one.
SAME = 0.15

#: Separation from which words stay apart that their spelling would bring together.
DIFFERENT = 1.0

#: Pictures a word must have for its separation to mean anything.
ENOUGH = 5

#: Rows whose vectors are in memory at once.
_ROWS = 8192

#: Words compared with all others at once.
_WORDS = 512


@dataclass(frozen=True)
class Word:
    """One word as the model said it.

    Attributes:
        word: as it was said.
        pictures: how many have it.
        merged_by: ``""`` for the word its facet is named by, ``spelling`` or ``meaning``.
        separation: from the rest of its facet when it joined; ``None`` for too few pictures.
    """

    word: str
    pictures: int
    merged_by: str = ""
    separation: float | None = None


@dataclass(frozen=True)
class Facet:
    """Words that mean one thing, and the pictures that have them.

    Attributes:
        words: the one that most pictures have first; it names the facet.
        rows: of the pictures, int64 [n], in ascending order.
    """

    words: tuple[Word, ...]
    rows: NDArray[np.int64]

    @property
    def word(self) -> str:
        """The facet's name."""
        return self.words[0].word

    @property
    def pictures(self) -> int:
        """How many pictures it has."""
        return len(self.rows)


def facets(
    open_table: OpenTable,
    allowed: NDArray[np.bool_] | None = None,
    merge_below: float = SAME,
) -> list[Facet]:
    """Count the words of a condition, those that mean the same together.

    Args:
        open_table: the condition's.
        allowed: bool [size], the pictures that are counted; all by default.
        merge_below: separation below which two words are one; 0 merges by spelling alone.

    Returns:
        The facets, largest first, then by name. Pictures without a word are in none.
    """
    said: dict[str, list[int]] = {}
    for row, word in enumerate(open_table.words):
        if word and (allowed is None or allowed[row]):
            said.setdefault(word, []).append(row)
    clouds = [
        _Cloud((Word(word, len(rows)),), np.array(rows, dtype=np.int64), np.zeros(0))
        for word, rows in sorted(said.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    if not clouds:
        return []
    for cloud, total in zip(clouds, sums(open_table, [c.rows for c in clouds]), strict=True):
        cloud.total = total
    clouds = _merge_by_spelling(clouds)
    if merge_below > 0:
        clouds = _merge_by_meaning(clouds, merge_below)
    found = [Facet(cloud.words, np.sort(cloud.rows)) for cloud in clouds]
    return sorted(found, key=lambda facet: (-facet.pictures, facet.word))


def sums(open_table: OpenTable, parts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """The sum of the vectors of each of some sets of rows: float64 [parts, dim]."""
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(rows, kind="stable")
    rows, number = rows[order], number[order]
    total = np.zeros((len(parts), open_table.table.dimension))
    for start, end in pairwise([*range(0, len(rows), _ROWS), len(rows)]):
        here = np.argsort(number[start:end], kind="stable")
        names = number[start:end][here]
        first = np.flatnonzero(np.diff(names, prepend=-1))
        vectors = open_table.vectors(rows[start:end][here]).astype(np.float64)
        total[names[first]] += np.add.reduceat(vectors, first)
    return total


class _Cloud:
    """The pictures of some words: enough of them to compare two clouds without looking again."""

    def __init__(
        self, words: tuple[Word, ...], rows: NDArray[np.int64], total: NDArray[np.float64]
    ):
        self.words = words
        self.rows = rows
        self.total = total

    @property
    def within(self) -> float:
        """Mean cosine of two different pictures."""
        count = len(self.rows)
        return float((self.total @ self.total - count) / (count * (count - 1)))

    def joined(self, other: _Cloud, merged_by: str, separation: float | None) -> _Cloud:
        """Both as one, named as this one is."""
        words = [Word(word.word, word.pictures, merged_by, separation) for word in other.words]
        rows = np.concatenate([self.rows, other.rows])
        return _Cloud((*self.words, *words), rows, self.total + other.total)


def _separation(one: _Cloud, other: _Cloud) -> float | None:
    """How far two clouds are apart, or ``None`` if one is too small to tell."""
    sizes = len(one.rows), len(other.rows)
    if min(sizes) < ENOUGH:
        return None
    between = float(one.total @ other.total) / (sizes[0] * sizes[1])
    inside = one.within, other.within
    both = (inside[0] * (sizes[0] - 1) + inside[1] * (sizes[1] - 1)) / (sum(sizes) - 2)
    return (sum(inside) / 2 - between) / max(1 - both, 1e-6)


def _merge_by_spelling(clouds: Sequence[_Cloud]) -> list[_Cloud]:
    """Forms of one word as one, unless their pictures say otherwise; largest first."""
    for key, distance in ((plain, np.inf), (stem, DIFFERENT)):
        kept: dict[str, list[_Cloud]] = {}
        for cloud in clouds:
            alike = kept.setdefault(key(cloud.words[0].word), [])
            for number, other in enumerate(alike):
                apart = _separation(other, cloud)
                if apart is None or apart < distance:
                    alike[number] = other.joined(cloud, "spelling", apart)
                    break
            else:
                alike.append(cloud)
        clouds = [cloud for alike in kept.values() for cloud in alike]
        clouds.sort(key=lambda cloud: (-len(cloud.rows), cloud.words[0].word))
    return list(clouds)


def _merge_by_meaning(clouds: list[_Cloud], below: float) -> list[_Cloud]:
    """Clouds that lie in one another as one, the closest pair first, each time measured anew."""
    large = [cloud for cloud in clouds if len(cloud.rows) >= ENOUGH]
    small = [cloud for cloud in clouds if len(cloud.rows) < ENOUGH]
    # Only pairs that are close at first are looked at again: a merged cloud's neighbours are
    # those of its parts.
    near: dict[int, set[int]] = {number: set() for number in range(len(large))}
    there = dict(enumerate(large))
    apart: dict[tuple[int, int], float] = {}

    def measure(one: int, other: int) -> None:
        distance = _separation(there[one], there[other])
        assert distance is not None  # both are large enough
        apart[min(one, other), max(one, other)] = distance
        near[one].add(other)
        near[other].add(one)

    for one, other in _near_pairs(large, 2 * below):
        measure(one, other)
    while apart:
        closest = min(apart, key=lambda pair: (apart[pair], pair))
        if apart[closest] >= below:
            break
        one, other = closest
        if len(there[other].rows) > len(there[one].rows):
            one, other = other, one
        there[one] = there[one].joined(there.pop(other), "meaning", apart[closest])
        neighbours = near.pop(other) - {one}
        for neighbour in (one, *neighbours):
            near[neighbour].discard(other)
            del apart[min(other, neighbour), max(other, neighbour)]
        for neighbour in near[one] | neighbours:
            measure(one, neighbour)
    return [*there.values(), *small]


def _near_pairs(clouds: Sequence[_Cloud], below: float) -> Iterator[tuple[int, int]]:
    """Pairs of clouds less far apart than this: the separation of all of them, in blocks."""
    if not clouds:
        return
    sizes = np.array([len(cloud.rows) for cloud in clouds], dtype=np.float64)
    means = np.array([cloud.total for cloud in clouds]) / sizes[:, None]
    inside = np.array([cloud.within for cloud in clouds])
    degrees = sizes - 1
    for start in range(0, len(clouds), _WORDS):
        part = slice(start, start + _WORDS)
        between = means[part] @ means.T
        both = (inside * degrees)[part, None] + inside * degrees
        both /= degrees[part, None] + degrees
        apart = ((inside[part, None] + inside) / 2 - between) / np.maximum(1 - both, 1e-6)
        for one, other in np.argwhere(apart < below):
            if start + one < other:
                yield int(start + one), int(other)
