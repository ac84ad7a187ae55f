"""Writes captions with an LVLM, alone or with a language model that rewrites them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from PIL import Image

from indexes.errors import ModelError
from query.composers.answer_cache import cached_answer
from query.composers.base import WrittenCaption, compose_settings
from query.composers.caption_parsing import parse_caption
from query.composers.endpoint import Endpoint

if TYPE_CHECKING:
    from ingest.encoders.vlm.generation import TextGenerator

#: Words that name no object.
_FUNCTION_WORDS = frozenset("a an the of in with and is are to".split())


class LvlmCaptionWriter:
    """Captions by an LVLM. It or a language model at an endpoint applies changes to them."""

    def __init__(self, generator: TextGenerator, endpoint: Endpoint | None = None):
        """Store the arguments; nothing is asked yet.

        Args:
            generator: looks at pictures.
            endpoint: rewrites captions; ``None`` to let the generator do it.
        """
        self._generator = generator
        self._endpoint = endpoint
        self._prompts = compose_settings()["prompts"]

    @property
    def name(self) -> str:
        """See :class:`CaptionWriter`."""
        if self._endpoint is None:
            return self._generator.name
        return f"{self._generator.name} and {self._endpoint.model}"

    def caption(self, image: Image.Image) -> str:
        """See :class:`CaptionWriter`.

        Raises:
            ModelError: if the model says nothing.
        """
        kind = "schooled" if self._generator.declares_conditions else "general"
        caption = " ".join(self._look(image, self._prompts[kind]["describe"]).split())
        if not caption:
            raise ModelError(
                f"{self._generator.name} says nothing about the picture; name another --lvlm, or "
                "give --caption and a composer that needs no captions, such as sum."
            )
        return caption

    def changed(self, image: Image.Image, change: str) -> WrittenCaption:
        """See :class:`CaptionWriter`."""
        if self._endpoint is None and self._generator.declares_conditions:
            prompt = self._prompts["schooled"]["changed"]
            question = prompt.format(change=_one_line(change).rstrip(". "))
            return parse_caption(self._look(image, question), change, self._generator.name)
        return self._rewrite("rewrite", image, change)

    def reasoned(self, image: Image.Image, change: str) -> WrittenCaption:
        """See :class:`CaptionWriter`.

        A model trained on captions alone cannot reason; the differences between its captions
        before and after the change are the objects that must and must not be there.
        """
        if self._endpoint is not None:
            return self._rewrite("reason_from_text", image, change)
        if not self._generator.declares_conditions:
            prompt = self._prompts["general"]["reason"]
            question = prompt.strip().format(change=_one_line(change))
            return parse_caption(self._look(image, question, 400), change, self._generator.name)
        after = self.changed(image, change)
        if after.note:
            return after
        must, must_not = differences(self.caption(image), after.text)
        return WrittenCaption(after.text, must, must_not, after.note)

    def _rewrite(self, prompt: str, image: Image.Image, change: str) -> WrittenCaption:
        """Change a caption of the picture, by the endpoint or by the generator."""
        question = self._prompts["general"][prompt].strip()
        caption = _one_line(self.caption(image))
        question = question.format(caption=caption, change=_one_line(change))
        endpoint, generator = self._endpoint, self._generator
        if endpoint is None:
            about = {"model": generator.name, "revision": generator.revision, "question": question}
            answer = cached_answer(about, None, lambda: generator.generate_text(question))
            return parse_caption(answer, change, generator.name)
        about = {"model": endpoint.model, "url": endpoint.url, "question": question}
        answer = cached_answer(about, None, lambda: endpoint.answer(question))
        return parse_caption(answer, change, endpoint.model)

    def _look(self, image: Image.Image, question: str, most: int = 120) -> str:
        """The LVLM's answer about a picture, of at most ``most`` tokens."""
        generator = self._generator
        about = {
            "model": generator.name,
            "revision": generator.revision,
            "question": question,
            "most": str(most),
        }
        return cached_answer(about, image, lambda: generator.generate([image], question, most)[0])


def differences(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The phrases that only the second of two captions has, and those that only the first has.

    A word after "on" is taken with it, since a background is not the same thing as a color.
    """
    old, new = before.lower().split(), after.lower().split()

    def phrases(words: list[str], start: int, stop: int) -> list[str]:
        found = [word.strip(".,;:") for word in words[start:stop]]
        named = [word for word in found if word and word not in _FUNCTION_WORDS]
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


def _one_line(text: str) -> str:
    return " ".join(text.split())
