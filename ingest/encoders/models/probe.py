"""Checks a loaded model with a small picture: broken files give no numbers, or not finite ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from PIL import Image

from indexes.errors import ModelError
from ingest.encoders.models.find import ModelSource


def probe_picture() -> Image.Image:
    """A small RGB picture in which all values of a channel occur."""
    gradient = Image.linear_gradient("L").resize((64, 48))
    return Image.merge("RGB", (gradient, gradient.rotate(180), gradient))


def check_features(features: Mapping[str, torch.Tensor], source: ModelSource) -> None:
    """Refuse an image processor that makes numbers which are not finite.

    Args:
        features: tensors of the probe picture.
        source: the model.

    Raises:
        ModelError: if one is not finite.
    """
    for value in features.values():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(
                f"The image processor of {source.name} divides by zero or by something that is no "
                "number; restore image_mean, image_std and rescale_factor in its "
                "preprocessor_config.json, or name another model."
            )


def check_vectors(vectors: torch.Tensor, source: ModelSource) -> None:
    """Refuse a model that computes no vectors.

    Args:
        vectors: of the probe picture or of a probe text; any shape.
        source: the model.

    Raises:
        ModelError: if one number is not finite, or all are zero.
    """
    if not torch.isfinite(vectors).all() or not vectors.any():
        raise ModelError(
            f"The weights of {source.name} hold values that are no numbers, or nothing at all: its "
            "vectors cannot be used; copy or download them again, or name another model."
        )
