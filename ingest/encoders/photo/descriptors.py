"""From measurements to one unit vector for each condition.

Most descriptors are standardised measurements, projected to :data:`DIMENSION` numbers. Means and
deviations are those of the rendered world (:mod:`eval.training.photo`); the maps of classes and
features come from the network's own classifier. Single values become points on a line, and the
cosine of two falls with their distance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from indexes.errors import ModelError
from indexes.vectors import Vectors, unit
from ingest.encoders.photo.measurements import Measurements

#: Length of a vector, under every condition.
DIMENSION = 512

#: The file of fitted numbers, in ``ingest/encoders/builtin``.
MODEL, FILE = "efficientnet-lite0", "descriptors.safetensors"

#: Divisor of the logits before the classes' probabilities, so that unlikely classes count too.
TEMPERATURE = 1.5

#: Share of the plain features beside the classes in the kind.
PLAIN_SHARE = 0.8

#: The fitted numbers: name to array.
Fit = Mapping[str, NDArray[np.float32]]


#: Condition to the measurements that describe it, each with equal weight. Chosen on the rendered
#: world, and on half of one set of real pictures where docs/photographs.md says so.
LINEAR: Mapping[str, tuple[str, ...]] = {
    "pattern": ("subject gram 2", "subject gram 7"),
    "texture": ("subject gram 2", "subject gram 4"),
    "material": ("subject gram 4", "subject gram 7"),
    "style": ("gram 2", "gram 4"),
    "frame": ("channels", "grid"),
}

#: Condition to the histogram that describes it.
COLORS: Mapping[str, str] = {
    "color": "subject colors",
    "background color": "ground colors",
    "palette": "colors",
    "line weight": "light",
}

#: Condition to the logits and the features from which the kind of thing is read.
KINDS: Mapping[str, tuple[str, str]] = {
    "kind": ("logits", "features"),
    "shape": ("subject logits", "subject features"),
}

#: Conditions that are one measured value.
VALUES = (
    "brightness",
    "contrast",
    "colorfulness",
    "warmth",
    "sharpness",
    "detail",
    "aspect ratio",
)

#: The picture as a whole, without a condition.
WHOLE = "unconditional"

#: Points along the line of a value, and the width of a value around them.
_POINTS, _WIDTH = 48, 0.05


@cache
def sign_projection(part: str, numbers: int) -> NDArray[np.float32]:
    """A fixed random projection that keeps cosines, of one measurement.

    Returns:
        float32 [numbers, DIMENSION].

    Signs are bits of SHAKE-256, so that they are the same everywhere (Achlioptas, JCSS 2003).
    """
    bits = np.frombuffer(
        hashlib.shake_256(f"cies photo {part}".encode()).digest(numbers * DIMENSION // 8),
        dtype=np.uint8,
    )
    signs = np.unpackbits(bits).astype(np.float32) * 2 - 1
    return signs.reshape(numbers, DIMENSION) / np.float32(np.sqrt(DIMENSION))


def fitted_file() -> bytes:
    """The content of the file of fitted numbers.

    Raises:
        ModelError: if it cannot be read.
    """
    file = resources.files("ingest.encoders").joinpath("builtin", MODEL, FILE)
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"The file {file} of the method photo cannot be read ({error}); install CIES again."
        ) from error


def load_fit() -> Fit:
    """The fitted numbers, as float32.

    Raises:
        ModelError: if the file is missing or damaged.
    """
    content = fitted_file()
    try:
        return {name: array.astype(np.float32) for name, array in load(content).items()}
    except Exception as error:
        raise ModelError(
            f"The file {FILE} of the method photo is damaged ({error}); install CIES again."
        ) from error


class Descriptors:
    """Turns measurements into unit vectors."""

    def __init__(self, fit: Fit):
        """Use fitted numbers, from :func:`load_fit`."""
        self._fit = fit

    def vectors(self, condition: str, measured: Measurements) -> Vectors:
        """The vectors of some pictures under one condition: float32 [pictures, DIMENSION].

        Args:
            condition: a key of :data:`LINEAR`, :data:`COLORS` or :data:`KINDS`, one of
                :data:`VALUES`, ``layout`` or :data:`WHOLE`.
            measured: of :func:`ingest.encoders.photo.measurements.measure`.
        """
        describe = self._describer(condition)
        rows = describe(measured)
        padded = np.zeros((len(rows), DIMENSION), dtype=np.float32)
        padded[:, : rows.shape[1]] = rows
        # A picture without anything to measure, such as a plain one, has a vector all the same.
        empty = np.linalg.norm(padded, axis=1) < 1e-6
        padded[empty, -1] = 1
        return unit(padded)

    def _describer(self, condition: str) -> Callable[[Measurements], NDArray[np.float32]]:
        if condition in LINEAR:
            return lambda measured: self._linear(condition, measured)
        if condition in COLORS:
            name = COLORS[condition]
            return lambda measured: measured[name] - self._fit[f"{name}.mean"]
        if condition in VALUES:
            return lambda measured: points_of_values(measured[condition][:, 0])
        if condition == "layout":
            return lambda measured: measured["layout"] - self._fit["layout.mean"]
        if condition == WHOLE:
            return lambda measured: self._plain(measured["features"])
        logits, features = KINDS[condition]
        return lambda measured: self._kind(measured[logits], measured[features])

    def _linear(self, condition: str, measured: Measurements) -> NDArray[np.float32]:
        rows = np.zeros((len(measured["features"]), DIMENSION), dtype=np.float32)
        for part in LINEAR[condition]:
            scaled = measured[part] - self._fit[f"{part}.mean"]
            scaled = scaled / (self._fit[f"{part}.deviation"] * np.float32(scaled.shape[1] ** 0.5))
            rows += scaled @ sign_projection(part, scaled.shape[1])
        return rows

    def _plain(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((features - self._fit["features.mean"]) @ self._fit["features.map"])

    def _kind(
        self, logits: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        roots = np.sqrt(probabilities(logits, TEMPERATURE))
        classes = unit(roots @ self._fit["classes.map"])
        return np.concatenate([classes, PLAIN_SHARE * unit(self._plain(features))], axis=1)


def probabilities(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Softmax of logits / temperature: float32 [pictures, classes]."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def points_of_values(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors whose cosine falls with the distance of their values.

    Half of a vector is a bell around the value, which tells near values apart; half is an angle
    from 0 to 90 degrees, which orders far ones.

    Args:
        values: float32 [pictures], 0 to 1.

    Returns:
        float32 [pictures, 50], unit rows.
    """
    points = np.linspace(0, 1, _POINTS, dtype=np.float32)
    bells = unit(np.exp(-((values[:, None] - points) ** 2) / (2 * _WIDTH**2)).astype(np.float32))
    angles = values * np.float32(np.pi / 2)
    arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.concatenate([bells, arc], axis=1) * np.float32(np.sqrt(0.5))
