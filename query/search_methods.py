"""The methods of an open gallery that search, with every option of a search as an argument."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from ingest.encoders.base import check_text
from query.composers.modification import Modification
from query.hits import Hits
from query.question import (
    ALIKE_ABOVE,
    FEEDBACK,
    Conditions,
    Options,
    Picture,
    Question,
    as_pictures,
)


class SearchMethods(ABC):
    """Asks questions that are given as arguments."""

    @abstractmethod
    def ask(self, question: Question) -> Hits:
        """Answer a question."""

    def search(
        self,
        image: Picture | Sequence[Picture] = (),
        condition: Conditions = (),
        k: int = 10,
        *,
        like: Picture | Sequence[Picture] = (),
        dislike: Picture | Sequence[Picture] = (),
        feedback: str = next(iter(FEEDBACK)),
        unlike: Conditions = (),
        combine: str = "mean",
        crop: str | Sequence[float] | None = None,
        by: str | Sequence[str] | None = None,
        where: str | None = None,
        exclude_same: str | None = None,
        min_percentile: float = 0.0,
        sort: str = "score",
        offset: int | None = None,
        show: str | Sequence[str] | None = None,
        group_duplicates: bool = False,
        alike_above: float = ALIKE_ABOVE,
        method: str | Sequence[str] | None = None,
        fuse: bool = False,
        rerank: int | None = None,
        rerank_model: str | None = None,
        fill: bool = False,
        modify: str | Modification | None = None,
        composer: str | None = None,
        caption: str = "",
        must: Sequence[str] | None = None,
        must_not: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
        verify: int = 0,
        lvlm: str = "",
        rewriter: str = "",
        rewriter_model: str = "",
        rewriter_timeout: float = 30.0,
    ) -> Hits:
        """The pictures most like one under one condition or several, or after a change.

        A picture of the gallery is recognised by its path, its key or its bytes. Its stored
        vector is then used, no model is loaded, and it is not among the hits itself.

        Args:
            image: a file, a picture's path in the gallery, a key, a file's bytes, a PIL image or
                a uint8 array; or several of these.
            condition: one that the gallery was embedded under, or any other if it has base
                vectors; several, ``["color", "shape"]``; or several with weights, ``{"color": 2,
                "shape": 1}`` or ``["color=2", "shape"]``. A weight of 0 costs nothing. See
                :mod:`query.ranking.combination` for the formula. With ``modify`` these are the
                conditions to keep from the picture, and may be left out.
            k: how many hits, at least 1.
            like: pictures that move the query towards them under each condition, such as hits
                that the user likes; they are not found again. ``@NAME`` is a collection, here, in
                ``dislike`` and in ``image``. Without an image they are the examples.
            dislike: pictures that move it away from them, and are not found again.
            feedback: how they move it, see :mod:`query.explore.feedback`.
            unlike: conditions under which hits must differ from the examples; as ``condition``.
            combine: how the scores of several examples are combined: ``mean``, ``any`` (the
                greatest) or ``all`` (the least).
            crop: the region of the pictures to compare, ``(x, y, width, height)`` or the same as a
                text: fractions of the picture if all four are at most 1, else pixels.
            by: ``COLUMN=VALUE``, or several: the examples are the pictures that have this value.
            where: a filter such as ``"brand = 'acme' AND taken_at >= '2024'"``, exact and applied
                before the search; see :mod:`query.filters.where`.
            exclude_same: a column; pictures with a value that an example has there are left out.
            min_percentile: hits below are left out, so that there may be fewer than ``k``.
            sort: the order of the ``k`` best: ``score``, ``date`` (EXIF, newest first), ``path``,
                or a column, ascending, or descending as ``-price``.
            offset: how many of the best to leave out. If it is given, 0 included, all vectors are
                compared, so that pages neither repeat nor miss a picture.
            show: the columns that hits carry; all of the user's by default.
            group_duplicates: fold near-duplicates, alike under all conditions of the gallery,
                into the best of them.
            alike_above: if the best hit lies below this percentile, ``hits.nothing_alike`` is true.
            method: ``METHOD`` or ``METHOD:MODEL`` that answers, or several, which are fused; by
                default the gallery's preferred one, and a projection if no table has the
                condition.
            fuse: fuse all methods of the gallery that answer the conditions.
            rerank: of a projection's best hits, how many are embedded by a large model and put in
                its order; 0 for none, ``None`` for what is worth its time.
            rerank_model: the large model, if the gallery has none of its own.
            fill: let the next ingest embed the whole gallery under the condition.
            modify: a change of the picture in words, or all of it as a
                :class:`query.composers.modification.Modification`, whose fields the rest are.
            composer: see ``Modification``, as the remaining arguments.
            caption: see there.
            must: see there.
            must_not: see there.
            weights: see there.
            verify: how many of the best a model looks at together with the query, which puts them
                in its order; also without a change.
            lvlm: that model, and the one that writes captions; the gallery's own by default.
            rewriter: see there.
            rewriter_model: see there.
            rewriter_timeout: see there.

        Raises:
            UnknownCondition: if there is none of that name; the message lists all.
            UsageError: if the picture cannot be read, or ``k`` is below 1.
            ModelError: if a new picture is given and the model cannot be loaded.
        """
        pictures = () if isinstance(image, Sequence) and not image else as_pictures(image)
        options = Options(
            like=like,
            dislike=dislike,
            feedback=feedback,
            unlike=unlike,
            combine=combine,
            crop=crop,
            by=by,
            where=where,
            exclude_same=exclude_same,
            min_percentile=min_percentile,
            sort=sort,
            offset=offset,
            show=show,
            group_duplicates=group_duplicates,
            alike_above=alike_above,
            method=method,
            fuse=fuse,
            rerank=rerank,
            rerank_model=rerank_model,
            fill=fill,
            modify=modify,
            composer=composer,
            caption=caption,
            must=must,
            must_not=must_not,
            weights=weights or {},
            verify=verify,
            lvlm=lvlm,
            rewriter=rewriter,
            rewriter_model=rewriter_model,
            rewriter_timeout=rewriter_timeout,
        )
        return self.ask(Question.of(pictures, condition, k, **options))

    def search_text(
        self,
        text: str,
        condition: Conditions,
        k: int = 10,
        *,
        like: Picture | Sequence[Picture] = (),
        dislike: Picture | Sequence[Picture] = (),
        feedback: str = next(iter(FEEDBACK)),
        unlike: Conditions = (),
        where: str | None = None,
        min_percentile: float = 0.0,
        sort: str = "score",
        offset: int | None = None,
        show: str | Sequence[str] | None = None,
        group_duplicates: bool = False,
        alike_above: float = ALIKE_ABOVE,
        method: str | Sequence[str] | None = None,
        fuse: bool = False,
        rerank: int | None = None,
        rerank_model: str | None = None,
        fill: bool = False,
        verify: int = 0,
        lvlm: str = "",
    ) -> Hits:
        """The pictures that fit a text under a condition: "red heart" under "color".

        The model that embedded the gallery embeds the text in place of a picture. Texts and
        pictures lie apart in the space of its states, so that scores and percentiles are lower
        than between pictures; use them for the order only.

        Args:
            text: what to look for.
            condition: as for :meth:`search`.
            k: how many hits, at least 1.
            like: as for :meth:`search`.
            dislike: as for :meth:`search`.
            feedback: as for :meth:`search`.
            unlike: as for :meth:`search`.
            where: as for :meth:`search`.
            min_percentile: as for :meth:`search`.
            sort: as for :meth:`search`.
            offset: as for :meth:`search`.
            show: as for :meth:`search`.
            group_duplicates: as for :meth:`search`.
            alike_above: as for :meth:`search`.
            method: as for :meth:`search`.
            fuse: as for :meth:`search`.
            rerank: as for :meth:`search`.
            rerank_model: as for :meth:`search`.
            fill: as for :meth:`search`.
            verify: as for :meth:`search`.
            lvlm: as for :meth:`search`.

        Raises:
            UnknownCondition: if there is none of that name; the message lists all.
            UsageError: if the text cannot be embedded, or ``k`` is below 1.
            ModelError: if the model cannot be loaded or was not trained on texts.
        """
        check_text(text)
        options = Options(
            like=like,
            dislike=dislike,
            feedback=feedback,
            unlike=unlike,
            where=where,
            min_percentile=min_percentile,
            sort=sort,
            offset=offset,
            show=show,
            group_duplicates=group_duplicates,
            alike_above=alike_above,
            method=method,
            fuse=fuse,
            rerank=rerank,
            rerank_model=rerank_model,
            fill=fill,
            verify=verify,
            lvlm=lvlm,
        )
        return self.ask(Question.of((), condition, k, text, **options))
