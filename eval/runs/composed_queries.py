"""Stores a composer's vectors of one task's queries, in chunks.

Each query is composed once: its vector and the composer's interpretation are stored, so that an
interrupted run can be continued, and what was searched for can be read later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.environment import versions
from eval.runs.answers import QueryVectors, queries_of
from eval.runs.baselines import SystemVectors
from eval.runs.files import (
    check_versions,
    damaged_file,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from eval.runs.vectors import ProgressCallback
from eval.tasks import QueryTask, TaskQuery
from indexes.errors import CiesError, UsageError
from indexes.vectors import Vectors, unit
from ingest.conditions import UNCONDITIONAL
from query.composers.base import ComposedQuery

#: Queries in a chunk, which is what an interrupted run loses at most.
CHUNK = 16

#: Composes a query from one wording of its text and the stored vector of its picture.
ComposeQuery = Callable[[TaskQuery, str, Vectors], ComposedQuery]


class ComposedQueries:
    """The folder of a composer's vectors of one task's queries."""

    def __init__(self, folder: Path, task: QueryTask, composer: str):
        """Set the folder; nothing is read yet.

        Args:
            folder: the folder of these composed queries only.
            task: whose queries are composed.
            composer: the composer's name.
        """
        self.folder = folder
        self.task = task
        self.composer = composer
        self._queries = [query for _, query in queries_of(task)]
        self._about = folder / "about.json"

    @property
    def _chunks(self) -> int:
        return -(-len(self._queries) // CHUNK)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    @property
    def done(self) -> bool:
        """Whether all queries are composed."""
        return all(self._path(number).exists() for number in range(self._chunks))

    @property
    def writer(self) -> str:
        """The LVLM that wrote captions, with its revision; empty if none did."""
        return str(read_json(self._about).get("writer", "")) if self._about.exists() else ""

    def check(self, wanted: Mapping[str, Any]) -> None:
        """Check that stored queries were composed with the same options and can be continued.

        Raises:
            UsageError: if not; the message suggests another folder.
        """
        if not self._about.exists():
            return
        before = read_json(self._about)
        if before["wanted"] != dict(wanted):
            options = ", ".join(f"{n} {value}" for n, value in before["wanted"].items() if value)
            raise UsageError(
                f"{self.folder} was composed with other options ({options}); name another run "
                "folder with -o."
            )
        if not self.done:
            check_versions(self.folder, before["versions"])

    def fill(
        self,
        wanted: Mapping[str, Any],
        picture_vectors: Callable[[Sequence[str]], Vectors],
        compose: ComposeQuery,
        progress: ProgressCallback,
        writer: Callable[[], str],
    ) -> None:
        """Compose what is not stored yet.

        Args:
            wanted: the composer's options.
            picture_vectors: returns pictures' stored vectors by their ids.
            compose: composes one wording of a query.
            progress: called after each chunk.
            writer: returns the revision of the LVLM, once it has been used.

        Raises:
            UsageError: if the composer does not work with this run.
            ModelError: if a model is needed and is not available.
        """
        self.check(wanted)
        for number in range(self._chunks):
            if self._path(number).exists():
                continue
            queries = self._queries[number * CHUNK : (number + 1) * CHUNK]
            vectors = picture_vectors([query.image for query in queries])
            composed = [
                self._compose(query, vector, compose)
                for query, vector in zip(queries, vectors, strict=True)
            ]
            self._write_about(wanted, writer())
            write_arrays(
                self._path(number),
                {
                    "vectors": np.stack([vector for vector, _, _ in composed]),
                    "captions": np.array([share for _, share, _ in composed], dtype=np.float32),
                    "understood": np.array([text for _, _, text in composed], dtype=np.str_),
                },
            )
            progress(min(len(self._queries), (number + 1) * CHUNK), len(self._queries))

    def _write_about(self, wanted: Mapping[str, Any], writer: str) -> None:
        before = self.writer
        if before and writer and before != writer:
            raise UsageError(
                f"{self.folder} was started with {before}, and {writer} is used now; name another "
                "run folder with -o."
            )
        write_json(
            self._about,
            {"wanted": dict(wanted), "versions": versions(), "writer": writer or before},
        )

    def _compose(
        self, query: TaskQuery, vector: Vectors, compose: ComposeQuery
    ) -> tuple[NDArray[np.float32], float, str]:
        """Return a query's vector, the weight of captions, and the interpretation as JSON."""
        composed = []
        for text in (query.text, *query.rewordings):
            try:
                composed.append(compose(query, text, vector))
            except CiesError as error:
                raise type(error)(f"{self.task.name}, question {query.id}: {error}") from error
        vectors = np.stack([wording.vector for wording in composed])
        mean = vectors[0] if len(composed) == 1 else unit(vectors.mean(axis=0, keepdims=True))[0]
        interpretations = [wording.interpretation for wording in composed]
        return (
            np.asarray(mean, dtype=np.float32),
            composed[0].captions,
            json.dumps([{**one.to_json(), "notes": one.notes} for one in interpretations]),
        )

    def load(
        self,
        captions: SystemVectors | None = None,
        conditions: tuple[str, ...] = (UNCONDITIONAL,),
    ) -> QueryVectors:
        """Return the stored vectors.

        Args:
            captions: vectors of the pictures' captions, if the composer compares with them.
            conditions: the conditions under which pictures are compared.

        Raises:
            CiesError: if a file is damaged or missing.
        """
        chunks = [self._chunk(number) for number in range(self._chunks)]
        vectors = np.concatenate([chunk["vectors"] for chunk in chunks])
        shares = np.unique(np.concatenate([chunk["captions"] for chunk in chunks]))
        if len(shares) != 1 or (shares[0] and captions is None):
            raise damaged_file(self.folder)
        by_part, start = {}, 0
        for part in self.task.parts:
            by_part[part.name] = vectors[start : start + len(part.queries)]
            start += len(part.queries)
        return QueryVectors(by_part, captions, float(shares[0]), conditions)

    def notes(self) -> tuple[int, str]:
        """Return how many queries were composed with a fallback, and the first one's note."""
        found = [
            note
            for number in range(self._chunks)
            for interpretations in self._chunk(number)["understood"]
            for one in json.loads(str(interpretations))
            for note in one["notes"][:1]
        ]
        return len(found), found[0] if found else ""

    def _chunk(self, number: int) -> dict[str, NDArray[Any]]:
        path = self._path(number)
        arrays = read_arrays(path)
        count = min(CHUNK, len(self._queries) - number * CHUNK)
        if any(len(arrays.get(n, ())) != count for n in ("vectors", "captions", "understood")):
            raise damaged_file(path)
        return arrays
