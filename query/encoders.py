"""The encoders that questions were put to: each loaded once, when it is first needed."""

from __future__ import annotations

from collections.abc import Callable

from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.factory import make_encoder


class Encoders:
    """Loads encoders.

    Attributes:
        loaded: those there are by now.
    """

    def __init__(self, load: Callable[[EncoderSpec], BaseEncoder]):
        """Load nothing yet.

        Args:
            load: gives the encoder of a spec.
        """
        self.loaded: list[BaseEncoder] = []
        self._load = load

    def of(self, spec: EncoderSpec) -> BaseEncoder:
        """The encoder of a spec.

        Raises:
            GalleryMismatch: if what loads today would give other vectors.
            ModelError: if the model cannot be had.
        """
        for encoder in self.loaded:
            if encoder.spec == spec:
                return encoder
        self.loaded.append(self._load(spec))
        return self.loaded[-1]

    def named(self, model: str) -> BaseEncoder:
        """A large model by name, with everything about it as it is usual.

        Raises:
            ModelError: if it cannot be had.
        """
        encoder = make_encoder("dior", model)
        self.loaded.append(encoder)
        return encoder
