"""Vectors of a run, stored a chunk at a time, so that what was embedded is never embedded again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.environment import versions
from eval.runs.files import damaged, read_arrays, read_json, write_arrays, write_json
from indexes.errors import UsageError
from indexes.search.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import Encoder, Reading

#: Pictures or texts in a chunk; a kill costs at most this many.
CHUNK = 64

#: Up to so many groups of pictures, each picture is asked about all its conditions at once.
_MOST_GROUPS = 64

PICTURES, TEXTS = "pictures", "texts"

#: Told how many are done, and how many there are.
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """Some pictures or texts to be embedded under some conditions by one encoder.

    Attributes:
        kind: :data:`PICTURES` or :data:`TEXTS`.
        made_by: method, model, revision and settings of the encoder.
        ids: of the pictures, or the texts themselves.
        conditions: as typed.
        chunk: pictures or texts in a file.
    """

    kind: str
    made_by: Mapping[str, Any]
    ids: tuple[str, ...]
    conditions: tuple[str, ...]
    chunk: int = field(default_factory=lambda: CHUNK)

    @property
    def name(self) -> str:
        """The job's folder: a digest of all that it is."""
        every = [self.kind, dict(self.made_by), self.ids, self.conditions, self.chunk]
        whole = json.dumps(every, sort_keys=True).encode()
        return f"{self.made_by['method']}-{hashlib.sha256(whole).hexdigest()[:16]}"

    @property
    def chunks(self) -> int:
        """How many files it makes."""
        return -(-len(self.ids) // self.chunk)


def made_by(encoder: Encoder) -> dict[str, Any]:
    """What made the vectors of an encoder, under whatever condition, as JSON values."""
    spec = encoder.spec
    return {
        "method": spec.method,
        "model": spec.model,
        "revision": spec.revision,
        "settings": dict(spec.settings),
    }


def jobs_of(made: Mapping[str, Any], needs: Mapping[str, Iterable[str]]) -> list[Job]:
    """Jobs that embed every picture under the conditions it is needed under.

    Args:
        made: from :func:`made_by`.
        needs: condition to ids of pictures.

    Returns:
        Jobs in which each picture is read once, unless nearly every picture has conditions of
        its own; then a job a condition.
    """
    of: dict[str, list[str]] = {}
    for condition, ids in needs.items():
        for key in dict.fromkeys(ids):
            of.setdefault(key, []).append(condition)
    groups: dict[tuple[str, ...], list[str]] = {}
    for key, conditions in of.items():
        groups.setdefault(tuple(conditions), []).append(key)
    if len(groups) > _MOST_GROUPS:
        groups = {(name,): list(dict.fromkeys(ids)) for name, ids in needs.items()}
    return [Job(PICTURES, made, tuple(ids), conditions) for conditions, ids in groups.items()]


class VectorStore:
    """The folder ``vectors`` of a run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fill(
        self,
        job: Job,
        encoder: Encoder,
        read: Callable[[Sequence[str], Sequence[Condition]], Reading],
        tell: Tell,
    ) -> None:
        """Embed what is not stored yet.

        Args:
            job: what is wanted.
            encoder: that the job was made for.
            read: ids of pictures and conditions to what the encoder makes of them; not called
                for texts.
            tell: told after each chunk.

        Raises:
            CiesError: if a picture cannot be read or the place cannot be written to.
            ModelError: as the encoder.
            UsageError: if the job was begun with other versions of the libraries.
        """
        place = self.folder / job.name
        todo = [n for n in range(job.chunks) if not self._path(job, n).exists()]
        if not todo:
            return
        self._begin(place, job, encoder)
        conditions = [Condition.parse(name) for name in job.conditions]
        for number in todo:
            started = time.monotonic()
            ids = job.ids[number * job.chunk : (number + 1) * job.chunk]
            if job.kind == TEXTS:
                reading = encoder.read_text(ids, conditions, words=False)
            else:
                reading = read(ids, conditions)
            self._write(job, number, reading, time.monotonic() - started)
            tell(min(len(job.ids), (number + 1) * job.chunk), len(job.ids))

    def _begin(self, place: Path, job: Job, encoder: Encoder) -> None:
        """Note what the job is, or check that it goes on as it was begun."""
        about = place / "job.json"
        if about.exists():
            before = read_json(about).get("versions", {})
            changed = [n for n, v in versions().items() if before.get(n, v) != v]
            if changed:
                name = changed[0]
                raise UsageError(
                    f"{place} was begun with {name} {before[name]}, and {versions()[name]} is "
                    f"installed; go on with that version, or choose another run folder with -o."
                )
            return
        write_json(
            about,
            {
                "kind": job.kind,
                "made_by": dict(job.made_by),
                "conditions": list(job.conditions),
                "chunk": job.chunk,
                "device": encoder.device,
                "threads": encoder.threads,
                "versions": versions(),
                "begun": datetime.now(UTC).isoformat(timespec="seconds"),
                "ids": list(job.ids),
            },
        )

    def _path(self, job: Job, number: int) -> Path:
        return self.folder / job.name / f"{number:06d}.npz"

    def _write(self, job: Job, number: int, reading: Reading, seconds: float) -> None:
        words = np.array(reading.words, dtype=np.str_)
        write_arrays(
            self._path(job, number),
            {
                "vectors": reading.vectors.astype(np.float32),
                "words": words.reshape(reading.vectors.shape[:2] if words.size else (0, 0)),
                "probabilities": np.asarray(reading.word_probabilities, dtype=np.float32),
                "seconds": np.array(seconds),
            },
        )

    def chunk(self, job: Job, number: int) -> dict[str, NDArray[Any]]:
        """One chunk's arrays, checked.

        Raises:
            CiesError: if it is damaged, missing, or not of this job.
        """
        path = self._path(job, number)
        arrays = read_arrays(path)
        count = min(job.chunk, len(job.ids) - number * job.chunk)
        if arrays.get("vectors", np.empty(0)).shape[:2] != (count, len(job.conditions)):
            raise damaged(path)
        return arrays

    def seconds(self, job: Job) -> float:
        """Spent on embedding, all sessions together."""
        return float(sum(self.chunk(job, n)["seconds"] for n in range(job.chunks)))


@dataclass(frozen=True)
class Said:
    """What an encoder said of some pictures under a condition.

    Attributes:
        words: one a picture; empty texts where nothing was said.
        probabilities: float32 [pictures]; 0 where nothing was said.
    """

    words: list[str]
    probabilities: NDArray[np.float32]


class Table:
    """All vectors of one encoder in a run."""

    def __init__(self, store: VectorStore, jobs: Sequence[Job], conditional: bool):
        self._store = store
        self._jobs = jobs
        self.conditional = conditional

    @property
    def parts(self) -> int:
        """How many vectors a row holds, of which the best counts; see :mod:`indexes.search.parts`."""
        settings = self._jobs[0].made_by["settings"] if self._jobs else {}
        return int(settings.get("parts", 1))

    def vectors(self, condition: str, ids: Sequence[str], kind: str = PICTURES) -> Vectors:
        """Vectors under a condition: float32 [ids, dim], unit rows.

        Raises:
            CiesError: if some are not stored.
        """
        asked = condition if self.conditional else UNCONDITIONAL
        rows: dict[str, list[int]] = {}
        for row, key in enumerate(ids):
            rows.setdefault(key, []).append(row)
        found: Vectors | None = None
        missing = set(rows)
        for arrays, column, number, key in self._each(asked, kind, missing):
            vector = arrays["vectors"][number, column]
            if found is None:
                found = np.empty((len(ids), len(vector)), dtype=np.float32)
            found[rows[key]] = vector
            missing.discard(key)
        if missing or found is None:
            raise damaged(self._store.folder)
        return found

    def said(self, condition: str, ids: Sequence[str]) -> Said | None:
        """Words under a condition, or ``None`` where the method has none."""
        words, probabilities = {}, {}
        asked = condition if self.conditional else UNCONDITIONAL
        for arrays, column, number, key in self._each(asked, PICTURES, set(ids)):
            if arrays["words"].size == 0:
                return None
            words[key] = str(arrays["words"][number, column])
            probabilities[key] = arrays["probabilities"][number, column]
        if not any(words.values()):
            return None
        return Said(
            [words[key] for key in ids],
            np.array([probabilities[key] for key in ids], dtype=np.float32),
        )

    def _each(
        self, condition: str, kind: str, wanted: set[str]
    ) -> Iterable[tuple[dict[str, NDArray[Any]], int, int, str]]:
        """Chunk's arrays, column, row and id of everything wanted."""
        left = set(wanted)
        for job in self._jobs:
            if job.kind != kind or condition not in job.conditions:
                continue
            column = job.conditions.index(condition)
            for number in range(job.chunks):
                ids = job.ids[number * job.chunk : (number + 1) * job.chunk]
                here = [(row, key) for row, key in enumerate(ids) if key in left]
                if here:
                    arrays = self._store.chunk(job, number)
                    for row, key in here:
                        left.discard(key)
                        yield arrays, column, row, key
