"""Writes a run's answers to a held-back split as the files that its evaluation server accepts."""

from __future__ import annotations

from pathlib import Path

from eval.protocols.submission import write_submission
from eval.runs.answers import Answers, queries_of
from eval.runs.run import Run, System
from eval.tasks import QueryTask
from indexes.errors import UsageError


def write_run_submission(run: Run, chosen: str, folder: Path, force: bool = False) -> list[Path]:
    """Write one system's answers in the format that the server accepts, and check the files.

    Args:
        run: a run of a held-back split.
        chosen: a system's name; may be empty if only one system is not a baseline.
        folder: the folder of the files; earlier files of the same names are replaced.
        force: replace files that CIES did not make.

    Raises:
        UsageError: if the run has nothing to submit, or no such system.
        CiesError: if the run is damaged.
    """
    held_back = [t for t in run.tasks.values() if isinstance(t, QueryTask) and t.submission]
    if not held_back:
        raise UsageError(
            f"{run.path} has nothing to submit, its answers are public; run a test split, such as "
            "`cies bench circo --option split=test`."
        )
    written: list[Path] = []
    for task in held_back:
        system = _chosen_system(run, task.name, chosen)
        names = list(task.images)
        queries = queries_of(task)
        answers = Answers.load(run.answers_path(task.name, system), len(queries))
        rankings, groups = {}, {}
        for number, (_, query) in enumerate(queries):
            found, scores, head = answers.of_query(number)
            rankings[query.id] = [names[picture] for picture in found[:head]]
            order = (-scores).argsort(kind="stable")
            group = set(query.group)
            groups[query.id] = [n for n in (names[found[at]] for at in order) if n in group]
        written += write_submission(task, rankings, folder, groups, force)
    return written


def _chosen_system(run: Run, task: str, chosen: str) -> System:
    systems = run.systems(task)
    matching = [s for s in systems if (s.name == chosen if chosen else not s.baseline)]
    if len(matching) != 1:
        names = ", ".join(system.name for system in systems)
        problem = f"no answers of '{chosen}'" if chosen else "answers of several systems"
        raise UsageError(f"{run.path} has {problem}; name one as RUN:NAME, of {names}.")
    return matching[0]
