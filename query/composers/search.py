"""Searches a gallery by a picture and a change: composes, ranks, and verifies the best hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.store.records import VectorColumn
from indexes.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, same_name
from ingest.fill.vector_sources import (
    BASE,
    EMBEDDER,
    VectorSource,
    base_vector_source,
    layered_method,
    vector_sources,
)
from query.build_hits import build_hits, describe_query
from query.composers.base import ComposerInput, Interpretation
from query.composers.context import (
    caption_source,
    gallery_context,
    rewriter_endpoint,
)
from query.composers.dior import conditions_in_change, read_changed_picture
from query.composers.factory import (
    CONDITION_COMPOSERS,
    check_composer,
    compose,
    condition_method,
    usual_sum,
)
from query.composers.modification import Modification
from query.composers.verification import load_judge, verify_hits
from query.examples import Example, ExampleEmbedder
from query.hits import Hits
from query.open_gallery import OpenGallery
from query.open_tables import OpenCondition
from query.question import Question
from query.ranking.combination import ScoreCombination, common_rows
from query.ranking.ranking import CombinedRanking, ConditionRanking, Ranking
from query.resolver import ResolvedCondition


@dataclass(frozen=True)
class _ComposedRanking:
    """The ranking of a composed query."""

    ranking: Ranking
    conditions: list[OpenCondition]
    example: Example
    interpretation: Interpretation
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _ConditionTargets:
    """What the condition composers look for.

    Attributes:
        conditions: what is looked for under.
        example: the picture.
        vectors: float32 [dim] for each condition.
        found: the condition's name to what is looked for, in words.
        note: a note for the user, or empty.
    """

    conditions: list[OpenCondition]
    example: Example
    vectors: Sequence[NDArray[np.float32]]
    found: dict[str, str]
    note: str = ""


class ComposedSearch:
    """The search by one composed query."""

    def __init__(self, opened: OpenGallery, question: Question, change: Modification):
        """Check the question; nothing is read yet.

        Args:
            opened: the gallery.
            question: its conditions are those to keep from the picture; there may be none.
            change: the change.

        Raises:
            UsageError: if they do not go together.
        """
        if question.text or len(question.pictures) != 1:
            raise UsageError("--modify changes one picture; give exactly one, and no --text.")
        if question.fuse or question.fill or question.rerank or len(question.methods) > 1:
            raise UsageError(
                "--modify works with one method; leave --fuse, --rerank and --fill out (--verify "
                "lets an LVLM check the best hits)."
            )
        if change.verify and question.sort != "score":
            raise UsageError("--verify puts hits in an order of its own; leave --sort out.")
        if change.composer is not None:
            check_composer(change.composer)
        if change.rewriter:  # a wrong address is reported before a model is loaded
            rewriter_endpoint(change)
        self._opened = opened
        self._question = question
        self._change = change
        self._method = question.methods[0] if question.methods else None
        self._embedder = ExampleEmbedder(opened)

    def hits(self) -> Hits:
        """Compose, rank, and verify if that is asked.

        Raises:
            UsageError: if the gallery lacks what the composer needs, or the picture cannot be
                read.
            ModelError: if a model is needed and cannot be loaded, or a rewriter does not answer.
        """
        question, change = self._question, self._change
        # Loaded first, so that a model that cannot answer is noticed before the search.
        judge = load_judge(self._opened, change.lvlm) if change.verify else None
        name = change.composer or self._default_composer()
        composed = self._in_conditions(name) if name in CONDITION_COMPOSERS else self._by_base(name)
        interpretation = composed.interpretation
        query = describe_query(question, [composed.conditions], [composed.example], self._embedder)
        query = replace(query, composed=interpretation.to_json())
        wide = replace(question, k=max(question.k, change.verify)) if judge else question
        notes = (*interpretation.notes, *composed.notes)
        hits = build_hits(self._opened, wide, composed.ranking, query, notes)
        # How alike a picture and the changed one should be was never measured.
        hits = replace(hits, nothing_alike=False)
        if judge is None:
            return hits
        from ingest.encoders.embedders.judge import JudgedQuery

        kept = tuple(name for name, weight in question.conditions.items() if weight > 0)
        asked = JudgedQuery(self._image(), change.caption or change.text, kept)
        return verify_hits(hits, judge, asked, change.verify, question.k)

    def _default_composer(self) -> str:
        """The composer if none is named: ``dior-split`` or ``embedder`` if it can, or else one
        by base vectors.
        """
        by_base = bool(self._change.caption or self._change.must or self._change.must_not)
        if not by_base and self._sources_by("dior"):
            return "dior-split"
        if not by_base and self._sources_by(EMBEDDER):
            return EMBEDDER
        if any(self._question.conditions.values()):
            return "text"
        base = base_vector_source(self._opened.gallery)
        return "sum" if base is None else usual_sum(base.spec.model)

    def _sources_by(self, method: str) -> list[VectorSource]:
        """The gallery's vector sources by a method, among those that the question allows."""
        found = self._opened.resolver.conditional_sources()
        found = [source for source in found if source.spec.method == method]
        named = self._method
        return [s for s in found if named in (None, s.spec.method, layered_method(s.spec), s.name)]

    def _moved(
        self,
        embedder: ExampleEmbedder,
        conditions: Sequence[OpenCondition],
        vectors: Sequence[NDArray[np.float32]],
    ) -> list[NDArray[np.float32]]:
        """What is looked for under each condition, moved by the rated pictures."""
        moved = embedder.moved(self._question, conditions, [[vector] for vector in vectors])
        return [own[0] for own in moved]

    def _image(self) -> Image.Image:
        return self._embedder.image(self._question.pictures[0], self._question.region)

    # -- composers over base vectors --------------------------------------------------------

    def _by_base(self, composer: str) -> _ComposedRanking:
        opened, question, change = self._opened, self._question, self._change
        sources = vector_sources(opened.gallery)
        base = next((s for s in sources if s.spec.method == BASE and s.tables), None)
        if base is None:
            raise UsageError(
                f"The gallery at {opened.gallery.path} has no base vectors, which the composer "
                f"{composer} needs; add them with `cies ingest --method clip`, or ask with "
                f"--composer {' or '.join(CONDITION_COMPOSERS)}."
            )
        raw = opened.base_tables.open(ResolvedCondition.of_table(base.tables[0]))
        kept = opened.tables.open_conditions(question, self._method)
        embedder = ExampleEmbedder(opened, opened.base_tables)
        picture, region = question.pictures[0], question.region
        example = embedder.picture(picture, region, [raw])
        if kept:
            vectors = self._embedder.picture(picture, region, kept).vectors
            example = replace(example, vectors=[*example.vectors, *vectors])

        context = gallery_context(opened, base, change)

        def norm() -> float | None:
            stored = (
                opened.gallery.norm(base.tables[0], example.key) if example.in_gallery else None
            )
            return context.known_norm(self._image()) if stored is None else stored

        query = ComposerInput(change, example.vectors[0], self._image, norm)
        composed = compose(composer, query, context)
        if composed.captions:
            raw = replace(raw, table=self._with_captions(raw.table, base, composed.captions))
        vectors = self._moved(embedder, [raw], [composed.vector])
        vectors += self._moved(self._embedder, kept, example.vectors[1:])
        conditions = [raw, *kept]
        ranking, notes = _rank(conditions, vectors)
        return _ComposedRanking(ranking, conditions, example, composed.interpretation, notes)

    def _with_captions(self, table: OpenTable, base: VectorSource, share: float) -> OpenTable:
        """Base vectors mixed with those of the captions: the cosine with a mixed vector is the
        weighted mean of both cosines.
        """
        source = caption_source(self._opened.gallery, base)
        if source is None:
            raise UsageError("The gallery keeps no captions of its pictures.")
        resolved = ResolvedCondition.of_table(source.tables[0])
        captions = self._opened.base_tables.open_table(resolved)
        rows = common_rows([table, captions])
        vectors = (1 - share) * table.vectors(rows[0]) + share * captions.vectors(rows[1])
        keys = [table.keys[row] for row in rows[0]]
        words = [captions.words[row] for row in rows[1]]
        column = VectorColumn(keys, vectors, words, captions.word_probabilities[rows[1]])
        return OpenTable(table.table, column, "exact")

    # -- composers in the gallery's conditions ----------------------------------------------

    def _in_conditions(self, composer: str) -> _ComposedRanking:
        opened, question, change = self._opened, self._question, self._change
        if change.caption or change.must or change.must_not:
            raise UsageError(
                f"The composer {composer} searches by no text; leave --caption, --must and "
                "--must-not out, or choose another --composer."
            )
        if change.weights:
            raise UsageError(
                f"The composer {composer} has no weights but those of conditions, such as "
                "-c color=2; leave --weight out."
            )
        method = condition_method(composer)
        sources = self._sources_by(method)
        if not sources:
            raise UsageError(
                f"The gallery at {opened.gallery.path} has no vectors by the method {method}, "
                f"which the composer {composer} needs; add them with `cies ingest --method "
                f"{method} -c CONDITION`, or ask with --composer sum."
            )
        source = sources[0]
        whole = [t for t in source.tables if same_name(t.name, UNCONDITIONAL)]
        named = [t for t in source.tables if t not in whole]
        # An embedder reads the change in one turn with the picture, as a whole if it can.
        tables = (whole or named) if composer == EMBEDDER else (named or whole)
        available = [ResolvedCondition.of_table(table) for table in tables]
        wanted = {name: weight for name, weight in question.conditions.items() if weight}
        weights = {} if wanted else {one.table.table: 1.0 for one in available}
        for parse_conditions, sign in ((wanted, 1), (question.unlike, -1)):
            for condition, weight in parse_conditions.items():
                resolved = opened.resolver.resolve(condition, source.name)
                weights[resolved.table.table] = sign * weight
                if all(one.table.table != resolved.table.table for one in available):
                    available.append(resolved)
        if composer in ("dior", EMBEDDER):
            targets = self._changed_picture(available, weights)
        else:
            targets = self._split_change(available, weights)
        conditions = targets.conditions
        interpretation = Interpretation(
            composer,
            change.text,
            conditions=targets.found,
            weights={one.resolved.name: one.weight for one in conditions},
            notes=(targets.note,) if targets.note else (),
        )
        standardised = any(one.weight < 0 for one in conditions)
        vectors = self._moved(self._embedder, conditions, targets.vectors)
        ranking, notes = _rank(conditions, vectors, standardised)
        return _ComposedRanking(ranking, conditions, targets.example, interpretation, notes)

    def _open_weighted(
        self, resolved: Sequence[ResolvedCondition], weights: dict[str, float]
    ) -> list[OpenCondition]:
        tables = self._opened.tables
        return [tables.open(one, weights.get(one.table.table, 1.0)) for one in resolved]

    def _read_changed(self, conditions: Sequence[OpenCondition]) -> Example:
        """The picture, embedded with a prompt that tells the model of the change."""
        return self._embedder.picture_embedded_by(
            self._question.pictures[0],
            self._question.region,
            conditions,
            lambda encoder, image, wanted: read_changed_picture(
                encoder, image, self._change.text, wanted
            ),
        )

    def _changed_picture(
        self, available: Sequence[ResolvedCondition], weights: dict[str, float]
    ) -> _ConditionTargets:
        """``dior``, ``embedder``: the changed picture under each condition that has a weight."""
        parse_conditions = [one for one in available if one.table.table in weights]
        conditions = self._open_weighted(parse_conditions, weights)
        example = self._read_changed(conditions)
        found = {
            one.resolved.name: word
            for one, word in zip(conditions, example.words, strict=True)
            if word
        }
        return _ConditionTargets(conditions, example, example.vectors, found)

    def _split_change(
        self, available: Sequence[ResolvedCondition], weights: dict[str, float]
    ) -> _ConditionTargets:
        """``dior-split``: the words where the change is about a condition, or else the picture.

        Args:
            available: all conditions that the change may be about.
            weights: table to weight, of the conditions to keep from the picture.
        """
        change = self._change.text
        everything = self._open_weighted(available, weights)
        names = [one.resolved.name for one in everything]
        text = self._embedder.text(change, everything)
        texts = conditions_in_change(
            change,
            names,
            text.words,
            lambda: self._read_changed(everything).words,
            lambda number: text.words[number] in set(everything[number].table.words),
        )
        if not texts:
            note = (
                f"'{change}' names none of the conditions {', '.join(names)}; the model "
                "read the change under each, as --composer dior does."
            )
            return replace(self._changed_picture(available, weights), note=note)
        chosen = [
            number
            for number, one in enumerate(everything)
            if number in texts or one.resolved.table.table in weights
        ]
        conditions = [everything[number] for number in chosen]
        question = self._question
        example = self._embedder.picture(question.pictures[0], question.region, conditions)
        vectors, found = [], {}
        for position, number in enumerate(chosen):
            source, at = (text, number) if number in texts else (example, position)
            if number in texts and texts[number] != change:
                source, at = self._embedder.text(texts[number], [everything[number]]), 0
            vectors.append(np.asarray(source.vectors[at], dtype=np.float32))
            where = "from the words" if number in texts else "from the picture"
            found[names[number]] = f"{source.words[at]} ({where})" if source.words[at] else where
        return _ConditionTargets(conditions, example, vectors, found)


def _rank(
    conditions: Sequence[OpenCondition], vectors: Sequence[Vectors], standardised: bool = True
) -> tuple[Ranking, tuple[str, ...]]:
    """The ranking by a vector for each condition, and notes.

    Args:
        conditions: at least one of weight above 0.
        vectors: float32 [dim] for each condition.
        standardised: see :class:`query.ranking.combination.ScoreCombination`.
    """
    if len(conditions) == 1 and conditions[0].weight > 0:
        return ConditionRanking(conditions[0].table, vectors[0][None], "mean"), ()
    combination = ScoreCombination(
        [one.table for one in conditions],
        [one.weight for one in conditions],
        standardised=standardised,
    )
    ranking = CombinedRanking(combination, [vector[None] for vector in vectors], "mean")
    if not combination.left_out:
        return ranking, ()
    return ranking, (
        f"{combination.left_out} pictures are not embedded under all that was asked and cannot be "
        "found; run `cies ingest` to embed them.",
    )
