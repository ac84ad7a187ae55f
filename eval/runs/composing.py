"""Composes the changes of a run's tasks, by the composers of ``cies search --modify``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeGuard

from PIL import Image

from eval.runs.answers import rank_queries, queries_of
from eval.runs.composing_conditions import ConditionComposer
from eval.runs.composition import ComposedQueries
from eval.runs.pictures import loader
from eval.runs.run import Run, RandomVectors, System
from eval.runs.vectors import RunVectors
from eval.tasks import TaskQuery, QueryTask, Task
from indexes.errors import ModelError, UsageError
from indexes.search.vectors import Vectors
from ingest.conditions import UNCONDITIONAL
from ingest.encoders.base import BaseEncoder
from ingest.fill.vector_sources import BASE, CAPTIONS
from query.composers.base import CaptionWriter, ComposedQuery, ComposerInput, Modification
from query.composers.caption_writer import LvlmCaptionWriter
from query.composers.context import GalleryTools
from query.composers.endpoint import Endpoint
from query.composers.factory import (
    CONDITION_COMPOSERS,
    check_composer,
    compose,
    composer_descriptions,
)

if TYPE_CHECKING:
    from ingest.encoders.methods.clip import ClipEncoder

#: Told what is done, and how much of it.
Tell = Callable[[str, int, int], None]

#: Composers whose answers every run has anyhow, under the names of the baselines.
ALWAYS = ("image", "text", "sum")

#: The method whose vectors the composers of :data:`CONDITION_COMPOSERS` work on.
LOOKS_UNDER = "dior"

#: Stands for all composers that can be asked.
ALL = "all"


@dataclass(frozen=True)
class ComposerOptions:
    """By which composers changes are composed, and with what.

    Attributes:
        names: of :func:`query.composers.factory.composer_descriptions`.
        told: whether they were named one by one, so that one that cannot serve is an error.
        change: what is the same of all questions: weights, LVLM, rewriter. Its text is not used.
        device: that the LVLM runs on.
        conditions: that the composers look under which work in conditions; none by default.
    """

    names: tuple[str, ...] = ()
    told: bool = True
    device: str = "auto"
    conditions: tuple[str, ...] = ()
    change: Modification = field(default_factory=lambda: Modification("as the question says"))

    @classmethod
    def by(
        cls,
        names: Sequence[str],
        change: Modification,
        device: str = "auto",
        conditions: Sequence[str] = (),
    ) -> ComposerOptions:
        """By composers as they are typed, ``all`` for every one there is.

        Raises:
            UsageError: if there is no such composer, or weights are given to several.
        """
        if ALL in names:
            chosen, told = tuple(composer_descriptions()), False
        else:
            chosen, told = tuple(dict.fromkeys(names)), True
        for name in chosen:
            check_composer(name)
        if conditions and not set(chosen) & set(CONDITION_COMPOSERS):
            raise UsageError(
                f"--condition belongs to the composers {' and '.join(CONDITION_COMPOSERS)}; name one of "
                "them by --composer."
            )
        if change.weights and len(chosen) != 1:
            raise UsageError("--weight is one composer's; name one --composer and no more.")
        if change.rewriter:  # a wrong address is told before a model is loaded
            Endpoint(change.rewriter, change.rewriter_model, change.rewriter_timeout)
        elif change.rewriter_model:
            raise UsageError("--rewriter-model needs --rewriter, the address of the API.")
        kept = tuple(name for name in chosen if name not in ALWAYS or change.weights)
        return cls(kept, told, device, tuple(conditions), change)

    def shown(self, name: str) -> str:
        """A composer's name, with weights that are not its own."""
        weights = ", ".join(f"{key}={value:g}" for key, value in self.change.weights.items())
        return f"{name} {weights}" if weights else name

    def wanted(self, name: str) -> dict[str, Any]:
        """What was asked for, as JSON values; no secret is among it."""
        kept = {"weights", "lvlm", "rewriter", "rewriter_model"}
        about = {"composer": name}
        if name in CONDITION_COMPOSERS:
            return {**about, "conditions": list(self.looked_under)}
        return {**about, **{k: v for k, v in asdict(self.change).items() if k in kept}}

    @property
    def looked_under(self) -> tuple[str, ...]:
        """The conditions that pictures must be embedded under for :data:`CONDITION_COMPOSERS`."""
        asked = any(name in CONDITION_COMPOSERS for name in self.names)
        return (self.conditions or (UNCONDITIONAL,)) if asked else ()

    def method(self, name: str) -> str:
        """The method whose vectors a composer works on."""
        return LOOKS_UNDER if name in CONDITION_COMPOSERS else BASE


class _Tools(GalleryTools):
    """The tools of ``cies search --modify``, over a run's vectors in place of a gallery's."""

    def __init__(
        self, encoder: ClipEncoder, writer: Callable[[], CaptionWriter], has_captions: bool
    ):
        # There is no gallery: all that the class takes from one is given here.
        self._clip = encoder
        self._of_run = writer
        self._has_captions = has_captions
        self.missed = False  # whether captions were looked for that are not there

    @property
    def base_model(self) -> str:
        """See :class:`query.composers.base.Tools`."""
        return self._clip.spec.model

    @cached_property
    def writer(self) -> CaptionWriter:
        """See :class:`query.composers.base.Tools`."""
        return self._of_run()

    @property
    def has_captions(self) -> bool:
        """See :class:`query.composers.base.Tools`."""
        self.missed = not self._has_captions
        return self._has_captions

    @cached_property
    def _encoder(self) -> BaseEncoder:
        return self._clip


class _Writers:
    """The LVLM that writes captions, loaded when it is first needed."""

    def __init__(self, composing: ComposerOptions):
        self._composing = composing
        self.revision = ""

    @cached_property
    def writer(self) -> CaptionWriter:
        """It, with the rewriter if there is one."""
        from ingest.encoders.methods.dior import DiorEncoder
        from ingest.encoders.models.find import DEFAULT_MODEL
        from ingest.encoders.vlm.speaker import Speaker

        change = self._composing.change
        name = change.lvlm or DEFAULT_MODEL
        speaker = Speaker(DiorEncoder.load(name, device=self._composing.device, force=True))
        self.revision = f"{speaker.name} {speaker.revision}"
        endpoint = None
        if change.rewriter:
            endpoint = Endpoint(change.rewriter, change.rewriter_model, change.rewriter_timeout)
        return LvlmCaptionWriter(speaker, endpoint)


def composable(task: Task) -> TypeGuard[QueryTask]:
    """Whether every question of a task is a picture and a change in words."""
    return isinstance(task, QueryTask) and all(q.image and q.text for _, q in queries_of(task))


def check_composing(run: Run, composing: ComposerOptions, methods: Sequence[str]) -> None:
    """Refuse to compose where nothing can be, before anything is embedded.

    Args:
        run: with its tasks.
        composing: by which composers.
        methods: of the encoders that will be asked.

    Raises:
        UsageError: naming the way out.
    """
    if not any(composable(task) for task in run.tasks.values()):
        raise UsageError(
            f"{run.document['benchmark']} asks for no change of a picture; leave --composer out."
        )
    for name in composing.names if composing.told else ():
        method = composing.method(name)
        if method not in methods:
            raise UsageError(
                f"The composer {name} works on the vectors of the method {method}, which is not "
                f"asked; add --method {method}."
            )


def compose_tasks(
    run: Run,
    encoders: Mapping[str, Callable[[], BaseEncoder]],
    composing: ComposerOptions,
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
    tasks = {n: t for n, t in run.tasks.items() if composable(t)}
    writers = _Writers(composing)
    for composer in composing.names:
        method = composing.method(composer)
        bases = [n for n in encoders if run.encoder_identity(n)["method"] == method]
        if not bases:
            note(f"{composer} is left out: no vectors of {method}; add --method {method}.")
        for base in bases:
            system = System(f"{base} {composing.shown(composer)}", base, composing.shown(composer))
            try:
                for task in tasks.values():
                    one = ComposedQueries(run.composed_path(task.name, system), task, composer)
                    way = _Way(run, system, composing, encoders[base], writers)
                    way.fill(one, tell)
                    if system not in run.systems(task.name):
                        way.rank_queries(one)
            except (UsageError, ModelError) as error:
                if composing.told:
                    raise
                note(f"{system.name} is left out: {error}")


class _Way:
    """One composer over the vectors of one encoder."""

    def __init__(
        self,
        run: Run,
        system: System,
        composing: ComposerOptions,
        encoder: Callable[[], BaseEncoder],
        writers: _Writers,
    ):
        self._run = run
        self._system = system
        self._composing = composing
        self._encoder = encoder
        self._writers = writers
        self._captions = _captions(run, system.encoder)

    def fill(self, one: ComposedQueries, tell: Tell) -> None:
        """Compose what is not composed yet."""
        wanted = self._composing.wanted(one.composer)
        one.check(wanted)
        if one.done:
            return

        def told(done: int, total: int) -> None:
            tell(f"Composing {one.task.name} by {self._system.name}", done, total)

        load = loader(one.task.images, one.task.crops, None)

        def image(query: TaskQuery) -> Image.Image:
            return load([query.image])[0]

        table = self._run.table(self._system)
        encoder = self._encoder()
        if one.composer in CONDITION_COMPOSERS:
            names = self._composing.looked_under
            looking = ConditionComposer(one.composer, encoder, table, names, tuple(one.task.images))
            one.fill(
                wanted,
                looking.seen,
                lambda query, text, seen: looking.compose(image(query), text, seen),
                told,
                lambda: "",
            )
            return
        from ingest.encoders.methods.clip import ClipEncoder

        assert isinstance(encoder, ClipEncoder)
        tools = _Tools(encoder, lambda: self._writers.writer, self._captions is not None)

        def composed(query: TaskQuery, text: str, vector: Vectors) -> ComposedQuery:
            change = replace(self._composing.change, text=text)
            return compose(one.composer, ComposerInput(change, vector, lambda: image(query)), tools)

        try:
            one.fill(
                wanted,
                lambda keys: table.vectors(UNCONDITIONAL, keys),
                composed,
                told,
                lambda: self._writers.revision if "writer" in vars(tools) else "",
            )
        except UsageError as error:
            if not tools.missed:
                raise
            raise UsageError(
                f"{self._system.name} compares with captions of the pictures, which are not "
                "asked; add --method captions, or leave it out."
            ) from error

    def rank_queries(self, one: ComposedQueries) -> None:
        """Rank by what was composed, and note in the run what composed."""
        run, system, task = self._run, self._system, one.task
        of_conditions = one.composer in CONDITION_COMPOSERS
        looked = self._composing.looked_under if of_conditions else (UNCONDITIONAL,)
        found = one.load(self._captions, looked)
        answers = rank_queries(task, run.table(system), system.composer, found, run.depth)
        answers.save(run.answers_path(task.name, system))
        run.add(task.name, system)
        wanted = self._composing.wanted(one.composer)
        entry = run.document.setdefault("composers", {}).setdefault(
            system.name, {"wanted": wanted, "writer": "", "notes": []}
        )
        entry["writer"] = one.writer or entry["writer"]
        count, first = one.notes()
        if count:
            entry["notes"].append(
                f"{system.name}, {task.name}: of {count} questions a sentence such as: {first}"
            )
        run.save()


def _captions(run: Run, base: str) -> RunVectors | RandomVectors | None:
    """Captions' vectors by the CLIP of some base vectors, as a gallery would keep them."""
    made = run.encoder_identity(base)
    for name, entry in run.document["encoders"].items():
        settings = entry["made_by"]["settings"]
        read_by = settings.get("sentences"), settings.get("sentences_revision")
        same = read_by == (made["model"], made["revision"])
        if entry["done"] and entry["made_by"]["method"] == CAPTIONS and same:
            return run.table(System(name, name))
    return None
