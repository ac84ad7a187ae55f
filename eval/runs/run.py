"""A run: one benchmark's tasks, the evaluated systems and their results, in one folder.

run.json        what was run, with which encoders, when
tasks/          the tasks, so that a run is measured without its data
vectors/        every vector, in chunks
composed/       the composed queries of query tasks
answers/        the best answers to query tasks: picture numbers and scores
measured/       metrics of single queries; measured.json has their means
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.environment import machine, versions
from eval.runs.baselines import RandomVectors, SystemVectors
from eval.runs.files import damaged_file, read_json, write_json
from eval.runs.task_files import load_task, save_task, task_digest
from eval.runs.vectors import EmbeddingJob, RunVectors, VectorStore
from eval.tasks import Task
from indexes.errors import CiesError, UsageError

SCHEMA_VERSION = 1

#: Best answers to a query that are stored by default.
DEPTH = 1000

#: Name of the system that ranks at random.
RANDOM = "random"

#: Name of the baseline that uses the picture's vector alone.
IMAGE = "image"


@dataclass(frozen=True)
class System:
    """One way of answering a task.

    Attributes:
        name: such as ``dior``, ``clip sum``, ``random``.
        encoder: name of the encoder in the run; empty for :data:`RANDOM`.
        composer: how picture and text become one query (``image``, ``text``, ``sum``,
            ``condition`` or a composer's name); for label tasks empty, or :data:`IMAGE` for the
            picture without the condition.
        baseline: whether it is a baseline.
    """

    name: str
    encoder: str
    composer: str = ""
    baseline: bool = False


class Run:
    """An opened run folder."""

    def __init__(self, path: Path, document: dict[str, Any], tasks: Mapping[str, Task]):
        self.path = path
        self.document = document
        self.tasks = dict(tasks)
        self.store = VectorStore(path / "vectors")

    @classmethod
    def begin(
        cls,
        path: Path,
        benchmark: str,
        options: Mapping[str, str],
        tasks: Sequence[Task],
        seed: int = 0,
        depth: int = DEPTH,
    ) -> Run:
        """Start a run, or open one of the same tasks to continue it.

        Args:
            path: the run's folder; created if needed.
            benchmark: name of the benchmark, such as ``circo``.
            options: the options of the benchmark.
            tasks: tasks with different names.
            seed: the seed of the random baseline, the intervals and the tests.
            depth: best answers to a query that are stored.

        Raises:
            UsageError: if the folder holds another run, or other files.
            CiesError: if the run is damaged or the folder cannot be written to.
        """
        digests = {task.name: task_digest(task) for task in tasks}
        if (path / "run.json").exists():
            run = cls.open(path)
            run._check(benchmark, options, digests, seed, depth)
            return run
        # A benchmark may have rendered its pictures there before the run starts.
        if path.exists() and (
            not path.is_dir() or any(entry.name != "pictures" for entry in path.iterdir())
        ):
            raise UsageError(f"{path} exists and is not a run folder; name a new folder with -o.")
        document = {
            "schema_version": SCHEMA_VERSION,
            "benchmark": benchmark,
            "options": dict(options),
            "seed": seed,
            "depth": depth,
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "tasks": digests,
            "encoders": {},
            "systems": {task.name: [] for task in tasks},
        }
        run = cls(path, document, {task.name: task for task in tasks})
        for task in tasks:
            save_task(run._task_path(task.name), task)
        run.save()
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open a run.

        Raises:
            UsageError: if the folder is not a run folder.
            CiesError: if the run is damaged.
        """
        about = path / "run.json"
        if not about.exists():
            raise UsageError(
                f"{path} is not a run folder (it has no run.json); make one with `cies bench NAME`."
            )
        document = read_json(about)
        if document.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(
                f"{about} has the version {document.get('schema_version')}, which this version of "
                "CIES does not read; run the benchmark again into a new folder."
            )
        run = cls(path, document, {})
        try:
            digests = dict(document["tasks"])
            dict(document["systems"]), dict(document["encoders"]), int(document["seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged_file(about) from error
        for name, digest in digests.items():
            task = load_task(run._task_path(name))
            if task_digest(task) != digest:
                raise CiesError(
                    f"{run._task_path(name)} does not belong to {about}; take both from one "
                    "copy of the run folder, or run the benchmark again into a new one."
                )
            run.tasks[name] = task
        return run

    @property
    def depth(self) -> int:
        """Best answers to a query that are stored."""
        return int(self.document.get("depth", DEPTH))

    def _check(
        self,
        benchmark: str,
        options: Mapping[str, str],
        digests: Mapping[str, str],
        seed: int,
        depth: int,
    ) -> None:
        document = self.document
        problem = ""
        if document["benchmark"] != benchmark:
            problem = f"is a run of {document['benchmark']}, not of {benchmark}"
        elif document["options"] != dict(options) or document["seed"] != seed:
            problem = f"was run with other options ({document['options']}, seed {document['seed']})"
        elif self.depth != depth:
            problem = f"keeps the best {self.depth} answers, not {depth}"
        elif document["tasks"] != dict(digests):
            problem = "was run on other data than those given now"
        if problem:
            raise UsageError(f"{self.path} {problem}; name another folder with -o.")

    def _task_path(self, name: str) -> Path:
        return self.path / "tasks" / f"{name}.json.gz"

    def save(self) -> None:
        """Write ``run.json``."""
        write_json(self.path / "run.json", self.document)

    def encoder_identity(self, encoder: str) -> dict[str, Any]:
        """Return method, model, revision and settings of an encoder of this run."""
        return dict(self.document["encoders"][encoder]["made_by"])

    def spend(self, what: str, seconds: float) -> None:
        """Add the seconds that a step took to those of earlier sessions."""
        spent = self.document.setdefault("seconds", {})
        spent[what] = spent.get(what, 0.0) + seconds
        self.save()

    def systems(self, task: str) -> list[System]:
        """Return the systems that have answered a task, in the order they ran."""
        return [System(**values) for values in self.document["systems"][task]]

    def add(self, task: str, system: System) -> None:
        """Record that a system has answered a task; one of the same name is replaced."""
        systems = self.document["systems"][task]
        systems[:] = [entry for entry in systems if entry["name"] != system.name]
        systems.append(asdict(system))

    def table(self, system: System) -> SystemVectors:
        """Return the vectors that a system ranks by.

        Raises:
            CiesError: if they are damaged or missing.
        """
        if not system.encoder:
            return RandomVectors(self.document["seed"])
        entry = self.document["encoders"][system.encoder]
        jobs = [self.job(name, entry["made_by"]) for name in entry["jobs"]]
        return RunVectors(self.store, jobs, entry["conditional"])

    def job(self, name: str, identity: Mapping[str, Any]) -> EmbeddingJob:
        """Return a job of this run by its name.

        Raises:
            CiesError: if its folder is damaged.
        """
        path = self.path / "vectors" / name / "job.json"
        about = read_json(path)
        ids, conditions = tuple(about["ids"]), tuple(about["conditions"])
        job = EmbeddingJob(about["kind"], identity, ids, conditions, about["chunk"])
        if job.name != name:
            raise damaged_file(path)
        return job

    def answers_path(self, task: str, system: System) -> Path:
        """Return the file of a system's answers to a query task."""
        return self.path / "answers" / task / f"{_file_name(system.name)}.npz"

    def composed_path(self, task: str, system: System) -> Path:
        """Return the folder of a system's composed queries of a query task."""
        return self.path / "composed" / task / _file_name(system.name)

    def measured_path(self, task: str, system: System) -> Path:
        """Return the file of a system's metrics of single queries."""
        return self.path / "measured" / task / f"{_file_name(system.name)}.npz"


def _file_name(system: str) -> str:
    """Return a file name for a system, without characters that file systems refuse."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in system)[:60]
    return f"{plain}-{hashlib.sha256(system.encode()).hexdigest()[:6]}"
