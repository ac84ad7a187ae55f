"""Composes the queries of a run's tasks with the composers of ``cies search --modify``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, TypeGuard

from PIL import Image

from eval.runs.answers import queries_of, rank_queries
from eval.runs.baselines import SystemVectors
from eval.runs.composed_queries import ComposedQueries
from eval.runs.condition_composer import ConditionComposer
from eval.runs.pictures import loader
from eval.runs.run import Run, System
from eval.tasks import QueryTask, Task, TaskQuery
from indexes.errors import ModelError, UsageError
from indexes.vectors import Vectors
from ingest.conditions import UNCONDITIONAL
from ingest.encoders.base import BaseEncoder
from ingest.encoders.options import EncoderChoice
from ingest.fill.vector_sources import BASE, CAPTIONS
from query.composers.base import (
    CaptionWriter,
    ComposedQuery,
    ComposerContext,
    ComposerInput,
    task_weights,
)
from query.composers.caption_writer import LvlmCaptionWriter
from query.composers.context import rewriter_endpoint
from query.composers.factory import (
    CONDITION_COMPOSERS,
    check_composer,
    compose,
    composer_descriptions,
    condition_method,
)
from query.composers.modification import Modification

#: Called with the name of the current step, the finished items and all items.
StepProgress = Callable[[str, int, int], None]

#: Composers whose answers every run has, as baselines.
ALWAYS = ("image", "text", "sum")

#: Name for all composers that work with the run's vectors.
ALL = "all"


@dataclass(frozen=True)
class ComposerOptions:
    """The composers to evaluate, and their options.

    Attributes:
        names: names of :func:`query.composers.factory.composer_descriptions`.
        explicit: whether the user named them one by one; one that does not work is then an
            error.
        device: the device that the LVLM runs on.
        conditions: to search under, for composers that work under conditions; none by default.
        modification: weights, LVLM and rewriter, the same for all queries. Its text is not used.
    """

    names: tuple[str, ...] = ()
    explicit: bool = True
    device: str = "auto"
    conditions: tuple[str, ...] = ()
    modification: Modification = field(default_factory=lambda: Modification("as the question says"))

    @classmethod
    def from_names(
        cls,
        names: Sequence[str],
        modification: Modification,
        device: str = "auto",
        conditions: Sequence[str] = (),
    ) -> ComposerOptions:
        """Make options of composers as they are typed, ``all`` for every one.

        Raises:
            UsageError: if there is no such composer, or options do not fit the composers.
        """
        explicit = ALL not in names
        chosen = tuple(dict.fromkeys(names)) if explicit else tuple(composer_descriptions())
        for name in chosen:
            check_composer(name)
        if conditions and not set(chosen) & set(CONDITION_COMPOSERS):
            raise UsageError(
                f"--condition belongs to the composers {' and '.join(CONDITION_COMPOSERS)}; name "
                "one of them by --composer."
            )
        if modification.weights and len(chosen) != 1:
            raise UsageError("--weight is for one composer; name one --composer only.")
        rewriter_endpoint(modification)  # a wrong address is reported before a model is loaded
        kept = tuple(name for name in chosen if name not in ALWAYS or modification.weights)
        return cls(kept, explicit, device, tuple(conditions), modification)

    def label(self, name: str) -> str:
        """Return a composer's name, with the weights that the user set."""
        weights = ", ".join(f"{key}={value:g}" for key, value in self.modification.weights.items())
        return f"{name} {weights}" if weights else name

    def wanted(self, name: str) -> dict[str, Any]:
        """Return a composer's options as JSON values, without secrets."""
        about = {"composer": name}
        if name in CONDITION_COMPOSERS:
            return {**about, "conditions": list(self.search_conditions)}
        kept = {"weights", "lvlm", "rewriter", "rewriter_model"}
        return {**about, **{k: v for k, v in asdict(self.modification).items() if k in kept}}

    @property
    def search_conditions(self) -> tuple[str, ...]:
        """Conditions that the named :data:`CONDITION_COMPOSERS` need vectors under."""
        if not set(self.names) & set(CONDITION_COMPOSERS):
            return ()
        return self.conditions or (UNCONDITIONAL,)


def method_of(composer: str) -> str:
    """Return the method whose vectors a composer works on."""
    return condition_method(composer) if composer in CONDITION_COMPOSERS else BASE


class _RunWriter:
    """The LVLM that writes captions for a run; it is loaded when it is first used."""

    def __init__(self, options: ComposerOptions):
        self._options = options
        self.revision = ""

    @cached_property
    def writer(self) -> CaptionWriter:
        """The LVLM, with the rewriter if one is named."""
        from ingest.encoders.methods.dior import DiorEncoder
        from ingest.encoders.models.find import DEFAULT_MODEL
        from ingest.encoders.vlm.generation import TextGenerator

        modification = self._options.modification
        model = modification.lvlm or DEFAULT_MODEL
        choice = EncoderChoice("dior", model, device=self._options.device, force=True)
        generator = TextGenerator(DiorEncoder.load(choice))
        self.revision = f"{generator.name} {generator.revision}"
        return LvlmCaptionWriter(generator, rewriter_endpoint(modification))


def is_composable(task: Task) -> TypeGuard[QueryTask]:
    """Return whether every query of a task is a picture and a change in words."""
    return isinstance(task, QueryTask) and all(q.image and q.text for _, q in queries_of(task))


def check_composers(run: Run, options: ComposerOptions, methods: Sequence[str]) -> None:
    """Check, before anything is embedded, that the composers can work.

    Args:
        run: a run with its tasks.
        options: the composers.
        methods: the methods of the encoders to be evaluated.

    Raises:
        UsageError: if no task has changes to compose, or a composer's method is missing.
    """
    if not any(is_composable(task) for task in run.tasks.values()):
        raise UsageError(
            f"{run.document['benchmark']} has no changes of pictures to compose; leave --composer "
            "out."
        )
    for name in options.names if options.explicit else ():
        method = method_of(name)
        if method not in methods:
            raise UsageError(
                f"The composer {name} works on the vectors of the method {method}, which is not "
                f"evaluated; add --method {method}."
            )


def compose_tasks(
    run: Run,
    encoders: Mapping[str, Callable[[], BaseEncoder]],
    options: ComposerOptions,
    progress: StepProgress,
    warn: Callable[[str], None],
) -> None:
    """Compose the queries of all tasks over the vectors of a run, and store the answers.

    Args:
        run: whose pictures are embedded.
        encoders: name in the run to a function that loads the encoder.
        options: the composers.
        progress: called as queries are composed.
        warn: called with a sentence for each composer that is left out.

    Raises:
        UsageError: if a composer that was named does not work with this run.
        ModelError: if a model is needed and is not available.
    """
    tasks = [task for task in run.tasks.values() if is_composable(task)]
    writer = _RunWriter(options)
    for composer in options.names:
        method = method_of(composer)
        names = [n for n in encoders if run.encoder_identity(n)["method"] == method]
        if not names:
            warn(f"{composer} is left out: no vectors of {method}; add --method {method}.")
        for name in names:
            label = options.label(composer)
            system = System(f"{name} {label}", name, label)
            job = _ComposerJob(run, system, composer, options, encoders[name], writer)
            try:
                for task in tasks:
                    job.run_task(task, progress)
            except (UsageError, ModelError) as error:
                if options.explicit:
                    raise
                warn(f"{system.name} is left out: {error}")


@dataclass(frozen=True)
class _ComposerJob:
    """One composer over the vectors of one encoder of a run."""

    run: Run
    system: System
    composer: str
    options: ComposerOptions
    load_encoder: Callable[[], BaseEncoder]
    writer: _RunWriter

    def run_task(self, task: QueryTask, progress: StepProgress) -> None:
        """Compose a task's queries, and store the answers if they are not stored."""
        stored = ComposedQueries(
            self.run.composed_path(task.name, self.system), task, self.composer
        )
        wanted = self.options.wanted(self.composer)
        own = {part.name: task_weights(self.composer, part.name) for part in task.parts}
        if any(own.values()):
            wanted |= {"part_weights": {name: values for name, values in own.items() if values}}
        stored.check(wanted)
        captions = _captions(self.run, self.system.encoder)
        if not stored.done:
            self._compose(stored, wanted, captions is not None, progress)
        if self.system not in self.run.systems(task.name):
            self._answer(stored, wanted, captions)

    def _compose(
        self,
        stored: ComposedQueries,
        wanted: Mapping[str, Any],
        has_captions: bool,
        progress: StepProgress,
    ) -> None:
        task, system = stored.task, self.system
        load = loader(task.images, task.crops, None)

        def image(query: TaskQuery) -> Image.Image:
            return load([query.image])[0]

        def step(done: int, total: int) -> None:
            progress(f"Composing {task.name} by {system.name}", done, total)

        table = self.run.table(system)
        encoder = self.load_encoder()
        if self.composer in CONDITION_COMPOSERS:
            conditions = self.options.search_conditions
            under_conditions = ConditionComposer(
                self.composer, encoder, table, conditions, tuple(task.images)
            )
            stored.fill(
                wanted,
                under_conditions.picture_vectors,
                lambda query, text, vectors: under_conditions.compose(image(query), text, vectors),
                step,
                lambda: "",
            )
            return
        missed_captions: list[bool] = []

        def captions_stored() -> bool:
            missed_captions.append(not has_captions)
            return has_captions

        context = ComposerContext(
            encoder.spec.model, lambda: encoder, lambda: self.writer.writer, captions_stored
        )

        part_of = {id(query): part.name for part, query in queries_of(task)}

        def compose_query(query: TaskQuery, text: str, vector: Vectors) -> ComposedQuery:
            change = self.options.modification
            weights = {**task_weights(self.composer, part_of[id(query)]), **change.weights}
            given = ComposerInput(
                replace(change, text=text, weights=weights),
                vector,
                lambda: image(query),
                lambda: context.known_norm(image(query)),
            )
            return compose(self.composer, given, context)

        try:
            stored.fill(
                wanted,
                lambda keys: table.vectors(UNCONDITIONAL, keys),
                compose_query,
                step,
                # The writer is cached in the context once this composer has used it.
                lambda: self.writer.revision if "writer" in vars(context) else "",
            )
        except UsageError as error:
            if not any(missed_captions):
                raise
            raise UsageError(
                f"{system.name} compares with captions of the pictures, which are not evaluated; "
                "add --method captions, or leave it out."
            ) from error

    def _answer(
        self,
        stored: ComposedQueries,
        wanted: Mapping[str, Any],
        captions: SystemVectors | None,
    ) -> None:
        """Rank by the composed vectors, and record in the run how they were composed."""
        run, system, task = self.run, self.system, stored.task
        under_conditions = self.composer in CONDITION_COMPOSERS
        conditions = self.options.search_conditions if under_conditions else (UNCONDITIONAL,)
        vectors = stored.load(captions, conditions)
        answers = rank_queries(task, run.table(system), system.composer, vectors, run.depth)
        answers.save(run.answers_path(task.name, system))
        run.add(task.name, system)
        entry = run.document.setdefault("composers", {}).setdefault(
            system.name, {"wanted": wanted, "writer": "", "notes": []}
        )
        entry["writer"] = stored.writer or entry["writer"]
        count, first = stored.notes()
        if count:
            entry["notes"].append(
                f"{system.name}, {task.name}: {count} questions have a note such as: {first}"
            )
        run.save()


def _captions(run: Run, encoder: str) -> SystemVectors | None:
    """Return vectors of the captions by the CLIP of an encoder's vectors, if the run has them."""
    identity = run.encoder_identity(encoder)
    for name, entry in run.document["encoders"].items():
        settings = entry["made_by"]["settings"]
        text_model = settings.get("sentences"), settings.get("sentences_revision")
        same_model = text_model == (identity["model"], identity["revision"])
        if entry["done"] and entry["made_by"]["method"] == CAPTIONS and same_model:
            return run.table(System(name, name))
    return None
