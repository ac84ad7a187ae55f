"""Composes the changes of a run's tasks, by the composers of ``cies search --modify``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from eval.runs.answers import answer, queries_of
from eval.runs.composition import Composition
from eval.runs.pictures import loader
from eval.runs.run import Run, Seeded, System
from eval.runs.vectors import Table
from eval.tasks import QueryTask, Task
from indexes.errors import ModelError, UsageError
from indexes.vectors import Vectors
from ingest.encoders.base import Encoder
from ingest.makers import BASE, CAPTIONS
from query.composers.base import Modification, Writer
from query.composers.endpoint import Endpoint
from query.composers.factory import COMPOSERS
from query.composers.writers import LvlmWriter

if TYPE_CHECKING:
    from ingest.encoders.clip import ClipEncoder

#: Told what is done, and how much of it.
Tell = Callable[[str, int, int], None]

#: Composers whose answers every run has anyhow, under the names of the baselines.
ALWAYS = ("image", "text", "sum")

#: Stands for all composers that can be asked.
ALL = "all"


@dataclass(frozen=True)
class Composing:
    """By which composers changes are composed, and with what.

    Attributes:
        names: of :data:`query.composers.factory.COMPOSERS`.
        told: whether they were named one by one, so that one that cannot serve is an error.
        change: what is the same of all questions: weights, LVLM, rewriter. Its text is not used.
        device: that the LVLM runs on.
    """

    names: tuple[str, ...] = ()
    told: bool = True
    device: str = "auto"
    change: Modification = field(default_factory=lambda: Modification("as the question says"))

    @classmethod
    def by(cls, names: Sequence[str], change: Modification, device: str = "auto") -> Composing:
        """By composers as they are typed, ``all`` for every one there is.

        Raises:
            UsageError: if there is no such composer, or weights are given to several.
        """
        if ALL in names:
            chosen, told = tuple(COMPOSERS), False
        else:
            chosen, told = tuple(dict.fromkeys(names)), True
        for name in chosen:
            if name not in COMPOSERS:
                raise UsageError(
                    f"There is no composer '{name}' of base vectors; choose {ALL}, or some of "
                    f"{', '.join(COMPOSERS)}."
                )
        if change.weights and len(chosen) != 1:
            raise UsageError("--weight is one composer's; name one --composer and no more.")
        if change.rewriter:  # a wrong address is told before a model is loaded
            Endpoint(change.rewriter, change.rewriter_model, change.rewriter_timeout)
        elif change.rewriter_model:
            raise UsageError("--rewriter-model needs --rewriter, the address of the API.")
        kept = tuple(name for name in chosen if name not in ALWAYS or change.weights)
        return cls(kept, told, device, change)

    def shown(self, name: str) -> str:
        """A composer's name, with weights that are not its own."""
        weights = ", ".join(f"{key}={value:g}" for key, value in self.change.weights.items())
        return f"{name} {weights}" if weights else name

    def wanted(self, name: str) -> dict[str, Any]:
        """What was asked for, as JSON values; no secret is among it."""
        kept = {"weights", "lvlm", "rewriter", "rewriter_model"}
        return {
            "composer": name,
            **{key: value for key, value in asdict(self.change).items() if key in kept},
        }


class _Tools:
    """What composers work with, over a run's base vectors."""

    def __init__(self, encoder: ClipEncoder, writer: Callable[[], Writer], has_captions: bool):
        self._encoder = encoder
        self._writer = writer
        self._has_captions = has_captions
        self.missed = False  # whether captions were looked for that are not there

    @property
    def base_model(self) -> str:
        """See :class:`query.composers.base.Tools`."""
        return self._encoder.spec.model

    @cached_property
    def writer(self) -> Writer:
        """See :class:`query.composers.base.Tools`."""
        return self._writer()

    @property
    def has_captions(self) -> bool:
        """See :class:`query.composers.base.Tools`."""
        self.missed = not self._has_captions
        return self._has_captions

    def texts(self, texts: Sequence[str]) -> Vectors:
        """See :class:`query.composers.base.Tools`."""
        return self._encoder.base_texts(texts)

    def cut(self, text: str) -> str:
        """See :class:`query.composers.base.Tools`."""
        return self._encoder.dual.cut(text)


class _Writers:
    """The LVLM that writes captions, loaded when it is first needed."""

    def __init__(self, composing: Composing):
        self._composing = composing
        self.revision = ""

    @cached_property
    def writer(self) -> Writer:
        """It, with the rewriter if there is one."""
        from ingest.encoders.dior import DiorEncoder
        from ingest.encoders.models import DEFAULT_MODEL
        from ingest.encoders.speaker import Speaker

        change = self._composing.change
        name = change.lvlm or DEFAULT_MODEL
        speaker = Speaker(DiorEncoder.load(name, device=self._composing.device, force=True))
        self.revision = f"{speaker.name} {speaker.revision}"
        endpoint = None
        if change.rewriter:
            endpoint = Endpoint(change.rewriter, change.rewriter_model, change.rewriter_timeout)
        return LvlmWriter(speaker, endpoint)


def composable(task: Task) -> bool:
    """Whether every question of a task is a picture and a change in words."""
    return isinstance(task, QueryTask) and all(q.image and q.text for _, q in queries_of(task))


def check_composing(run: Run, methods: Sequence[str]) -> None:
    """Refuse to compose where nothing can be, before anything is embedded.

    Args:
        run: with its tasks.
        methods: of the encoders that will be asked.

    Raises:
        UsageError: naming the way out.
    """
    if not any(composable(task) for task in run.tasks.values()):
        raise UsageError(
            f"{run.document['benchmark']} asks for no change of a picture; leave --composer out."
        )
    if BASE not in methods:
        raise UsageError(
            f"Composers work on the vectors of the method {BASE}, which is not asked; add "
            f"--method {BASE}."
        )


def compose_tasks(
    run: Run,
    encoders: Mapping[str, Callable[[], Encoder]],
    composing: Composing,
    tell: Tell,
    note: Callable[[str], None],
) -> None:
    """Compose the changes of all tasks over all base vectors of a run, and store the answers.

    Args:
        run: whose pictures are embedded.
        encoders: by the names they have in the run, each loaded when called.
        composing: by which composers.
        tell: told of the work.
        note: told which composer could not be asked, and why.

    Raises:
        UsageError: if a composer that was named cannot serve.
        ModelError: if a model is needed and cannot be had.
    """
    tasks = {name: task for name, task in run.tasks.items() if composable(task)}
    bases = [
        name for name in encoders if run.document["encoders"][name]["made_by"]["method"] == BASE
    ]
    writers = _Writers(composing)
    for base in bases:
        captions = _captions(run, base)
        for composer in composing.names:
            system = System(f"{base} {composing.shown(composer)}", base, composing.shown(composer))
            for name, task in tasks.items():
                assert isinstance(task, QueryTask)
                one = Composition(run.composed_path(name, system), task, composer)
                try:
                    _compose(one, run, system, composing, captions, encoders[base], writers, tell)
                except (UsageError, ModelError) as error:
                    if composing.told:
                        raise
                    note(f"{system.name} is left out: {error}")
                    break
                if system not in run.systems(name):
                    found = one.load(captions)
                    path = run.answers_path(name, system)
                    table = run.table(system)
                    answer(task, table, system.composer, found, run.depth).save(path)
                    run.add(name, system)
                    _remember(run, system, one, composing.wanted(composer))


def _compose(
    one: Composition,
    run: Run,
    system: System,
    composing: Composing,
    captions: Table | Seeded | None,
    encoder: Callable[[], Encoder],
    writers: _Writers,
    tell: Tell,
) -> None:
    wanted = composing.wanted(one.composer)
    one.check(wanted)
    if one.done:
        return
    from ingest.encoders.clip import ClipEncoder

    base = encoder()
    assert isinstance(base, ClipEncoder)
    tools = _Tools(base, lambda: writers.writer, captions is not None)
    load = loader(one.task.images, one.task.cuts, None)
    try:
        one.fill(
            wanted,
            composing.change,
            run.table(system),
            tools,
            lambda key: load([key])[0],
            lambda done, total: tell(f"Composing by {system.name}", done, total),
            lambda: writers.revision if "writer" in vars(tools) else "",
        )
    except UsageError as error:
        if not tools.missed:
            raise
        raise UsageError(
            f"{system.name} compares with captions of the pictures, which are not asked; add "
            "--method captions, or leave it out."
        ) from error


def _captions(run: Run, base: str) -> Table | Seeded | None:
    """Captions' vectors by the CLIP of some base vectors, as a gallery would keep them."""
    made = run.document["encoders"][base]["made_by"]
    for name, entry in run.document["encoders"].items():
        settings = entry["made_by"]["settings"]
        read_by = settings.get("sentences"), settings.get("sentences_revision")
        same = read_by == (made["model"], made["revision"])
        if entry["done"] and entry["made_by"]["method"] == CAPTIONS and same:
            return run.table(System(name, name))
    return None


def _remember(run: Run, system: System, one: Composition, wanted: Mapping[str, Any]) -> None:
    """Note in the run what composed, and how often it fell back on something."""
    entry = run.document.setdefault("composers", {}).setdefault(
        system.name, {"wanted": dict(wanted), "writer": "", "notes": []}
    )
    entry["writer"] = one.writer or entry["writer"]
    count, first = one.notes()
    if count:
        entry["notes"].append(f"{system.name}, {one.task.name}: {count} times such as: {first}")
    run.save()
