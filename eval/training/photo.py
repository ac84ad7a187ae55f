"""``python -m eval.training.photo``: fit the descriptors of the method photo.

Means and deviations are those of pictures of the rendered world. The maps of classes and features
come from the network's own classifier, and the mean of the features from its last normalisation. No
other picture is used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from eval.world.factors import sample_scenes
from eval.world.render import render
from ingest.encoders.photo.descriptors import (
    COLORS,
    LINEAR,
)
from ingest.encoders.photo.measurements import Measurements, measure
from ingest.encoders.photo.network import EfficientNetLite0, load_network, mean_features
from ingest.encoders.photo.pictures import prepare_pictures

#: Pictures and their seed, which no benchmark uses.
PICTURES, SEED = 300, 777

#: Numbers of the classes' map and of the features' map.
_CLASS_NUMBERS, _FEATURE_NUMBERS = 320, 192

#: Least deviation to divide by.
_LEAST = np.float32(1e-3)

_BATCH = 16


def measure_world(
    network: EfficientNetLite0,
    count: int = PICTURES,
    progress: Callable[[int], None] = lambda done: None,
) -> Measurements:
    """Measure pictures of the rendered world.

    Args:
        network: from :func:`load_network`.
        count: number of pictures.
        progress: called with the number of measured pictures.
    """
    scenes = sample_scenes(count, SEED)
    parts: list[Measurements] = []
    for start in range(0, count, _BATCH):
        images = [render(scene, 256) for scene in scenes[start : start + _BATCH]]
        parts.append(measure(network, prepare_pictures(images)))
        progress(start + len(images))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fit_descriptors(
    network: EfficientNetLite0, measured: Measurements
) -> dict[str, NDArray[np.float32]]:
    """The fitted numbers, as :class:`ingest.encoders.photo.descriptors.Descriptors` uses them.

    Args:
        network: from :func:`load_network`.
        measured: from :func:`measure_world`.
    """
    fit: dict[str, NDArray[np.float32]] = {}
    for name in (*COLORS.values(), "layout"):
        fit[f"{name}.mean"] = measured[name].mean(0)
    for part in sorted({part for parts in LINEAR.values() for part in parts}):
        fit[f"{part}.mean"] = measured[part].mean(0)
        fit[f"{part}.deviation"] = np.maximum(measured[part].std(0), _LEAST)
    fit.update(_of_classifier(network))
    return fit


def _of_classifier(network: EfficientNetLite0) -> dict[str, NDArray[np.float32]]:
    """What is known without any picture.

    Features are projected to the directions along which the classes differ most. Classes are
    projected to the main directions of their likeness, the cosine of their weights, so that a
    husky is nearer to a wolf than to a teapot.
    """
    weights = network.classifier.weight.detach().numpy().astype(np.float64)
    weights = weights - weights.mean(0)
    _, _, directions = np.linalg.svd(weights, full_matrices=False)
    alike = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(alike @ alike.T)
    return {
        "features.mean": mean_features(network),
        "features.map": directions[:_FEATURE_NUMBERS].T.astype(np.float32),
        "classes.map": vectors[:, -_CLASS_NUMBERS:].astype(np.float32),
    }


def main() -> None:
    """Fit, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m eval.training.photo", description=__doc__)
    parser.add_argument("file", type=Path, help="the safetensors file to write")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    given = parser.parse_args()
    network = load_network()

    def report(done: int) -> None:
        sys.stderr.write(f"{done} of {given.pictures} measured\n")

    measured = measure_world(network, given.pictures, report)
    fit = fit_descriptors(network, measured)
    halves = {name: np.ascontiguousarray(array.astype(np.float16)) for name, array in fit.items()}
    given.file.write_bytes(save(halves))


if __name__ == "__main__":
    main()
