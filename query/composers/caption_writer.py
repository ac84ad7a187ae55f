"""Puts pictures and changes into words: an LVLM alone, or with a language model that rewrites."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from indexes.errors import ModelError
from query.composers.answer_cache import cached_answer
from query.composers.base import WrittenCaption, settings
from query.composers.caption_parsing import written
from query.composers.endpoint import Endpoint

#: Words that name nothing by themselves.
_SMALL = frozenset("a an the of in with and is are to".split())


class Speaks(Protocol):
    """The part of :class:`ingest.encoders.vlm.speaker.Speaker` that is used here."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def revision(self) -> str:
        """All that changes its answers."""
        ...

    @property
    def schooled(self) -> bool:
        """Whether it answers nothing but what it was schooled on."""
        ...

    def say(self, images: Sequence[Image.Image], question: str, most: int = 120) -> list[str]:
        """Answer a question about each picture."""
        ...

    def continued(self, text: str, most: int = 120) -> str:
        """Answer a question in which no picture has a part."""
        ...


class LvlmCaptionWriter:
    """Captions by an LVLM; what a change does to them by the same, or by an endpoint."""

    def __init__(self, speaker: Speaks, endpoint: Endpoint | None = None):
        """Ask nothing yet.

        Args:
            speaker: looks at pictures.
            endpoint: rewrites captions; ``None`` to let the speaker do it.
        """
        self._speaker = speaker
        self._endpoint = endpoint
        self._prompts = settings()["prompts"]

    @property
    def name(self) -> str:
        """See :class:`CaptionWriter`."""
        if self._endpoint is None:
            return self._speaker.name
        return f"{self._speaker.name} and {self._endpoint.model}"

    def caption(self, image: Image.Image) -> str:
        """See :class:`CaptionWriter`.

        Raises:
            ModelError: if the model says nothing.
        """
        kind = "schooled" if self._speaker.schooled else "general"
        said = " ".join(self._look(image, self._prompts[kind]["describe"]).split())
        if not said:
            raise ModelError(
                f"{self._speaker.name} says nothing about the picture; name another --lvlm, or "
                "give --caption and a composer that needs no captions, such as sum."
            )
        return said

    def changed(self, image: Image.Image, change: str) -> WrittenCaption:
        """See :class:`CaptionWriter`."""
        if self._endpoint is None and self._speaker.schooled:
            return written(self._changed(image, change), change, self._speaker.name)
        question = self._prompts["general"]["rewrite"].strip()
        asked = question.format(caption=_safe(self.caption(image)), change=_safe(change))
        return written(self._rewrite(asked), change, self._rewriter)

    def reasoned(self, image: Image.Image, change: str) -> WrittenCaption:
        """See :class:`CaptionWriter`.

        A schooled model reasons about nothing; what its two captions differ in is what must and
        must not be there.
        """
        general = self._prompts["general"]
        if self._endpoint is not None:
            question = general["reason_from_text"].strip()
            asked = question.format(caption=_safe(self.caption(image)), change=_safe(change))
            return written(self._rewrite(asked), change, self._rewriter)
        if not self._speaker.schooled:
            asked = general["reason"].strip().format(change=_safe(change))
            return written(self._look(image, asked, 400), change, self._speaker.name)
        after = self.changed(image, change)
        if after.note:
            return after
        must, must_not = differences(self.caption(image), after.text)
        return WrittenCaption(after.text, must, must_not, after.note)

    @property
    def _rewriter(self) -> str:
        return self._speaker.name if self._endpoint is None else self._endpoint.model

    def _changed(self, image: Image.Image, change: str) -> str:
        question = self._prompts["schooled"]["changed"].format(change=_safe(change).rstrip(". "))
        return self._look(image, question)

    def _look(self, image: Image.Image, question: str, most: int = 120) -> str:
        speaker = self._speaker
        about = {
            "model": speaker.name,
            "revision": speaker.revision,
            "question": question,
            "most": str(most),
        }
        return cached_answer(about, image, lambda: speaker.say([image], question, most)[0])

    def _rewrite(self, question: str) -> str:
        endpoint, speaker = self._endpoint, self._speaker
        if endpoint is None:
            about = {"model": speaker.name, "revision": speaker.revision, "question": question}
            return cached_answer(about, None, lambda: speaker.continued(question))
        about = {"model": endpoint.model, "url": endpoint.url, "question": question}
        return cached_answer(about, None, lambda: endpoint.answer(question))


def differences(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What only the second of two captions says, and what only the first does.

    A word after "on" is taken with it, since a ground is another thing than a color.
    """
    old, new = before.lower().split(), after.lower().split()

    def phrases(words: list[str], start: int, stop: int) -> list[str]:
        found = [word.strip(".,;:") for word in words[start:stop]]
        named = [word for word in found if word and word not in _SMALL]
        if not named:
            return []
        leading = ["on"] if start and words[start - 1] == "on" and named[0] != "on" else []
        return [" ".join([*leading, *named])]

    must: list[str] = []
    must_not: list[str] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        if kind != "equal":
            must_not += phrases(old, i, j)
            must += phrases(new, k, m)
    return tuple(dict.fromkeys(must)), tuple(dict.fromkeys(must_not))


def _safe(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())
