"""Asks a gallery a composed question: finds what a composer needs, ranks, and verifies the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.store.records import VectorColumn
from ingest.conditions import UNCONDITIONAL, same_name
from ingest.fill.vector_sources import BASE, VectorSource, vector_sources
from query.build_hits import Answer, Asked, query_of
from query.composers.base import ComposerInput, Interpretation, Modification
from query.composers.context import GalleryTools, Parts, captions_of, speaker_of, writer_of
from query.composers.dior import conditions_in_change, read_changed_picture
from query.composers.endpoint import Endpoint
from query.composers.factory import CONDITION_COMPOSERS, check_composer, compose
from query.composers.inversion import PICTURE
from query.composers.verification import verified
from query.examples import Example, Examples
from query.hits import Hits
from query.question import Question
from query.ranking.combination import ScoreCombination, Term, common_rows
from query.ranking.ranking import CombinedRanking, ConditionRanking, Ranking
from query.resolver import Opened, ResolvedCondition

_Open = Callable[[Sequence[ResolvedCondition]], list[Opened]]
_Tell = Callable[[Sequence[ResolvedCondition]], Example]


@dataclass(frozen=True)
class _Ranked:
    """What was composed, ready to be answered."""

    ranking: Ranking
    asked: list[Asked]
    example: Example
    interpretation: Interpretation
    notes: tuple[str, ...]


class ComposedSearch:
    """One composed question, on its way to an answer."""

    def __init__(self, parts: Parts, question: Question, change: Modification):
        """Look at nothing yet.

        Args:
            parts: of the engine.
            question: whose conditions are what of the picture shall be kept; may have none.
            change: what is asked for.

        Raises:
            UsageError: if they cannot be meant together.
        """
        if question.text or len(question.pictures) != 1:
            raise UsageError("--modify changes one picture; give exactly one, and no --text.")
        if question.fuse or question.fill or question.rerank or len(question.methods) > 1:
            raise UsageError(
                "--modify goes with one method; leave --fuse, --rerank and --fill out (--verify "
                "has an LVLM look through the best)."
            )
        if change.verify and question.sort != "score":
            raise UsageError("--verify puts hits in an order of its own; leave --sort out.")
        if change.composer is not None:
            check_composer(change.composer)
        if change.rewriter:  # a wrong address is told before a model is loaded
            Endpoint(change.rewriter, change.rewriter_model, change.rewriter_timeout)
        self._parts = parts
        self._question = question
        self._change = change
        self._reader = Examples(parts.gallery, parts.paths, parts.resolver, parts.encoders.of)

    def hits(self) -> Hits:
        """The answer.

        Raises:
            UsageError: if the gallery lacks what the composer needs, or the picture cannot be
                read.
            ModelError: if a model is needed and cannot be had, or a rewriter does not answer.
        """
        question, change = self._question, self._change
        speaker = None
        if change.verify:
            speaker = speaker_of(self._parts, change)
            if not speaker.can_vote():
                speaker.vote([], "")  # raises with the way out
        ranked = self._ranked()
        allowed = None
        if question.where is not None or question.exclude_same is not None:
            known = {ranked.example.key: ranked.example.shown} if ranked.example.key else {}
            allowed = self._parts.filters.allowed(
                ranked.ranking.table, question.where, question.exclude_same, known
            )
        wide = replace(question, k=max(question.k, change.verify))
        asked = wide if speaker is not None else question
        answer = Answer(self._parts.places, asked, ranked.ranking, allowed)
        query = replace(
            query_of(question, [ranked.asked], [ranked.example]),
            composed=ranked.interpretation.to_json(),
        )
        # How alike a picture and its change should be was never measured.
        notes = (*ranked.interpretation.notes, *ranked.notes)
        hits = replace(answer.hits(query, notes), nothing_alike=False)
        if speaker is None:
            return hits
        return verified(
            hits, speaker, self._target(ranked.interpretation), change.verify, question.k
        )

    # -- ranking ---------------------------------------------------------------------------

    def _ranked(self) -> _Ranked:
        name = self._change.composer or self._usual()
        return self._by_conditions(name) if name in CONDITION_COMPOSERS else self._by_base(name)

    def _usual(self) -> str:
        """The composer where none is named: ``dior-split`` where it can, else by base vectors."""
        by_base = bool(self._change.caption or self._change.must or self._change.must_not)
        if not by_base and any(
            vector_source.spec.method == "dior" for vector_source in self._lvlms()
        ):
            return "dior-split"
        return "text" if any(self._question.conditions.values()) else "sum"

    def _lvlms(self) -> list[VectorSource]:
        method = self._question.methods[0] if self._question.methods else None
        found = [
            vector_source
            for vector_source in self._parts.resolver.lvlms()
            if vector_source.spec.method == "dior"
        ]
        return [m for m in found if method in (None, m.spec.method, m.name)]

    def _by_base(self, name: str) -> _Ranked:
        parts, question, change = self._parts, self._question, self._change
        base = next(
            (m for m in vector_sources(parts.gallery) if m.spec.method == BASE and m.tables), None
        )
        if base is None:
            raise UsageError(
                f"The gallery at {parts.gallery.path} has no base vectors, which the composer "
                f"{name} needs; add them with `cies ingest --method clip`, or ask with "
                f"--composer {' or '.join(CONDITION_COMPOSERS)}."
            )
        resolved = ResolvedCondition(base.tables[0], base.tables[0])
        table = parts.base.opened(resolved)
        terms = self._kept_terms()
        opened = [Opened(resolved, table), *(Opened(one.resolved, one.term.table) for one in terms)]
        raw = Examples(parts.gallery, parts.paths, parts.base, parts.encoders.of)
        example = raw.picture(question.pictures[0], question.region, opened[:1])
        if terms:
            kept = self._reader.picture(question.pictures[0], question.region, opened[1:])
            example = replace(example, vectors=[*example.vectors, *kept.vectors])
        tools = GalleryTools(parts, base, change)
        composed = compose(name, ComposerInput(change, example.vectors[0], self._image), tools)
        if composed.captions:
            table = self._with_captions(table, base, composed.captions)
        vectors = [composed.vector[None], *(vector[None] for vector in example.vectors[1:])]
        asked = [Asked(resolved, Term(table, 1.0)), *terms]
        ranking: Ranking = ConditionRanking(table, vectors[0], "mean")
        notes: tuple[str, ...] = ()
        if terms:
            every = [one.term for one in asked]
            mixture = ScoreCombination(every, common_rows([term.table for term in every]))
            ranking, notes = CombinedRanking(mixture, vectors, "mean"), _left_out(mixture)
        return _Ranked(ranking, asked, example, composed.interpretation, notes)

    def _kept_terms(self) -> list[Asked]:
        """What of the picture shall be kept or shall differ, by the conditions that were named."""
        question, parts = self._question, self._parts
        method = question.methods[0] if question.methods else None
        found = []
        for conditions, sign in ((question.conditions, 1), (question.unlike, -1)):
            for name, weight in conditions.items():
                if weight:
                    resolved = parts.resolver.resolved(name, method)
                    term = Term(parts.resolver.opened(resolved), sign * weight)
                    found.append(Asked(resolved, term))
        return found

    def _with_captions(self, table: OpenTable, base: VectorSource, share: float) -> OpenTable:
        """Base vectors with the captions' mixed in, so that one product gives both likenesses."""
        parts = self._parts
        vector_source = captions_of(parts.gallery, base)
        if vector_source is None:
            raise UsageError("The gallery keeps no captions of its pictures.")
        written = parts.base.opened(
            ResolvedCondition(vector_source.tables[0], vector_source.tables[0])
        )
        rows = common_rows([table, written])
        vectors = (1 - share) * table.vectors(rows[0]) + share * written.vectors(rows[1])
        keys = [table.keys[row] for row in rows[0]]
        words = [written.words[row] for row in rows[1]]
        column = VectorColumn(keys, vectors, words, written.word_probabilities[rows[1]])
        return OpenTable(table.table, column, "exact")

    def _by_conditions(self, name: str) -> _Ranked:
        question, change, parts = self._question, self._change, self._parts
        if change.caption or change.must or change.must_not:
            raise UsageError(
                f"The composer {name} searches by no text; leave --caption, --must and --must-not "
                "out, or choose another --composer."
            )
        if change.weights:
            raise UsageError(
                f"The composer {name} has no weights but those of conditions, such as -c color=2; "
                "leave --weight out."
            )
        own = self._lvlms()
        if not own:
            raise UsageError(
                f"The gallery at {parts.gallery.path} has no vectors by the method dior, which the "
                f"composer {name} needs; add them with `cies ingest --method dior -c CONDITION`, "
                "or ask with --composer sum."
            )
        vector_source = own[0]
        everything = [
            ResolvedCondition(t, t)
            for t in vector_source.tables
            if not same_name(t.name, UNCONDITIONAL)
        ] or [ResolvedCondition(t, t) for t in vector_source.tables]
        named = {n: w for n, w in question.conditions.items() if w}
        weights = {s.table.table: 1.0 for s in everything} if not named else {}
        for one, sign in ((named, 1), (question.unlike, -1)):
            for condition, weight in one.items():
                resolved = parts.resolver.resolved(condition, vector_source.name)
                weights[resolved.table.table] = sign * weight
                if all(s.table.table != resolved.table.table for s in everything):
                    everything.append(resolved)
        chosen = [s for s in everything if s.table.table in weights]
        picture = question.pictures[0]

        def opened(resolver: Sequence[ResolvedCondition]) -> list[Opened]:
            return [Opened(s, parts.resolver.opened(s)) for s in resolver]

        def told(resolver: Sequence[ResolvedCondition]) -> Example:
            return self._reader.otherwise(
                picture,
                question.region,
                opened(resolver),
                lambda encoder, image, asked: read_changed_picture(
                    encoder, image, change.text, asked
                ),
            )

        notes: list[str] = []
        found: dict[str, str] = {}
        if name == "dior":
            example = told(chosen)
            vectors = list(example.vectors)
            found = {s.name: w for s, w in zip(chosen, example.words, strict=True) if w}
        else:
            example, vectors, found, chosen = self._split(everything, chosen, opened, told, notes)
        terms = []
        for resolved in chosen:
            weight = weights.get(resolved.table.table, 1.0)
            terms.append(Asked(resolved, Term(parts.resolver.opened(resolved), weight)))
        interpretation = Interpretation(
            name,
            change.text,
            conditions=found,
            weights={one.resolved.name: one.term.weight for one in terms},
            notes=tuple(notes),
        )
        if len(terms) == 1 and terms[0].term.weight > 0:
            ranking: Ranking = ConditionRanking(terms[0].term.table, vectors[0][None], "mean")
            return _Ranked(ranking, terms, example, interpretation, ())
        every = [one.term for one in terms]
        rows = common_rows([term.table for term in every])
        mixture = ScoreCombination(every, rows, standardised=any(t.weight < 0 for t in every))
        ranking = CombinedRanking(mixture, [vector[None] for vector in vectors], "mean")
        return _Ranked(ranking, terms, example, interpretation, _left_out(mixture))

    def _split(
        self,
        everything: Sequence[ResolvedCondition],
        chosen: Sequence[ResolvedCondition],
        opened: _Open,
        told: _Tell,
        notes: list[str],
    ) -> tuple[Example, list[NDArray[np.float32]], dict[str, str], list[ResolvedCondition]]:
        """``dior-split``: its example, vectors, what is looked for, and where."""
        question, change = self._question, self._change
        tables = opened(everything)
        words = self._reader.text(change.text, tables)
        names = [resolved.name for resolved in everything]
        imagined: list[Example] = []

        def imagine() -> Sequence[str]:
            imagined.append(told(everything))
            return imagined[-1].words

        def familiar(number: int) -> bool:
            return words.words[number] in set(tables[number].table.words)

        texts = conditions_in_change(change.text, names, words.words, imagine, familiar)
        spoken = {everything[number].table.table for number in texts}
        if not spoken:
            notes.append(
                f"'{change.text}' speaks of none of the conditions {', '.join(names)}; the model "
                "was told of the change under each, as --composer dior does."
            )
            example = told(chosen)
            found = {s.name: w for s, w in zip(chosen, example.words, strict=True) if w}
            return example, list(example.vectors), found, list(chosen)
        kept = {resolved.table.table for resolved in chosen} | spoken
        looked = [n for n, resolved in enumerate(everything) if resolved.table.table in kept]
        example = self._reader.picture(
            question.pictures[0], question.region, [tables[n] for n in looked]
        )
        vectors: list[NDArray[np.float32]] = []
        found = {}
        for place, n in enumerate(looked):
            from_words = everything[n].table.table in spoken
            source, at = (words, n) if from_words else (example, place)
            if n in texts and texts[n] != change.text:
                source, at = self._reader.text(texts[n], [tables[n]]), 0
            vectors.append(np.asarray(source.vectors[at], dtype=np.float32))
            where = "from the words" if from_words else "from the picture"
            found[names[n]] = f"{source.words[at]} ({where})" if source.words[at] else where
        return example, vectors, found, [everything[n] for n in looked]

    # -- the picture ------------------------------------------------------------

    def _image(self) -> Image.Image:
        return self._reader.image(self._question.pictures[0], self._question.region)

    def _target(self, interpretation: Interpretation) -> str:
        """What the pictures looked for show, written now if the composer needed no caption."""
        target = interpretation.target
        # No model that looks at hits knows the word that stands for the picture.
        if target and target != interpretation.modification and PICTURE not in target:
            return target
        writer = writer_of(self._parts, self._change)
        return writer.changed(self._image(), interpretation.modification).text


def _left_out(mixture: ScoreCombination) -> tuple[str, ...]:
    if not mixture.left_out:
        return ()
    return (
        f"{mixture.left_out} pictures are not embedded under all that was asked and cannot be "
        "found; `cies ingest` makes up for it.",
    )
