"""Photo: one pass of a small convolutional network, and a descriptor for each condition.

It needs no large model and answers the conditions of ``configs/photo.toml`` on photographs: kind by
an ImageNet classifier, color by a histogram of the subject, pattern, texture, material and style by
Gram matrices of activations (Gatys et al., CVPR 2016), brightness and the like by formulas.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from indexes.errors import ModelError, UsageError
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec
from ingest.encoders.devices import parse_devices
from ingest.encoders.models.catalogue import recommended, this_machine
from ingest.encoders.models.find import DEFAULT_PHOTO, find_model
from ingest.encoders.models.loading import local_revision
from ingest.encoders.options import (
    DEFAULT_OPTIONS,
    DEFAULT_PROMPT,
    EncoderChoice,
    EncoderOptions,
)
from ingest.encoders.photo.conditions import answered_by
from ingest.encoders.photo.descriptors import DIMENSION, Descriptors, load_fit
from ingest.encoders.photo.measurements import measure
from ingest.encoders.photo.network import SHA256, load_network
from ingest.encoders.photo.pictures import prepare_pictures
from ingest.encoders.photo.settings import photo_settings
from ingest.encoders.photo.words import words_of
from ingest.read.images import reduced

#: Pictures in one pass of the network.
_BATCH = 16

#: Counts changes of the code that change vectors.
_VERSION = 1


class PhotoEncoder(BaseEncoder):
    """Descriptors of photographs: kind, color, pattern, style and others."""

    METHOD = "photo"

    def __init__(self, options: EncoderOptions = DEFAULT_OPTIONS):
        """Load the network and the fitted numbers.

        Args:
            options: only ``max_side`` applies.

        Raises:
            UsageError: if another option is given.
            ModelError: if the package with the weights is missing or damaged.
        """
        options.check_for(self.METHOD, ("max_side",))
        self._max_side = options.max_side
        self._network = load_network()
        self._descriptors = Descriptors(load_fit())
        self._revision = local_revision(Path(find_model(DEFAULT_PHOTO).location))

    @classmethod
    def load(cls, choice: EncoderChoice) -> PhotoEncoder:
        """Load the network.

        Raises:
            ModelError: if the package with the weights is missing or damaged, or another model is
                named.
            UsageError: if a choice does not apply.
        """
        if choice.model != DEFAULT_PHOTO:
            raise ModelError(
                f"The method photo has one model, {DEFAULT_PHOTO}, and cannot use "
                f"{choice.model}; leave --model out, or leave --method out to use that model."
            )
        refused = {
            "--prompt": choice.prompt != DEFAULT_PROMPT,
            "--dtype": choice.dtype not in ("auto", "float32"),
            "--device-map": choice.device_map is not None,
            "--device": choice.device != "auto" and parse_devices(choice.device) != ["cpu"],
        }
        name = next((name for name, given in refused.items() if given), None)
        if name is not None:
            raise UsageError(
                f"{name} does not apply to the method photo, which runs in float32 on the "
                "processor; leave it out."
            )
        return cls(choice.options)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        settings = {
            "max_side": self._max_side,
            "dtype": "float32",
            "weights": SHA256[:16],
            "version": _VERSION,
        }
        return EncoderSpec(self.METHOD, DEFAULT_PHOTO, self._revision, settings)

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        return DIMENSION

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        return "photo, descriptors of photographs from one pass of EfficientNet-Lite0"

    @property
    def device(self) -> str:
        """See :class:`BaseEncoder`."""
        return "cpu"

    @property
    def threads(self) -> int:
        """See :class:`BaseEncoder`."""
        return torch.get_num_threads()

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`.

        Raises:
            ModelError: if no descriptor answers a condition.
        """
        for condition in conditions:
            if answered_by(condition.name) is None:
                raise ModelError(refusal(condition.name))

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`."""
        started = time.monotonic()
        self.check(conditions)
        names = [str(answered_by(condition.name)) for condition in conditions]
        shape = (len(images), len(names))
        found = Embeddings.without_words(np.zeros((*shape, DIMENSION), dtype=np.float32))
        for start in range(0, len(images), _BATCH):
            batch = [reduced(image, self._max_side) for image in images[start : start + _BATCH]]
            pictures = prepare_pictures(batch)
            measured = measure(self._network, pictures)
            rows = slice(start, start + len(batch))
            for column, name in enumerate(names):
                found.vectors[rows, column] = self._descriptors.vectors(name, measured)
                if not words:
                    continue
                for row, (word, sure) in enumerate(words_of(name, measured, pictures), start):
                    found.words[row][column] = word
                    found.word_probabilities[row, column] = sure
        self._add_timing(len(conditions), len(images), started)
        return found


def refusal(condition: str) -> str:
    """Why a condition is not answered, and the ways out: examples, or a large model."""
    model = recommended(this_machine())
    large = "a large model on a machine with more memory"
    if model is not None:
        large = f"--model {model.name} ({model.gigabytes:.1f} GB, {model.licence})"
    return (
        f"The method photo does not answer '{condition}'; it knows "
        f"{', '.join(photo_settings()['conditions'])}. Show it by examples after an ingest, with "
        f"`cies conditions learn`, or name {large}."
    )
