"""Stored vectors of a run: embedded and written in chunks, so that no picture is embedded twice."""

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
from eval.runs.files import (
    check_versions,
    damaged_file,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from indexes.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, Embeddings

#: Pictures or texts in a chunk, which is what an interrupted run loses at most.
CHUNK = 64

#: Up to this many groups of pictures, each picture is embedded under all its conditions at once.
_MOST_GROUPS = 64

PICTURES, TEXTS = "pictures", "texts"

#: Called with the number of finished items and the number of all items.
ProgressCallback = Callable[[int, int], None]

#: Embeds pictures, given by their ids, under some conditions.
EmbedIds = Callable[[Sequence[str], Sequence[Condition]], Embeddings]


@dataclass(frozen=True)
class EmbeddingJob:
    """Pictures or texts that one encoder embeds under some conditions.

    Attributes:
        kind: :data:`PICTURES` or :data:`TEXTS`.
        encoder_identity: method, model, revision and settings of the encoder.
        ids: ids of the pictures, or the texts themselves.
        conditions: as typed.
        chunk: pictures or texts in a file.
    """

    kind: str
    encoder_identity: Mapping[str, Any]
    ids: tuple[str, ...]
    conditions: tuple[str, ...]
    chunk: int = field(default_factory=lambda: CHUNK)

    @property
    def name(self) -> str:
        """The name of the job's folder, with a digest of all attributes."""
        identity = dict(self.encoder_identity)
        content = json.dumps(
            [self.kind, identity, self.ids, self.conditions, self.chunk], sort_keys=True
        )
        return f"{identity['method']}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    @property
    def chunks(self) -> int:
        """The number of files."""
        return -(-len(self.ids) // self.chunk)

    def ids_of_chunk(self, number: int) -> tuple[str, ...]:
        """The pictures or texts in one file."""
        return self.ids[number * self.chunk : (number + 1) * self.chunk]


def encoder_identity(encoder: BaseEncoder) -> dict[str, Any]:
    """Return what determines an encoder's vectors, apart from the condition, as JSON values."""
    spec = encoder.spec
    return {
        "method": spec.method,
        "model": spec.model,
        "revision": spec.revision,
        "settings": dict(spec.settings),
    }


def plan_jobs(
    identity: Mapping[str, Any], pictures_by_condition: Mapping[str, Iterable[str]]
) -> list[EmbeddingJob]:
    """Return jobs that embed every picture under the conditions it is needed under.

    Args:
        identity: the identity from :func:`encoder_identity`.
        pictures_by_condition: condition to ids of pictures.

    Returns:
        Jobs in which each picture is read once. If nearly every picture has conditions of its
        own, one job for each condition.
    """
    conditions_of: dict[str, list[str]] = {}
    for condition, ids in pictures_by_condition.items():
        for key in dict.fromkeys(ids):
            conditions_of.setdefault(key, []).append(condition)
    groups: dict[tuple[str, ...], list[str]] = {}
    for key, conditions in conditions_of.items():
        groups.setdefault(tuple(conditions), []).append(key)
    if len(groups) > _MOST_GROUPS:
        groups = {
            (condition,): list(dict.fromkeys(ids))
            for condition, ids in pictures_by_condition.items()
        }
    return [
        EmbeddingJob(PICTURES, identity, tuple(ids), conditions)
        for conditions, ids in groups.items()
    ]


class VectorStore:
    """The folder ``vectors`` of a run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fill(
        self,
        job: EmbeddingJob,
        encoder: BaseEncoder,
        embed: EmbedIds,
        progress: ProgressCallback,
    ) -> None:
        """Embed what is not stored yet.

        Args:
            job: what to embed.
            encoder: the job's encoder.
            embed: embeds pictures by their ids; not called for texts.
            progress: called after each chunk.

        Raises:
            CiesError: if a picture cannot be read or the folder cannot be written to.
            ModelError: as the encoder.
            UsageError: if the job was started with other versions of the libraries.
        """
        missing = [n for n in range(job.chunks) if not self._path(job, n).exists()]
        if not missing:
            return
        self._start(job, encoder)
        conditions = [Condition.parse(name) for name in job.conditions]
        for number in missing:
            started = time.monotonic()
            ids = job.ids_of_chunk(number)
            if job.kind == TEXTS:
                embeddings = encoder.embed_text(ids, conditions, words=False)
            else:
                embeddings = embed(ids, conditions)
            self._write(job, number, embeddings, time.monotonic() - started)
            progress(min(len(job.ids), (number + 1) * job.chunk), len(job.ids))

    def _start(self, job: EmbeddingJob, encoder: BaseEncoder) -> None:
        """Write what the job is, or check that it can be continued."""
        folder = self.folder / job.name
        description = folder / "job.json"
        if description.exists():
            check_versions(folder, read_json(description).get("versions", {}))
            return
        write_json(
            description,
            {
                "kind": job.kind,
                "made_by": dict(job.encoder_identity),
                "conditions": list(job.conditions),
                "chunk": job.chunk,
                "device": encoder.device,
                "threads": encoder.threads,
                "versions": versions(),
                "begun": datetime.now(UTC).isoformat(timespec="seconds"),
                "ids": list(job.ids),
            },
        )

    def _path(self, job: EmbeddingJob, number: int) -> Path:
        return self.folder / job.name / f"{number:06d}.npz"

    def _write(
        self, job: EmbeddingJob, number: int, embeddings: Embeddings, seconds: float
    ) -> None:
        words = np.array(embeddings.words, dtype=np.str_)
        write_arrays(
            self._path(job, number),
            {
                "vectors": embeddings.vectors.astype(np.float32),
                "words": words.reshape(embeddings.vectors.shape[:2] if words.size else (0, 0)),
                "probabilities": np.asarray(embeddings.word_probabilities, dtype=np.float32),
                "seconds": np.array(seconds),
            },
        )

    def chunk(self, job: EmbeddingJob, number: int) -> dict[str, NDArray[Any]]:
        """Return one chunk's arrays, checked.

        Raises:
            CiesError: if the file is damaged, missing, or of another job.
        """
        path = self._path(job, number)
        arrays = read_arrays(path)
        shape = (len(job.ids_of_chunk(number)), len(job.conditions))
        if arrays.get("vectors", np.empty(0)).shape[:2] != shape:
            raise damaged_file(path)
        return arrays

    def seconds(self, job: EmbeddingJob) -> float:
        """Return the seconds spent on embedding, in all sessions together."""
        return float(sum(self.chunk(job, n)["seconds"] for n in range(job.chunks)))


@dataclass(frozen=True)
class GeneratedWords:
    """The words that an encoder generated for some pictures under a condition.

    Attributes:
        words: one a picture; an empty text where there is none.
        probabilities: float32 [pictures]; 0 where there is no word.
    """

    words: list[str]
    probabilities: NDArray[np.float32]


class RunVectors:
    """All stored vectors of one encoder of a run."""

    def __init__(self, store: VectorStore, jobs: Sequence[EmbeddingJob], conditional: bool):
        self._store = store
        self._jobs = jobs
        self.conditional = conditional

    @property
    def parts(self) -> int:
        """Vectors in a row, of which the best counts; see :mod:`indexes.search.multi_vector`."""
        settings = self._jobs[0].encoder_identity["settings"] if self._jobs else {}
        return int(settings.get("parts", 1))

    def vectors(self, condition: str, ids: Sequence[str], kind: str = PICTURES) -> Vectors:
        """Return vectors under a condition: float32 [ids, dim], unit rows.

        Raises:
            CiesError: if some are not stored.
        """
        rows: dict[str, list[int]] = {}
        for row, key in enumerate(ids):
            rows.setdefault(key, []).append(row)
        found: Vectors | None = None
        missing = set(rows)
        for key, arrays, at in self._stored_rows(condition, kind, set(rows)):
            vector = arrays["vectors"][at]
            if found is None:
                found = np.empty((len(ids), len(vector)), dtype=np.float32)
            found[rows[key]] = vector
            missing.discard(key)
        if missing or found is None:
            raise damaged_file(self._store.folder)
        return found

    def generated_words(self, condition: str, ids: Sequence[str]) -> GeneratedWords | None:
        """Return the words under a condition, or ``None`` if the method generates none."""
        words, probabilities = {}, {}
        for key, arrays, at in self._stored_rows(condition, PICTURES, set(ids)):
            if arrays["words"].size == 0:
                return None
            words[key] = str(arrays["words"][at])
            probabilities[key] = arrays["probabilities"][at]
        if not any(words.values()):
            return None
        return GeneratedWords(
            [words[key] for key in ids],
            np.array([probabilities[key] for key in ids], dtype=np.float32),
        )

    def _stored_rows(
        self, condition: str, kind: str, ids: set[str]
    ) -> Iterable[tuple[str, dict[str, NDArray[Any]], tuple[int, int]]]:
        """Yield id, its chunk's arrays, and its row and column in them."""
        if not self.conditional:
            condition = UNCONDITIONAL
        missing = set(ids)
        for job in self._jobs:
            if job.kind != kind or condition not in job.conditions:
                continue
            column = job.conditions.index(condition)
            for number in range(job.chunks):
                keys = job.ids_of_chunk(number)
                rows = [(row, key) for row, key in enumerate(keys) if key in missing]
                if rows:
                    arrays = self._store.chunk(job, number)
                    for row, key in rows:
                        missing.discard(key)
                        yield key, arrays, (row, column)
