"""Runs encoders on a run's tasks: embeds the pictures and texts, then stores the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from eval.runs.answers import CONDITION, SUM, TEXT, queries_of, rank_queries
from eval.runs.baselines import ColorHistogram
from eval.runs.composers import (
    ComposerOptions,
    StepProgress,
    check_composers,
    compose_tasks,
    is_composable,
)
from eval.runs.files import read_json
from eval.runs.pictures import loader
from eval.runs.run import IMAGE, RANDOM, Run, System
from eval.runs.vectors import TEXTS, EmbeddingJob, EmbedIds, encoder_identity, plan_jobs
from eval.tasks import Crop, LabelTask, QueryTask, Task
from indexes.errors import ModelError, UsageError
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder
from query.composers.factory import CONDITION_METHODS

HISTOGRAM = "histogram"


@dataclass(frozen=True)
class EvaluatedEncoder:
    """An encoder to evaluate.

    Attributes:
        name: in the run, such as ``dior`` or ``clip openai/clip-vit-base-patch32``.
        wanted: method, model and options as the user gave them, as JSON values.
        load: loads it; only called if something is left to embed.
        baseline: whether it is a baseline.
        without_condition: whether it is also evaluated without a condition. A projection need
            not be if its CLIP is evaluated itself.
    """

    name: str
    wanted: Mapping[str, Any]
    load: Callable[[], BaseEncoder]
    baseline: bool = False
    without_condition: bool = True


def run_encoders(
    run: Run,
    encoders: Sequence[EvaluatedEncoder],
    composers: ComposerOptions | None = None,
    progress: StepProgress = lambda step, done, total: None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Store the answers of some encoders, composers and baselines.

    Stored vectors and answers are kept, so that an interrupted run can be continued.

    Args:
        run: whose tasks are answered.
        encoders: encoders with different names.
        composers: compose the changes of query tasks over the encoders' vectors.
        progress: called as pictures are embedded and queries are composed.
        warn: called with a sentence for everything that is left out.

    Raises:
        UsageError: if the run has answers of an encoder of the same name with other options, or
            a composer that was named does not work with this run.
        ModelError: if a model is not available or does not support a condition.
        CiesError: if a picture cannot be read.
    """
    composing = composers is not None and bool(composers.names)
    if composers is not None and composing:
        check_composers(run, composers, [str(one.wanted.get("method")) for one in encoders])
    for name, task in run.tasks.items():
        if not _compares_wordings(task):
            image = IMAGE if isinstance(task, QueryTask) else ""
            _answer(run, name, System(RANDOM, "", image, True))
    histogram = EvaluatedEncoder(HISTOGRAM, {"method": HISTOGRAM}, ColorHistogram, baseline=True)
    # At most one copy of each model is loaded, for embedding and for composing.
    loaders = {one.name: cache(one.load) for one in encoders}
    for one in (histogram, *encoders):
        _embed(run, one, loaders.get(one.name, one.load), progress, warn)
        for name, task in run.tasks.items():
            for system in _systems(run, one, task):
                _answer(run, name, system)
        if not composing:
            loaders.pop(one.name, None)
    if composers is not None and composing:
        for one in encoders:
            is_base = run.encoder_identity(one.name)["method"] in CONDITION_METHODS
            if is_base and composers.search_conditions:
                _embed_under(
                    run, one.name, loaders[one.name], composers.search_conditions, progress
                )
        compose_tasks(run, loaders, composers, progress, warn)
    run.document["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    run.save()


def _compares_wordings(task: Task) -> bool:
    """Return whether a task only compares conditions, so that it needs conditional vectors."""
    return isinstance(task, LabelTask) and not task.crossed


def _embed(
    run: Run,
    one: EvaluatedEncoder,
    load: Callable[[], BaseEncoder],
    progress: StepProgress,
    warn: Callable[[str], None],
) -> None:
    """Embed what an encoder needs for all tasks, and describe the encoder in the run."""
    entry = run.document["encoders"].get(one.name)
    if entry is not None and entry["wanted"] != dict(one.wanted):
        options = ", ".join(f"{name} {value}" for name, value in entry["wanted"].items())
        raise UsageError(
            f"{run.path} has answers of {one.name} with other options ({options}); name another "
            "folder with -o."
        )
    if entry is not None and entry["done"]:
        return
    encoder = load()
    identity = encoder_identity(encoder)
    if entry is not None and entry["made_by"] != identity:
        raise UsageError(
            f"{run.path} was started with another version of {one.name}'s model or settings; name "
            "another folder with -o."
        )
    inputs = _inputs(run, encoder, one)
    for note in inputs.notes:
        warn(note)
    jobs = plan_jobs(identity, inputs.pictures)
    if inputs.texts:
        texts = tuple(dict.fromkeys(inputs.texts))
        jobs.append(EmbeddingJob(TEXTS, identity, texts, (UNCONDITIONAL,)))
    run.document["encoders"][one.name] = {
        "wanted": dict(one.wanted),
        "made_by": identity,
        "description": encoder.description,
        "device": encoder.device,
        "conditional": encoder.conditional,
        "texts": bool(inputs.texts),
        "jobs": [job.name for job in jobs],
        "notes": inputs.notes,
        "done": False,
    }
    run.save()
    embed = _from_base_vectors(run, encoder) or _from_pictures(encoder, run.tasks.values())
    total, before = sum(len(job.ids) for job in jobs), 0
    for job in jobs:
        run.store.fill(
            job,
            encoder,
            embed,
            lambda done, _, start=before: progress(  # type: ignore[misc]
                f"Embedding by {one.name}", start + done, total
            ),
        )
        before += len(job.ids)
    seconds = sum(run.store.seconds(job) for job in jobs)
    run.document["encoders"][one.name] |= {"done": True, "seconds": seconds}
    run.save()


def _embed_under(
    run: Run,
    name: str,
    load: Callable[[], BaseEncoder],
    conditions: Sequence[str],
    progress: StepProgress,
) -> None:
    """Embed the pictures of composed queries under conditions that no task asked for."""
    entry = run.document["encoders"][name]
    jobs = [run.job(job, entry["made_by"]) for job in entry["jobs"]]
    tasks = [task for task in run.tasks.values() if is_composable(task)]
    pictures = dict.fromkeys(key for task in tasks for key in _pictures_of(task))
    missing: dict[str, list[str]] = {}
    for condition in conditions:
        stored = {key for job in jobs if condition in job.conditions for key in job.ids}
        if ids := [key for key in pictures if key not in stored]:
            missing[condition] = ids
    if not missing:
        return
    encoder = load()
    embed = _from_pictures(encoder, tasks)
    for job in plan_jobs(entry["made_by"], missing):
        run.store.fill(job, encoder, embed, partial(progress, f"Embedding by {name} for changes"))
        entry["jobs"].append(job.name)
        entry["seconds"] += run.store.seconds(job)
        run.save()


def _from_pictures(encoder: BaseEncoder, tasks: Iterable[Task]) -> EmbedIds:
    """Return a function that embeds the pictures of some tasks, which share their ids."""
    images: dict[str, Path] = {}
    crops: dict[str, Crop] = {}
    for task in tasks:
        images |= task.images
        if isinstance(task, QueryTask):
            crops |= task.crops
    load = loader(images, crops, encoder.spec.max_side)
    return lambda ids, conditions: encoder.embed(load(ids), conditions)


def _from_base_vectors(run: Run, encoder: BaseEncoder) -> EmbedIds | None:
    """Return a function that projects the vectors that an encoder's CLIP stored in this run."""
    from ingest.encoders.projections.encoder import ProjectionEncoder

    if not isinstance(encoder, ProjectionEncoder):
        return None
    base = encoder_identity(encoder.base)
    for name, entry in run.document["encoders"].items():
        if entry["done"] and entry["made_by"] == base:
            table = run.table(System(name, name))
            return lambda ids, conditions: encoder.project(
                table.vectors(UNCONDITIONAL, ids), conditions
            )
    return None


@dataclass
class _EncoderInputs:
    """What an encoder has to embed for all tasks of a run.

    Attributes:
        pictures: condition to ids of pictures.
        texts: without a condition.
        notes: what cannot be embedded, a sentence each.
    """

    pictures: dict[str, list[str]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, condition: str, ids: Iterable[str]) -> None:
        self.pictures.setdefault(condition, []).extend(ids)


def _inputs(run: Run, encoder: BaseEncoder, one: EvaluatedEncoder) -> _EncoderInputs:
    """Return what to embed, and what cannot be."""
    inputs = _EncoderInputs()
    name, conditional = one.name, encoder.conditional
    refusal = _refusal(encoder, [UNCONDITIONAL]) if conditional else ""
    without_condition = one.without_condition and not refusal
    if refusal:
        inputs.notes.append(f"{name} without a condition is left out: {refusal}")
    for task in run.tasks.values():
        if isinstance(task, LabelTask):
            ids = list(dict.fromkeys((*(task.queries or task.images), *(task.gallery or ()))))
            ids = list(task.images) if task.gallery is None else ids
            refusal = ""
            if conditional and _compares_wordings(task):
                refusal = _refusal(encoder, task.labels)
            if refusal:
                inputs.notes.append(f"{name} is not evaluated on {task.name}: {refusal}")
            for condition in task.labels if conditional and not refusal else ():
                inputs.add(condition, ids)
            if without_condition and not _compares_wordings(task):
                inputs.add(UNCONDITIONAL, ids)
            continue
        if conditional and task.conditions:
            for part, query in queries_of(task):
                gallery = part.gallery if query.gallery is None else query.gallery
                inputs.add(query.text, (query.image, *gallery))
        if without_condition:
            inputs.add(UNCONDITIONAL, _pictures_of(task))
            inputs.texts += [
                text for _, q in queries_of(task) if q.text for text in (q.text, *q.rewordings)
            ]
    if inputs.texts and (refusal := _text_refusal(encoder)):
        inputs.notes.append(f"{name} is evaluated with pictures only: {refusal}")
        inputs.texts = []
    return inputs


def _refusal(encoder: BaseEncoder, conditions: Iterable[str]) -> str:
    """Return why an encoder does not support one of the conditions, or an empty text."""
    for condition in conditions:
        try:
            encoder.check([Condition.parse(condition)])
        except (UsageError, ModelError) as error:
            return str(error)
    return ""


def _text_refusal(encoder: BaseEncoder) -> str:
    """Return why an encoder cannot embed a text, or an empty text."""
    try:
        encoder.embed_text(["red"], [Condition.parse(UNCONDITIONAL)], words=False)
    except (UsageError, ModelError) as error:
        return str(error)
    return ""


def _pictures_of(task: QueryTask) -> list[str]:
    found: dict[str, None] = {}
    for part in task.parts:
        found |= dict.fromkeys(part.gallery)
        for query in part.queries:
            reference = (query.image,) if query.image else ()
            found |= dict.fromkeys((*reference, *(query.gallery or ())))
    return list(found)


def _systems(run: Run, one: EvaluatedEncoder, task: Task) -> list[System]:
    """Return the ways in which an encoder answers a task."""
    entry = run.document["encoders"][one.name]
    jobs = [read_json(run.path / "vectors" / job / "job.json") for job in entry["jobs"]]
    embedded_under = {condition for job in jobs for condition in job["conditions"]}
    without_condition = UNCONDITIONAL in embedded_under
    if isinstance(task, LabelTask):
        if _compares_wordings(task):
            complete = entry["conditional"] and set(task.labels) <= embedded_under
            return [System(one.name, one.name)] if complete else []
        found = [System(one.name, one.name, "", one.baseline)]
        if entry["conditional"] and without_condition:
            found.append(System(f"{one.name} image only", one.name, IMAGE, True))
        return found
    queries = [query for _, query in queries_of(task)]
    pictures = without_condition and all(query.image for query in queries)
    texts = without_condition and entry["texts"] and all(query.text for query in queries)
    names = [IMAGE] * pictures + [TEXT] * texts + [SUM] * (pictures and texts)
    if entry["conditional"] and task.conditions:
        names.append(CONDITION)
    labels = {IMAGE: "image only", TEXT: "text only"}
    return [
        System(
            one.name if one.baseline and name == IMAGE else f"{one.name} {labels.get(name, name)}",
            one.name,
            name,
            one.baseline or name in labels,
        )
        for name in names
    ]


def _answer(run: Run, name: str, system: System) -> None:
    """Store a system's answers to one task; for label tasks the stored vectors suffice."""
    task = run.tasks[name]
    if system in run.systems(name):
        return
    if isinstance(task, QueryTask):
        answers = rank_queries(task, run.table(system), system.composer, depth=run.depth)
        answers.save(run.answers_path(name, system))
    run.add(name, system)
    run.save()
