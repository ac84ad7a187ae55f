"""Counts the words that a model gives a gallery's pictures under a condition.

Words with the same meaning are counted together. They are recognised by their spelling (grey,
gray; stripe, stripes, striped) and by the gallery itself: if the vectors of two words' pictures
cannot be told apart, the words are two names of one thing.

The distance of two words is measured relative to the spread of one word's pictures. Let m(a, b) be
the mean cosine of a picture of word a with one of word b, m(a, a) that of two different pictures of
word a, and m that of two different pictures of the same word, over both words. Then

    separation(a, b) = ((m(a, a) + m(b, b)) / 2 - m(a, b)) / (1 - m),

the squared distance of the words' means, without its expected value under chance, relative to the
spread within words (twice the ratio that Fisher's discriminant maximises, in all directions at
once). It is 0 if the pictures of one word are split at random, for every model and geometry.

Measured with the built-in models (``tests/query/test_facets.py`` repeats it on fewer pictures):
words of 1,500 rendered pictures (12 colors, 12 shapes, 5 patterns and so on) have a separation of
at least 1.38. If the pictures of one word, of these and of 4,188 photographs and drawings, are
split into two names, the separation is 0.00 for random splits (95 % of them below 0.14, splits of
five and five pictures included), 0.05 to 0.2 if the second name is the likelier the further a
picture lies along the direction of the largest variance, and 0.2 to 1.2 if they are cut in two
along it. Under a condition that it was not trained on, a model calls one thing by many words,
which are then merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from query.explore.spelling import plain, stem

#: Separation below which two words are merged.
SAME = 0.15

#: Separation from which words are not merged although their spelling says so.
DIFFERENT = 1.0

#: The fewest pictures of a word whose separation is meaningful.
ENOUGH = 5

#: Vectors in memory at once.
_ROWS = 8192

#: Words compared with all others at once.
_WORDS = 512


@dataclass(frozen=True)
class Word:
    """One word of the model.

    Attributes:
        word: the word.
        pictures: how many have it.
        merged_by: ``""`` for the word that names its facet, else ``spelling`` or ``meaning``.
        separation: from the rest of its facet when it was merged; ``None`` for too few pictures.
    """

    word: str
    pictures: int
    merged_by: str = ""
    separation: float | None = None


@dataclass(frozen=True)
class Facet:
    """Words with the same meaning, and the pictures that have them.

    Attributes:
        words: the one with the most pictures first; it names the facet.
        rows: the rows of the pictures, int64 [n], in ascending order.
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
    """Count the words of a condition, words with the same meaning together.

    Args:
        open_table: the condition's.
        allowed: bool [size], the pictures to count; all by default.
        merge_below: separation below which two words are merged; 0 merges by spelling only.

    Returns:
        The facets, largest first, then by name. Pictures without a word are in none.
    """
    rows_of: dict[str, list[int]] = {}
    for row, word in enumerate(open_table.words):
        if word and (allowed is None or allowed[row]):
            rows_of.setdefault(word, []).append(row)
    clusters = [
        _WordCluster((Word(word, len(rows)),), np.array(rows, dtype=np.int64), np.zeros(0))
        for word, rows in sorted(rows_of.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    if not clusters:
        return []
    for cluster, total in zip(clusters, sums(open_table, [c.rows for c in clusters]), strict=True):
        cluster.total = total
    clusters = _merge_by_spelling(clusters)
    if merge_below > 0:
        clusters = _merge_by_meaning(clusters, merge_below)
    found = [Facet(cluster.words, np.sort(cluster.rows)) for cluster in clusters]
    return sorted(found, key=lambda facet: (-facet.pictures, facet.word))


def sums(open_table: OpenTable, parts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """The sum of the vectors of each set of rows: float64 [sets, dim]."""
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


class _WordCluster:
    """The pictures of some words, with the sum of their vectors, from which separations follow."""

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

    def joined(self, other: _WordCluster, merged_by: str, separation: float | None) -> _WordCluster:
        """Both as one, named by this one's word."""
        words = [Word(word.word, word.pictures, merged_by, separation) for word in other.words]
        rows = np.concatenate([self.rows, other.rows])
        return _WordCluster((*self.words, *words), rows, self.total + other.total)


def _separation(one: _WordCluster, other: _WordCluster) -> float | None:
    """The separation of two clusters, or ``None`` if one has too few pictures."""
    sizes = len(one.rows), len(other.rows)
    if min(sizes) < ENOUGH:
        return None
    between = float(one.total @ other.total) / (sizes[0] * sizes[1])
    inside = one.within, other.within
    both = (inside[0] * (sizes[0] - 1) + inside[1] * (sizes[1] - 1)) / (sum(sizes) - 2)
    return (sum(inside) / 2 - between) / max(1 - both, 1e-6)


def _merge_by_spelling(clusters: Sequence[_WordCluster]) -> list[_WordCluster]:
    """Merge forms of one word, unless their pictures are too different; largest first."""
    for key, distance in ((plain, np.inf), (stem, DIFFERENT)):
        kept: dict[str, list[_WordCluster]] = {}
        for cluster in clusters:
            alike = kept.setdefault(key(cluster.words[0].word), [])
            for number, other in enumerate(alike):
                apart = _separation(other, cluster)
                if apart is None or apart < distance:
                    alike[number] = other.joined(cluster, "spelling", apart)
                    break
            else:
                alike.append(cluster)
        clusters = [cluster for alike in kept.values() for cluster in alike]
        clusters.sort(key=lambda cluster: (-len(cluster.rows), cluster.words[0].word))
    return list(clusters)


def _merge_by_meaning(clusters: list[_WordCluster], below: float) -> list[_WordCluster]:
    """Merge clusters below a separation, the closest pair first; separations are then updated."""
    large = [cluster for cluster in clusters if len(cluster.rows) >= ENOUGH]
    small = [cluster for cluster in clusters if len(cluster.rows) < ENOUGH]
    # Only pairs that are close at first are considered: a merged cluster's neighbours are those of
    # its parts.
    near: dict[int, set[int]] = {number: set() for number in range(len(large))}
    remaining = dict(enumerate(large))
    apart: dict[tuple[int, int], float] = {}

    def measure(one: int, other: int) -> None:
        distance = _separation(remaining[one], remaining[other])
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
        if len(remaining[other].rows) > len(remaining[one].rows):
            one, other = other, one
        remaining[one] = remaining[one].joined(remaining.pop(other), "meaning", apart[closest])
        neighbours = near.pop(other) - {one}
        for neighbour in (one, *neighbours):
            near[neighbour].discard(other)
            del apart[min(other, neighbour), max(other, neighbour)]
        for neighbour in near[one] | neighbours:
            measure(one, neighbour)
    return [*remaining.values(), *small]


def _near_pairs(clusters: Sequence[_WordCluster], below: float) -> Iterator[tuple[int, int]]:
    """Pairs of clusters with a separation below this, computed for all pairs in blocks."""
    if not clusters:
        return
    sizes = np.array([len(cluster.rows) for cluster in clusters], dtype=np.float64)
    means = np.array([cluster.total for cluster in clusters]) / sizes[:, None]
    inside = np.array([cluster.within for cluster in clusters])
    degrees = sizes - 1
    for start in range(0, len(clusters), _WORDS):
        part = slice(start, start + _WORDS)
        between = means[part] @ means.T
        both = (inside * degrees)[part, None] + inside * degrees
        both /= degrees[part, None] + degrees
        apart = ((inside[part, None] + inside) / 2 - between) / np.maximum(1 - both, 1e-6)
        for one, other in np.argwhere(apart < below):
            if start + one < other:
                yield int(start + one), int(other)
