"""What a composer made of a task's questions, kept in chunks in a run's folder.

Each question is composed once: its vector, and what the composer understood, are stored, so that
a run that was broken off goes on, and what was searched for can be read later.
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
from eval.runs.files import damaged_file, read_arrays, read_json, write_arrays, write_json
from eval.runs.run import RandomVectors
from eval.runs.vectors import RunVectors
from eval.tasks import TaskQuery, QueryTask
from indexes.errors import CiesError, UsageError
from indexes.search.vectors import Vectors, unit
from ingest.conditions import UNCONDITIONAL
from query.composers.base import ComposedQuery

#: Questions in a chunk; a kill costs at most this many.
CHUNK = 16


class ComposedQueries:
    """A composer's vectors of one task's questions, in a folder of their own."""

    def __init__(self, folder: Path, task: QueryTask, name: str):
        """Look at nothing yet.

        Args:
            folder: of this composition alone.
            task: whose questions are composed.
            name: of the composer.
        """
        self.folder = folder
        self.task = task
        self.composer = name
        self._queries = [query for _, query in queries_of(task)]

    @property
    def _chunks(self) -> int:
        return -(-len(self._queries) // CHUNK)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    @property
    def done(self) -> bool:
        """Whether all questions are composed."""
        return all(self._path(number).exists() for number in range(self._chunks))

    @property
    def writer(self) -> str:
        """The LVLM that had a part, with its revision; empty if none had."""
        about = self.folder / "about.json"
        return str(read_json(about).get("writer", "")) if about.exists() else ""

    def check(self, wanted: Mapping[str, Any]) -> None:
        """Refuse to go on with what was begun in another way.

        Raises:
            UsageError: naming the way out.
        """
        about = self.folder / "about.json"
        if not about.exists():
            return
        before = read_json(about)
        if before["wanted"] != dict(wanted):
            raise UsageError(
                f"{self.folder} was composed otherwise ({_words(before['wanted'])}); name another "
                "run folder with -o."
            )
        if self.done:
            return
        changed = [n for n, v in versions().items() if before["versions"].get(n, v) != v]
        if changed:
            raise UsageError(
                f"{self.folder} was begun with {changed[0]} {before['versions'][changed[0]]}, and "
                f"{versions()[changed[0]]} is installed; go on with that version, or name another "
                "run folder with -o."
            )

    def fill(
        self,
        wanted: Mapping[str, Any],
        seen: Callable[[Sequence[str]], Vectors],
        compose: Callable[[TaskQuery, str, Vectors], ComposedQuery],
        tell: Callable[[int, int], None],
        writer: Callable[[], str],
    ) -> None:
        """Compose what is not stored yet.

        Args:
            wanted: what was asked for.
            seen: gives pictures' stored vectors by their ids.
            compose: makes one vector of a question, one wording of its text, and the stored
                vector of its picture.
            tell: told how many questions are done, and how many there are.
            writer: tells the revision of the LVLM, once it had a part.

        Raises:
            UsageError: if the composer cannot serve this run.
            ModelError: if a model is needed and cannot be had.
        """
        self.check(wanted)
        for number in range(self._chunks):
            if self._path(number).exists():
                continue
            some = self._queries[number * CHUNK : (number + 1) * CHUNK]
            vectors = seen([query.image for query in some])
            found = [self._one(q, vector, compose) for q, vector in zip(some, vectors, strict=True)]
            self._note({"wanted": dict(wanted), "versions": versions(), "writer": writer()})
            write_arrays(
                self._path(number),
                {
                    "vectors": np.stack([vector for vector, _, _ in found]),
                    "captions": np.array([share for _, share, _ in found], dtype=np.float32),
                    "understood": np.array([said for _, _, said in found], dtype=np.str_),
                },
            )
            tell(min(len(self._queries), (number + 1) * CHUNK), len(self._queries))

    def _note(self, about: Mapping[str, Any]) -> None:
        before, now = self.writer, about["writer"]
        if before and now and before != now:
            raise UsageError(
                f"{self.folder} was begun with {before}, and {now} is there now; name another run "
                "folder with -o."
            )
        write_json(self.folder / "about.json", {**about, "writer": now or before})

    def _one(
        self, query: TaskQuery, vector: Vectors, compose: Callable[[TaskQuery, str, Vectors], ComposedQuery]
    ) -> tuple[NDArray[np.float32], float, str]:
        """A question's vector, the share of captions, and what was understood, as JSON."""
        made = []
        for text in (query.text, *query.rewordings):
            try:
                made.append(compose(query, text, vector))
            except CiesError as error:
                raise type(error)(f"{self.task.name}, question {query.id}: {error}") from error
        vectors = np.stack([one.vector for one in made])
        mean = vectors[0] if len(made) == 1 else unit(vectors.mean(axis=0, keepdims=True))[0]
        said = json.dumps(
            [{**o.interpretation.to_json(), "notes": o.interpretation.notes} for o in made]
        )
        return np.asarray(mean, dtype=np.float32), made[0].captions, said

    def load(
        self,
        captions: RunVectors | RandomVectors | None = None,
        conditions: tuple[str, ...] = (UNCONDITIONAL,),
    ) -> QueryVectors:
        """What was composed.

        Args:
            captions: vectors of the pictures' captions, where the composer looks at them.
            conditions: under which pictures are compared.

        Raises:
            CiesError: if it is damaged or missing.
        """
        chunks = [self._chunk(number) for number in range(self._chunks)]
        vectors = np.concatenate([chunk["vectors"] for chunk in chunks])
        shares = np.unique(np.concatenate([chunk["captions"] for chunk in chunks]))
        if len(shares) != 1 or (shares[0] and captions is None):
            raise damaged_file(self.folder)
        of, start = {}, 0
        for part in self.task.parts:
            of[part.name] = vectors[start : start + len(part.queries)]
            start += len(part.queries)
        return QueryVectors(of, captions, float(shares[0]), conditions)

    def notes(self) -> tuple[int, str]:
        """How many questions were composed with a fallback, and the first one's sentence."""
        found = [
            note
            for number in range(self._chunks)
            for said in self._chunk(number)["understood"]
            for one in json.loads(str(said))
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


def _words(wanted: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in wanted.items() if value)
