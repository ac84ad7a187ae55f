"""Conditions learned from examples: ``cies conditions learn`` and ``cies.learn_condition``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from ingest.fill.learned_conditions import check_new_name, parts_to_learn_from, store_learned
from query.collections import collection_keys
from query.explore.learning import CandidatePart, LearningResult, learn_condition

#: Random pairs by which the spread of a condition's cosines is estimated.
_PAIRS, _SEED = 4000, 0


def learn(
    gallery: Gallery,
    name: str,
    groups: Mapping[str, Sequence[str | Path]],
    others: Sequence[str | Path] = (),
    dry_run: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LearningResult:
    """Learn a condition from examples and store the vectors of all pictures under it.

    The condition is then searched, faceted, combined, exported and removed like any other. It is
    computed from the vectors that the gallery has; no model is needed. Learning one of that name
    again replaces it.

    Args:
        gallery: the gallery.
        name: the condition's name.
        groups: name of a group to pictures of the gallery that are alike: keys, paths, file
            names that only one picture has, or ``@NAME`` for those of a collection.
        others: pictures that belong to no group, such as disliked ones.
        dry_run: measure, but store nothing.
        progress: called with the number of pictures stored and of all.

    Returns:
        What matters, and how well the examples find each other.

    Raises:
        UsageError: if an example is not in the gallery or in two groups, there are too few, or the
            gallery has another condition of that name.
        GalleryLocked: if another process is writing.
    """
    condition = check_new_name(gallery, name)
    tables = parts_to_learn_from(gallery)
    if not tables:
        raise UsageError(
            f"The gallery at {gallery.path} has no vectors to learn from; ingest pictures first, "
            "such as `cies ingest photos --method photo`."
        )
    keys, numbers = _examples(gallery, groups, others)
    candidates = [candidate_part(gallery, table, keys) for table in tables]
    result = learn_condition(candidates, np.array(numbers, dtype=np.int64), list(groups))
    if not dry_run:
        with gallery.writer() as writer:
            store_learned(gallery, writer, condition, result.learned, progress)
    return result


def _examples(
    gallery: Gallery, groups: Mapping[str, Sequence[str | Path]], others: Sequence[str | Path]
) -> tuple[list[str], list[int]]:
    """The keys of the examples and the number of each one's group, -1 for none.

    Raises:
        UsageError: if an example is not in the gallery, or in two groups.
    """
    known = PictureNames(gallery)
    found: dict[str, int] = {}
    given = [(number, name) for number, names in enumerate(groups.values()) for name in names]
    for number, name in [*given, *((-1, name) for name in others)]:
        for key in known.keys(str(name)):
            if found.setdefault(key, number) != number:
                raise UsageError(f"The example {name} is in two groups; leave it in one.")
    return list(found), list(found.values())


class PictureNames:
    """Finds the pictures of a gallery that users name: by key, path, file name or collection."""

    def __init__(self, gallery: Gallery):
        self._gallery = gallery
        self._keys: set[str] = set()
        self._by_path: dict[str, str] = {}
        self._by_name: dict[str, set[str]] = {}
        for record in gallery.files():
            if record.status == "done":
                self._keys.add(record.key)
                self._by_path[gallery.location(record.path)] = record.key
                self._by_path[record.path] = record.key
                self._by_name.setdefault(Path(record.path).name, set()).add(record.key)

    def keys(self, name: str) -> list[str]:
        """The keys of the pictures that are meant: several for a collection, ``@NAME``.

        Raises:
            UsageError: if no picture or several have this name, or there is no such collection.
        """
        if name.startswith("@") and name not in self._by_path and not Path(name).exists():
            return [key for key in collection_keys(self._gallery, name) if key in self._keys]
        return [self.key(name)]

    def key(self, name: str) -> str:
        """The key of a picture.

        Raises:
            UsageError: if no picture or several have this name.
        """
        if name in self._keys:
            return name
        for path in (name, str(Path(name).absolute())):
            if path in self._by_path:
                return self._by_path[path]
        named = self._by_name.get(name, set())
        if len(named) == 1:
            return next(iter(named))
        if named:
            raise UsageError(f"{len(named)} pictures are called {name}; write more of its path.")
        raise UsageError(
            f"The picture {name} is not in the gallery at {self._gallery.path}; name a picture "
            "that is, or `cies ingest` it first."
        )


def candidate_part(gallery: Gallery, table: VectorTable, keys: Sequence[str]) -> CandidatePart:
    """What there is to know about a condition: its mean, its spread, the examples' vectors.

    Args:
        gallery: the gallery.
        table: the condition's.
        keys: the examples.

    Raises:
        UsageError: if an example is not embedded under it.
    """
    column = gallery.column(table)
    rows = {key: row for row, key in enumerate(column.keys)}
    missing = next((key for key in keys if key not in rows), None)
    if missing is not None:
        raise UsageError(
            f"The example {missing[:12]}... is not embedded under '{table.name}'; run `cies "
            "ingest` to embed what is missing."
        )
    mean = column.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    random = np.random.default_rng(_SEED)
    pairs = random.integers(0, len(column.vectors), (2, _PAIRS))
    part = CandidatePart(table.name, table.made_by, mean, 1.0, column.vectors[pairs[0]])
    other = CandidatePart(table.name, table.made_by, mean, 1.0, column.vectors[pairs[1]])
    cosines = (part.centred() * other.centred()).sum(axis=1)[pairs[0] != pairs[1]]
    spread = max(float(cosines.std()), 1e-3) if len(cosines) else 1.0
    examples = column.vectors[[rows[key] for key in keys]]
    return CandidatePart(table.name, table.made_by, mean, spread, examples)
