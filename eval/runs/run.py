"""A run: one benchmark's tasks, what was asked of them, and with what, in one folder.

run.json        what was run, with what, when
tasks/          the questions, so that a run is measured without its data
vectors/        every vector, chunk by chunk
composed/       what composers made of query tasks' questions
answers/        of query tasks: ids and scores of the first ones
measured/       figures of single queries and in the mean, made from the above at any time
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.environment import machine, versions
from eval.runs.baselines import random_vectors
from eval.runs.files import damaged, read_json, write_json
from eval.runs.kept import digest_of, load_task, save_task
from eval.runs.vectors import PICTURES, Job, Said, Table, VectorStore
from eval.tasks import Task
from indexes.errors import CiesError, UsageError
from indexes.search.vectors import Vectors

SCHEMA_VERSION = 1

#: Best answers of a question that are kept, unless one says otherwise.
DEPTH = 1000

#: Name of the system that answers by chance.
RANDOM = "random"

#: Composer's name for vectors of the picture alone.
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
        baseline: whether it is there to be beaten.
    """

    name: str
    encoder: str
    composer: str = ""
    baseline: bool = False


class Seeded:
    """Random directions in place of vectors."""

    conditional = False
    parts = 1

    def __init__(self, seed: int):
        self._seed = seed

    def vectors(self, condition: str, ids: Sequence[str], kind: str = PICTURES) -> Vectors:
        """float32 [ids, 32], unit rows, the same for every condition."""
        return random_vectors([f"{kind} {key}" for key in ids], self._seed)

    def said(self, condition: str, ids: Sequence[str]) -> Said | None:
        """Chance says nothing."""
        return None


class Run:
    """A run's folder, opened."""

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
        """Begin a run, or go on with one of the same tasks.

        Args:
            path: the run's folder; made if need be.
            benchmark: the name asked for, such as ``circo``.
            options: of the protocol.
            tasks: with different names.
            seed: of the random baseline, the intervals and the tests.
            depth: best answers of a query task's question that are kept.

        Raises:
            UsageError: if the folder holds a run of something else, or other files.
            CiesError: if it is damaged or cannot be written to.
        """
        digests = {task.name: digest_of(task) for task in tasks}
        if (path / "run.json").exists():
            run = cls.open(path)
            run._check(benchmark, options, digests, seed, depth)
            return run
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            own = {"pictures"}  # that a benchmark rendered there before the run began
            if not path.is_dir() or {p.name for p in path.iterdir()} - own:
                raise UsageError(
                    f"{path} is there and is no run folder; name a new folder with -o."
                )
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
            UsageError: if the folder holds none.
            CiesError: if it is damaged.
        """
        about = path / "run.json"
        if not about.exists():
            raise UsageError(
                f"{path} is no run folder (it has no run.json); make one with `cies bench NAME`."
            )
        document = read_json(about)
        if document.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(
                f"{about} is of version {document.get('schema_version')}, which this version of "
                f"CIES does not read; run the benchmark again into a new folder."
            )
        run = cls(path, document, {})
        try:
            digests = dict(document["tasks"])
            dict(document["systems"]), dict(document["encoders"]), int(document["seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(about) from error
        for name, digest in digests.items():
            task = load_task(run._task_path(name))
            if digest_of(task) != digest:
                raise CiesError(
                    f"{run._task_path(name)} does not belong to {about}; take both from one "
                    "copy of the run folder, or run the benchmark again into a new one."
                )
            run.tasks[name] = task
        return run

    @property
    def depth(self) -> int:
        """Best answers of a query task's question that are kept."""
        return int(self.document.get("depth", DEPTH))

    def _check(
        self,
        benchmark: str,
        options: Mapping[str, str],
        digests: Mapping[str, str],
        seed: int,
        depth: int,
    ) -> None:
        mine = self.document
        if mine["benchmark"] != benchmark:
            raise UsageError(
                f"{self.path} is a run of {mine['benchmark']}, not of {benchmark}; name another "
                "folder with -o."
            )
        if mine["options"] != dict(options) or mine["seed"] != seed:
            raise UsageError(
                f"{self.path} was run with other options ({mine['options']}, seed "
                f"{mine['seed']}); name another folder with -o."
            )
        if self.depth != depth:
            raise UsageError(
                f"{self.path} keeps the best {self.depth} answers, not {depth}; name another "
                "folder with -o."
            )
        if mine["tasks"] != dict(digests):
            raise UsageError(
                f"{self.path} was run on other data than those given now; name another folder "
                "with -o."
            )

    def _task_path(self, name: str) -> Path:
        return self.path / "tasks" / f"{name}.json.gz"

    def save(self) -> None:
        """Write ``run.json``."""
        write_json(self.path / "run.json", self.document)

    def made_by(self, encoder: str) -> dict[str, Any]:
        """Method, model, revision and settings of an encoder of this run."""
        return dict(self.document["encoders"][encoder]["made_by"])

    def spend(self, what: str, seconds: float) -> None:
        """Note how long something took, beside what it took in earlier sessions."""
        spent = self.document.setdefault("seconds", {})
        spent[what] = spent.get(what, 0.0) + seconds
        self.save()

    def systems(self, task: str) -> list[System]:
        """Those that have answered a task, in the order they were asked."""
        return [System(**values) for values in self.document["systems"][task]]

    def add(self, task: str, system: System) -> None:
        """Note that a system has answered a task; the same name again replaces it."""
        systems = self.document["systems"][task]
        systems[:] = [one for one in systems if one["name"] != system.name]
        systems.append(asdict(system))

    def table(self, system: System) -> Table | Seeded:
        """The vectors a system answers with.

        Raises:
            CiesError: if they are damaged or missing.
        """
        if not system.encoder:
            return Seeded(self.document["seed"])
        entry = self.document["encoders"][system.encoder]
        jobs = [self.job(name, entry["made_by"]) for name in entry["jobs"]]
        return Table(self.store, jobs, entry["conditional"])

    def job(self, name: str, made: Mapping[str, Any]) -> Job:
        """A job of this run by its name.

        Raises:
            CiesError: if its folder is damaged.
        """
        path = self.path / "vectors" / name / "job.json"
        about = read_json(path)
        ids, conditions = tuple(about["ids"]), tuple(about["conditions"])
        job = Job(about["kind"], made, ids, conditions, about["chunk"])
        if job.name != name:
            raise damaged(path)
        return job

    def answers_path(self, task: str, system: System) -> Path:
        """Where a system's answers to a query task are."""
        return self.path / "answers" / task / f"{_file_name(system.name)}.npz"

    def composed_path(self, task: str, system: System) -> Path:
        """The folder of what a composer made of a query task's questions."""
        return self.path / "composed" / task / _file_name(system.name)

    def measured_path(self, task: str, system: System) -> Path:
        """Where a system's figures of single queries are."""
        return self.path / "measured" / task / f"{_file_name(system.name)}.npz"


def _file_name(system: str) -> str:
    """A system's name as a file's, without what file systems refuse."""
    import hashlib

    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in system)[:60]
    return f"{plain}-{hashlib.sha256(system.encode()).hexdigest()[:6]}"
