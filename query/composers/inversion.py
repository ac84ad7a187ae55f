"""Composers by textual inversion: the picture is put into the sentence as a word of its own.

SEARLE and SEARLE-OTI (Baldrati et al., ICCV 2023), Pic2Word (Saito et al., CVPR 2023), LinCIR (Gu
et al., CVPR 2024), PALAVRA (Cohen et al., ECCV 2022). They differ in how they find the word; all
ask "a photo of $ that {change}" with it in the place of $. The text may be given in other words, by
``--caption``, with a $ of its own.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from indexes.errors import ModelError, UsageError
from query.composers.answer_cache import cached_answer
from query.composers.base import (
    ComposedQuery,
    Composer,
    ComposerInput,
    Interpretation,
    Tools,
    direction,
    weights_of,
)
from query.question import shortened

if TYPE_CHECKING:
    from ingest.encoders.inversion.encoder import Inversion

#: Stands for the picture in a text.
PICTURE = "$"


@runtime_checkable
class InversionTools(Protocol):
    """What these composers work with beside :class:`query.composers.base.Tools`."""

    def inversion(self) -> Inversion:
        """Puts words into the sentences of the base model.

        Raises:
            ModelError: if that model takes none.
        """
        ...


class _InversionComposer:
    """One of them: the word is found, and the sentence is read."""

    name = ""

    def compose(self, asked: ComposerInput, tools: Tools) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = weights_of(self.name, {}, asked.modification.weights)
        inversion = inversion_of(self.name, tools)
        text = asked.modification.caption or inversion.text(self.name, asked.modification.text)
        if PICTURE not in text:
            raise UsageError(
                f"--caption {shortened(text)} has no {PICTURE}, which stands for the picture to "
                f"the composer {self.name}; put one in, or choose --composer text."
            )
        token = self._token(inversion, asked.vector)
        vector = inversion.read(text, token[None])[0]
        interpretation = Interpretation(
            self.name, asked.modification.text, target=text, weights=weights
        )
        return ComposedQuery(direction(vector), interpretation)

    def _token(self, inversion: Inversion, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = inversion.tokens(self.name, vector[None])[0]
        return found


def inversion_of(name: str, tools: Tools) -> Inversion:
    """What puts words into sentences.

    Raises:
        ModelError: if it cannot be had here.
    """
    if not isinstance(tools, InversionTools):
        raise ModelError(f"The composer {name} cannot be asked here; choose another.")
    return tools.inversion()


class SearleComposer(_InversionComposer):
    """SEARLE: a network, taught the words that SEARLE-OTI finds."""

    name = "searle"
    about = "the picture as a word of the sentence, by a network taught what searle-oti finds"


class SearleOtiComposer(_InversionComposer):
    """SEARLE-OTI: 350 steps of descent for a picture, then kept with the answers."""

    name = "searle-oti"
    about = "the picture as a word of the sentence, found by optimisation; slow"

    def _token(self, inversion: Inversion, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        seen = hashlib.sha256(vector.tobytes()).hexdigest()
        about = {**inversion.decides(self.name), "vector": seen}

        def ask() -> str:
            return json.dumps(inversion.tokens(self.name, vector[None])[0].tolist())

        return np.array(json.loads(cached_answer(about, None, ask)), dtype=np.float32)


class Pic2WordComposer(_InversionComposer):
    """Pic2Word: a network, taught that the sentence with the word is near the picture."""

    name = "pic2word"
    about = "the picture as a word of the sentence, by a network taught on pictures"


class LincirComposer(_InversionComposer):
    """LinCIR: a network, taught on texts alone."""

    name = "lincir"
    about = "the picture as a word of the sentence, by a network taught on texts alone"


class PalavraComposer(_InversionComposer):
    """PALAVRA: a network over sets of pictures, here of one; its word is moved by 30 steps."""

    name = "palavra"
    about = "the picture as a word of the sentence, by a network and 30 steps from there"


INVERSION: tuple[type[Composer], ...] = (
    SearleComposer,
    SearleOtiComposer,
    Pic2WordComposer,
    LincirComposer,
    PalavraComposer,
)
