"""Asks encoders a run's questions: embeds what is needed, then stores the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from eval.runs.answers import CONDITION, SUM, TEXT, answer, queries_of
from eval.runs.baselines import ColorHistogram
from eval.runs.composing import (
    LOOKS_UNDER,
    Composing,
    Tell,
    check_composing,
    composable,
    compose_tasks,
)
from eval.runs.pictures import loader
from eval.runs.run import IMAGE, RANDOM, Run, System
from eval.runs.vectors import TEXTS, Job, jobs_of, made_by
from eval.tasks import Cut, LabelTask, QueryTask, Task
from indexes.errors import ModelError, UsageError
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import Encoder, Reading

#: Ids of pictures and conditions to what an encoder makes of them.
Read = Callable[[Sequence[str], Sequence[Condition]], Reading]

HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Asked:
    """An encoder to be asked.

    Attributes:
        name: in the run, such as ``dior`` or ``clip openai/clip-vit-base-patch32``.
        wanted: method, model and options as the user gave them, as JSON values.
        make: loads it; only called if something is left to embed.
        baseline: whether it is there to be beaten.
        plain: whether it is asked without a condition too; a view needs not be where its CLIP is
            asked itself.
    """

    name: str
    wanted: Mapping[str, Any]
    make: Callable[[], Encoder]
    baseline: bool = False
    plain: bool = True


@dataclass
class _Needs:
    """What an encoder has to embed for all tasks of a run."""

    pictures: dict[str, list[str]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def want(self, condition: str, ids: Iterable[str]) -> None:
        self.pictures.setdefault(condition, []).extend(ids)


def ask(
    run: Run,
    encoders: Sequence[Asked],
    composing: Composing | None = None,
    tell: Tell = lambda what, done, total: None,
    note: Callable[[str], None] = lambda line: None,
) -> None:
    """Store the answers of some encoders, and of those that must be beaten.

    What is there already is not done again; a run that was broken off goes on.

    Args:
        run: whose tasks are asked.
        encoders: with different names.
        composing: how changes are composed beside the baselines, where base vectors are asked.
        tell: told of the work.
        note: told what could not be asked, and why.

    Raises:
        UsageError: if the run has answers of an encoder by the same name and other options, or a
            composer that was named cannot serve.
        ModelError: if a model cannot be had or cannot serve a condition.
        CiesError: if a picture cannot be read.
    """
    if composing is not None and composing.names:
        check_composing(run, composing, [str(one.wanted.get("method")) for one in encoders])
    for name, task in run.tasks.items():
        if not _only_wordings(task):
            _answer(run, name, System(RANDOM, "", _composer_of_images(task), True))
    histogram = Asked(HISTOGRAM, {"method": HISTOGRAM}, ColorHistogram, baseline=True)
    # Of each model one copy at most, for embedding and for composing.
    loaded = {one.name: cache(one.make) for one in encoders}
    for one in (histogram, *encoders):
        _embed(run, one, loaded.get(one.name, one.make), tell, note)
        for name, task in run.tasks.items():
            for system in _systems(run, one, task):
                _answer(run, name, system)
        if composing is None or not composing.names:
            loaded.pop(one.name, None)
    if composing is not None and composing.names:
        for one in encoders:
            if run.made_by(one.name)["method"] == LOOKS_UNDER and composing.looked_under:
                _look_under(run, one, loaded[one.name], composing.looked_under, tell)
        compose_tasks(run, loaded, composing, tell, note)
    run.document["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    run.save()


def _composer_of_images(task: Task) -> str:
    return IMAGE if isinstance(task, QueryTask) else ""


def _only_wordings(task: Task) -> bool:
    """Whether a task has nothing to ask of what knows no conditions."""
    return isinstance(task, LabelTask) and not task.crossed


def _embed(
    run: Run,
    one: Asked,
    make: Callable[[], Encoder],
    tell: Tell,
    note: Callable[[str], None],
) -> None:
    """Fill in the vectors of an encoder."""
    entry = run.document["encoders"].get(one.name)
    if entry is not None and entry["wanted"] != dict(one.wanted):
        raise UsageError(
            f"{run.path} has answers of {one.name} with other options ({_words(entry['wanted'])}); "
            "name another folder with -o."
        )
    if entry is not None and entry["done"]:
        return
    encoder = make()
    made = made_by(encoder)
    if entry is not None and entry["made_by"] != made:
        raise UsageError(
            f"{run.path} was begun with another version of {one.name}'s model or settings; name "
            "another folder with -o."
        )
    conditional = encoder.conditional
    needs, notes = _needs(run, encoder, one)
    for line in notes:
        note(line)
    jobs = jobs_of(made, needs.pictures)
    if needs.texts:
        texts = tuple(dict.fromkeys(needs.texts))
        jobs.append(Job(TEXTS, made, texts, (UNCONDITIONAL,)))
    run.document["encoders"][one.name] = {
        "wanted": dict(one.wanted),
        "made_by": made,
        "description": encoder.description,
        "device": encoder.device,
        "conditional": conditional,
        "texts": bool(needs.texts),
        "jobs": [job.name for job in jobs],
        "notes": notes,
        "done": False,
    }
    run.save()
    images, cuts = _files(run.tasks.values())
    read = _from_base(run, encoder) or _from_pictures(encoder, images, cuts)
    total, before = sum(len(job.ids) for job in jobs), 0
    for job in jobs:
        run.store.fill(
            job,
            encoder,
            read,
            lambda done, _, start=before: tell(f"Embedding by {one.name}", start + done, total),  # type: ignore[misc]
        )
        before += len(job.ids)
    seconds = sum(run.store.seconds(job) for job in jobs)
    run.document["encoders"][one.name] |= {"done": True, "seconds": seconds}
    run.save()


def _look_under(
    run: Run, one: Asked, make: Callable[[], Encoder], conditions: Sequence[str], tell: Tell
) -> None:
    """Embed the pictures of changes under conditions that no task asked for."""
    entry = run.document["encoders"][one.name]
    jobs = [run.job(name, entry["made_by"]) for name in entry["jobs"]]
    tasks = [task for task in run.tasks.values() if composable(task)]
    wanted = dict.fromkeys(key for task in tasks for key in _pictures_of(task))
    needs: dict[str, list[str]] = {}
    for condition in conditions:
        there = {key for job in jobs if condition in job.conditions for key in job.ids}
        needs[condition] = [key for key in wanted if key not in there]
    more = jobs_of(entry["made_by"], {name: ids for name, ids in needs.items() if ids})
    if not more:
        return
    encoder = make()
    read = _from_pictures(encoder, *_files(tasks))
    for job in more:
        what = f"Embedding by {one.name} for changes"
        run.store.fill(job, encoder, read, partial(tell, what))
        entry["jobs"].append(job.name)
        entry["seconds"] += run.store.seconds(job)
        run.save()


def _from_pictures(encoder: Encoder, images: Mapping[str, Path], cuts: Mapping[str, Cut]) -> Read:
    load = loader(images, cuts, encoder.spec.max_side)
    return lambda ids, conditions: encoder.read(load(ids), conditions)


def _from_base(run: Run, encoder: Encoder) -> Read | None:
    """How a view reads vectors that its CLIP has stored in this run, if it has."""
    from ingest.encoders.projections.encoder import ProjectionEncoder

    if not isinstance(encoder, ProjectionEncoder):
        return None
    base = made_by(encoder.base)
    for name, entry in run.document["encoders"].items():
        if entry["done"] and entry["made_by"] == base:
            table = run.table(System(name, name))
            return lambda ids, conditions: encoder.see(
                table.vectors(UNCONDITIONAL, ids), conditions
            )
    return None


def _needs(run: Run, encoder: Encoder, one: Asked) -> tuple[_Needs, list[str]]:
    """What to embed, and what cannot be."""
    needs, notes = _Needs(), []
    name, conditional = one.name, encoder.conditional
    refused = _serves(encoder, UNCONDITIONAL) if conditional else ""
    plain = one.plain and not refused
    if refused:
        notes.append(f"{name} without a condition is left out: {refused}")
    for task in run.tasks.values():
        if isinstance(task, LabelTask):
            ids = list(dict.fromkeys((*(task.queries or task.images), *(task.gallery or ()))))
            ids = list(task.images) if task.gallery is None else ids
            why = _refused(encoder, task) if conditional and _only_wordings(task) else ""
            if why:
                notes.append(f"{name} is not asked {task.name}: {why}")
            for condition in task.labels if conditional and not why else ():
                needs.want(condition, ids)
            if plain and not _only_wordings(task):
                needs.want(UNCONDITIONAL, ids)
            continue
        if conditional and task.conditions:
            for part, query in queries_of(task):
                own = part.gallery if query.gallery is None else query.gallery
                needs.want(query.text, (query.image, *own))
        if plain:
            needs.want(UNCONDITIONAL, _pictures_of(task))
            needs.texts += [
                text for _, q in queries_of(task) if q.text for text in (q.text, *q.otherwise)
            ]
    if needs.texts:
        why = _reads(encoder)
        if why:
            notes.append(f"{name} is asked with pictures only: {why}")
            needs.texts = []
    return needs, notes


def _serves(encoder: Encoder, condition: str) -> str:
    """Why an encoder cannot serve a condition, or an empty text."""
    try:
        encoder.check([Condition.parse(condition)])
    except (UsageError, ModelError) as error:
        return str(error)
    return ""


def _refused(encoder: Encoder, task: LabelTask) -> str:
    """Why an encoder cannot serve one of a task's conditions, or an empty text."""
    return next(filter(None, (_serves(encoder, name) for name in task.labels)), "")


def _reads(encoder: Encoder) -> str:
    """Why an encoder cannot embed a text, or an empty text."""
    try:
        encoder.read_text(["red"], [Condition.parse(UNCONDITIONAL)], words=False)
    except (UsageError, ModelError) as error:
        return str(error)
    return ""


def _pictures_of(task: QueryTask) -> list[str]:
    found: dict[str, None] = {}
    for part in task.parts:
        found |= dict.fromkeys(part.gallery)
        for query in part.queries:
            found |= dict.fromkeys(
                (*((query.image,) if query.image else ()), *(query.gallery or ()))
            )
    return list(found)


def _systems(run: Run, one: Asked, task: Task) -> list[System]:
    """The ways an encoder answers a task."""
    entry = run.document["encoders"][one.name]
    there = _conditions(run, entry)
    plain = UNCONDITIONAL in there
    if isinstance(task, LabelTask):
        if _only_wordings(task):
            served = entry["conditional"] and set(task.labels) <= there
            return [System(one.name, one.name)] if served else []
        found = [System(one.name, one.name, "", one.baseline)]
        if entry["conditional"] and plain:
            found.append(System(f"{one.name} image only", one.name, IMAGE, True))
        return found
    queries = [query for _, query in queries_of(task)]
    pictures = all(query.image for query in queries)
    texts = entry["texts"] and all(query.text for query in queries)
    names: list[str] = []
    if pictures and plain:
        names.append(IMAGE)
    if texts and plain:
        names.append(TEXT)
    if pictures and texts and plain:
        names.append(SUM)
    if entry["conditional"] and task.conditions:
        names.append(CONDITION)
    shown = {IMAGE: "image only", TEXT: "text only"}
    return [
        System(
            one.name if one.baseline and name == IMAGE else f"{one.name} {shown.get(name, name)}",
            one.name,
            name,
            one.baseline or name in shown,
        )
        for name in names
    ]


def _conditions(run: Run, entry: Mapping[str, Any]) -> set[str]:
    from eval.runs.files import read_json

    place = run.path / "vectors"
    return {
        condition
        for name in entry["jobs"]
        for condition in read_json(place / name / "job.json")["conditions"]
    }


def _answer(run: Run, name: str, system: System) -> None:
    """Store a system's answers to one task; of label tasks, the vectors are the answers."""
    task = run.tasks[name]
    if system in run.systems(name):
        return
    if isinstance(task, QueryTask):
        path = run.answers_path(name, system)
        answer(task, run.table(system), system.composer, depth=run.depth).save(path)
    run.add(name, system)
    run.save()


def _files(tasks: Iterable[Task]) -> tuple[dict[str, Path], dict[str, Cut]]:
    """Pictures and cuts of all tasks of a run, which share their ids."""
    images: dict[str, Path] = {}
    cuts: dict[str, Cut] = {}
    for task in tasks:
        images |= task.images
        if isinstance(task, QueryTask):
            cuts |= task.cuts
    return images, cuts


def _words(wanted: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in wanted.items())
