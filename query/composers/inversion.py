"""Composers by textual inversion: the picture becomes a pseudo-word of the sentence.

SEARLE and SEARLE-OTI (Baldrati et al., ICCV 2023), Pic2Word (Saito et al., CVPR 2023), LinCIR (Gu
et al., CVPR 2024), PALAVRA (Cohen et al., ECCV 2022). They differ in how they find the
pseudo-word. All search by "a photo of $ that {change}", where the pseudo-word replaces $; Pic2Word,
as published, by "a photo of $, {change}". The user can give another text by ``--caption``, with a $
in it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexes.errors import ModelError, UsageError
from query.composers.answer_cache import cached_answer
from query.composers.base import ComposedQuery, ComposerContext, ComposerInput, unit_vector
from query.question import shortened

if TYPE_CHECKING:
    from ingest.encoders.inversion.encoder import Inversion

#: Represents the picture in a text.
PICTURE = "$"


class _InversionComposer:
    """Finds the pseudo-word of a picture and embeds the sentence with it."""

    name = ""

    def compose(self, query: ComposerInput, context: ComposerContext) -> ComposedQuery:
        """See :class:`Composer`."""
        weights = query.weights(self.name)
        inversion = inversion_of(self.name, context)
        change = query.modification
        text = change.caption or inversion.query_text(self.name, change.text)
        if PICTURE not in text:
            raise UsageError(
                f"--caption {shortened(text)} has no {PICTURE}, which represents the picture for "
                f"the composer {self.name}; put one in, or choose --composer text."
            )
        token = self._token(inversion, query, context)
        vector = inversion.encode(text, token[None])[0]
        interpretation = query.interpret(self.name, target=text, weights=weights)
        return ComposedQuery(unit_vector(vector), interpretation)

    def _token(
        self, inversion: Inversion, query: ComposerInput, context: ComposerContext
    ) -> NDArray[np.float32]:
        norms = None
        if inversion.takes_raw(self.name):
            norm = query.norm()
            length = context.norm(query.image()) if norm is None else norm
            norms = np.array([length], dtype=np.float32)
        token: NDArray[np.float32] = inversion.tokens(self.name, query.vector[None], norms)[0]
        return token


def inversion_of(name: str, context: ComposerContext) -> Inversion:
    """Replaces words of sentences by pseudo-words.

    Raises:
        ModelError: if the context has no model that can.
    """
    if not hasattr(context, "inversion"):
        raise ModelError(f"The composer {name} cannot be used here; choose another.")
    return context.inversion()


class SearleComposer(_InversionComposer):
    """SEARLE: a network trained on the pseudo-words that SEARLE-OTI finds."""

    name = "searle"
    about = "the picture as a word of the sentence, by a network taught what searle-oti finds"


class SearleOtiComposer(_InversionComposer):
    """SEARLE-OTI: 350 steps of gradient descent for a picture; the pseudo-word is then cached."""

    name = "searle-oti"
    about = "the picture as a word of the sentence, found by optimisation; slow"

    def _token(
        self, inversion: Inversion, query: ComposerInput, context: ComposerContext
    ) -> NDArray[np.float32]:
        vector = query.vector
        digest = hashlib.sha256(vector.tobytes()).hexdigest()
        about = {**inversion.cache_identity(self.name), "vector": digest}

        def optimise() -> str:
            return json.dumps(inversion.tokens(self.name, vector[None])[0].tolist())

        return np.array(json.loads(cached_answer(about, None, optimise)), dtype=np.float32)


class Pic2WordComposer(_InversionComposer):
    """Pic2Word: a network trained to bring the sentence with the pseudo-word near the picture."""

    name = "pic2word"
    about = "the picture as a word of the sentence, by a network taught on pictures"


class LincirComposer(_InversionComposer):
    """LinCIR: a network trained on texts alone."""

    name = "lincir"
    about = "the picture as a word of the sentence, by a network taught on texts alone"


class PalavraComposer(_InversionComposer):
    """PALAVRA: a network over sets of pictures, here of one, and 30 steps of gradient descent."""

    name = "palavra"
    about = "the picture as a word of the sentence, by a network and 30 steps from there"
