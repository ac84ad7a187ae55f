"""What a run has found for a held-back split, as the files that its server takes."""

from __future__ import annotations

from pathlib import Path

from eval.protocols.submission import write_submission
from eval.runs.answers import Answers, queries_of
from eval.runs.run import Run, System
from eval.tasks import QueryTask
from indexes.errors import UsageError


def hand_in(run: Run, chosen: str, folder: Path) -> list[Path]:
    """Write one system's answers as the server takes them, and check them.

    Args:
        run: of a held-back split.
        chosen: a system's name; empty if there is only one beside the baselines.
        folder: where the files are written; those there under their names are replaced.

    Raises:
        UsageError: if the run has nothing to be handed in, or not such a system.
        CiesError: if the run is damaged.
    """
    held_back = [t for t in run.tasks.values() if isinstance(t, QueryTask) and t.submission]
    if not held_back:
        raise UsageError(
            f"{run.path} has nothing to hand in, its answers are public; run a test split, such as "
            "`cies bench circo --option split=test`."
        )
    written: list[Path] = []
    for task in held_back:
        system = _system(run, task.name, chosen)
        names = list(task.images)
        questions = queries_of(task)
        answers = Answers.load(run.answers_path(task.name, system), len(questions))
        rankings, groups = {}, {}
        for number, (_, query) in enumerate(questions):
            found, scores, head = answers.of(number)
            rankings[query.id] = [names[picture] for picture in found[:head]]
            order = (-scores).argsort(kind="stable")
            group = set(query.group)
            groups[query.id] = [n for n in (names[found[at]] for at in order) if n in group]
        written += write_submission(task, rankings, folder, groups)
    return written


def _system(run: Run, task: str, chosen: str) -> System:
    systems = run.systems(task)
    ours = [one for one in systems if (one.name == chosen if chosen else not one.baseline)]
    if len(ours) != 1:
        names = ", ".join(one.name for one in systems)
        which = f"no answers of '{chosen}'" if chosen else "answers of several"
        raise UsageError(f"{run.path} has {which}; name one as RUN:NAME, of {names}.")
    return ours[0]
