"""What is measured on a picture: statistics of the network's activations, colors, and formulas.

The subject of a picture is where the last activations are strong and near the middle. Statistics
"of the subject" are weighted by that, so that a busy ground counts less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ingest.encoders.photo.colors import lab
from ingest.encoders.photo.network import SIDE, EfficientNetLite0
from ingest.encoders.photo.pictures import SMALL, PreparedPictures

#: Bins of a color histogram along lightness and both color axes, and the reach of these axes.
_BINS, _REACH = (5, 8, 8), 70.0

#: Numbers in a color histogram.
COLOR_BINS = 5 * 8 * 8

#: Bins of a histogram of light.
LIGHT_BINS = 16

#: Width of the middle of a picture, where 1 is half of its side.
_MIDDLE = 0.6

#: Power of the activations' strength in the weight of the subject. Chosen on half of one set of
#: real pictures (docs/photographs.md).
_STRENGTH = 4

#: Blocks whose Gram matrices are measured over the whole picture and over the subject.
_WHOLE_GRAMS, _SUBJECT_GRAMS = (2, 4), (2, 4, 7)

#: Shares of red, green and blue in the light of a pixel (ITU-R BT.601), from 0 to 255 to 0 to 1.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255

Measurements = Mapping[str, NDArray[np.float32]]


@torch.inference_mode()
def measure(network: EfficientNetLite0, pictures: PreparedPictures) -> Measurements:
    """Measure a batch of pictures.

    Args:
        network: from :func:`ingest.encoders.photo.network.load_network`.
        pictures: at least one.

    Returns:
        Name to float32 [pictures, numbers]. ``features`` and ``subject features`` are means of
        the last activations, ``logits`` and ``subject logits`` the classifier's of both;
        ``gram N`` and ``subject gram N`` are Gram matrices of block N (upper triangle, signed
        square root); ``channels`` and ``grid`` are deviations and coarse maps of block 10;
        ``colors``, ``subject colors``, ``ground colors`` and ``light`` are histograms (square
        roots); ``layout`` is a coarse map of light and of the subject; ``strength`` is that of the
        subject, 7 x 7; the rest are single values from 0 to 1.
    """
    pixels = torch.from_numpy(pictures.pixels).permute(0, 3, 1, 2)
    found = network(pixels.float().div(127.5).sub(1))
    strength = found.last.square().mean(1).sqrt()
    strength = strength / strength.mean((1, 2), keepdim=True).clamp_min(1e-6)
    middle = torch.from_numpy(_middle(strength.shape[-1]))
    subject = strength.pow(_STRENGTH) * middle + 1e-6
    subject_features = _mean(found.last, subject)
    tensors: dict[str, Tensor] = {
        "features": found.features,
        "subject features": subject_features,
        "logits": found.logits,
        "subject logits": network.classifier(subject_features),
        "channels": _deviations(found.blocks[10]),
        "grid": functional.adaptive_avg_pool2d(found.blocks[10], 4).flatten(1),
    }
    for number in _WHOLE_GRAMS:
        tensors[f"gram {number}"] = _gram(found.blocks[number], torch.ones_like(subject))
    for number in _SUBJECT_GRAMS:
        tensors[f"subject gram {number}"] = _gram(found.blocks[number], subject)
    measured = {name: tensor.numpy() for name, tensor in tensors.items()}
    strong = strength.pow(_STRENGTH).numpy()
    return {**measured, "strength": strong.reshape(len(strong), -1), **_of_pixels(pictures, strong)}


def subject_weights(
    strong: NDArray[np.float32], inside: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The weight of each small pixel as part of the subject: float32 [pictures, SMALL, SMALL]."""
    return np.asarray(_enlarged(strong) * _middle(SMALL) * inside + 1e-6 * inside + 1e-12)


def ground_weights(strong: NDArray[np.float32], inside: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weight of each small pixel as part of the ground: float32 [pictures, SMALL, SMALL]."""
    away = 1 - _middle(SMALL)
    return np.asarray(away / (1 + _enlarged(strong)) ** 2 * inside + 1e-6 * inside + 1e-12)


def _of_pixels(
    pictures: PreparedPictures, strong: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """What is measured on the small copies."""
    count = len(pictures.small)
    colors, inside = lab(pictures.small), pictures.inside
    subject, ground = subject_weights(strong, inside), ground_weights(strong, inside)
    weights = inside / inside.sum((1, 2), keepdims=True)

    def mean(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return np.asarray((values * weights).sum((1, 2)))

    light = np.asarray(colors[..., 0] / 100, dtype=np.float32)
    brightness = mean(light)
    contrast = np.sqrt(mean((light - brightness[:, None, None]) ** 2))
    chroma = np.hypot(colors[..., 1], colors[..., 2])
    warmth = mean(np.asarray(colors[..., 2] + 0.3 * colors[..., 1], dtype=np.float32))
    sharpness, detail = _edges(pictures)
    coarse = light.reshape(count, 8, SMALL // 8, 8, SMALL // 8).mean((2, 4)).reshape(count, -1)
    places = strong.reshape(count, -1)
    places = places / np.linalg.norm(places, axis=1, keepdims=True)
    values = {
        "brightness": brightness,
        "contrast": np.minimum(contrast * 2, 1),
        "colorfulness": np.minimum(mean(chroma) / 80, 1),
        "warmth": np.clip(0.5 + warmth / 80, 0, 1),
        "sharpness": sharpness,
        "detail": detail,
        "aspect ratio": pictures.aspects,
    }
    return {
        "colors": _histograms(colors, inside + 1e-12),
        "subject colors": _histograms(colors, subject),
        "ground colors": _histograms(colors, ground),
        "light": _light_histograms(light, inside),
        "layout": np.concatenate([coarse - coarse.mean(1, keepdims=True), places], axis=1),
        **{name: np.asarray(value, dtype=np.float32)[:, None] for name, value in values.items()},
    }


def _middle(side: int) -> NDArray[np.float32]:
    """A bell over a square: float32 [side, side], 1 in the middle."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    return np.asarray(np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * _MIDDLE**2)))


def _enlarged(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps of 7 x 7 at the size of the small copies."""
    tensor = torch.from_numpy(maps)[:, None]
    size = (SMALL, SMALL)
    large = functional.interpolate(tensor, size=size, mode="bilinear", align_corners=False)
    return np.asarray(large[:, 0].numpy())


def _mean(maps: Tensor, weights: Tensor) -> Tensor:
    """Weighted means of channels: [pictures, channels]."""
    shares = weights / weights.sum((1, 2), keepdim=True)
    return torch.einsum("nchw,nhw->nc", maps, shares)


def _deviations(maps: Tensor) -> Tensor:
    return maps.flatten(2).std(2, correction=0)


def _gram(maps: Tensor, weights: Tensor) -> Tensor:
    """Weighted covariances of channels: the upper triangle, with a signed square root."""
    side = maps.shape[-1]
    shares = functional.interpolate(
        weights[:, None], size=(side, side), mode="bilinear", align_corners=False
    )[:, 0]
    shares = shares / shares.sum((1, 2), keepdim=True)
    mean = torch.einsum("nchw,nhw->nc", maps, shares)
    centred = ((maps - mean[:, :, None, None]) * shares.sqrt()[:, None]).flatten(2)
    gram = centred @ centred.transpose(1, 2)
    rows, columns = torch.triu_indices(gram.shape[1], gram.shape[1]).unbind()
    upper = gram[:, rows, columns]
    return upper.sign() * upper.abs().sqrt()


def _histograms(colors: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Color histograms in which each pixel counts for the eight bins around it.

    Args:
        colors: float32 [pictures, SMALL, SMALL, 3], Lab.
        weights: float32 [pictures, SMALL, SMALL].

    Returns:
        float32 [pictures, COLOR_BINS], square roots of shares.
    """
    count = len(colors)
    most = np.array(_BINS, dtype=np.float32) - 1
    low, high = np.array([0, -_REACH, -_REACH]), np.array([100, _REACH, _REACH])
    places = np.clip((colors.reshape(-1, 3) - low) / (high - low), 0, 1) * most
    first = np.minimum(places.astype(np.int64), most.astype(np.int64) - 1)
    after = places - first
    owner = np.repeat(np.arange(count) * COLOR_BINS, SMALL * SMALL)
    weight = weights.reshape(-1)
    total = np.zeros(count * COLOR_BINS)
    for step in np.ndindex(2, 2, 2):
        share = np.prod(np.where(np.array(step) == 1, after, 1 - after), axis=1)
        bins = first + np.array(step)
        flat = (bins[:, 0] * _BINS[1] + bins[:, 1]) * _BINS[2] + bins[:, 2] + owner
        total += np.bincount(flat, weights=share * weight, minlength=len(total))
    shares = total.reshape(count, COLOR_BINS)
    return np.asarray(np.sqrt(shares / shares.sum(1, keepdims=True)), dtype=np.float32)


def _light_histograms(
    light: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Histograms of the light of small pixels, each counting for the two bins around it.

    A small pixel is the mean of a block, so that a thin line makes it less dark than a bold one.

    Args:
        light: float32 [pictures, SMALL, SMALL], 0 to 1.
        weights: float32 [pictures, SMALL, SMALL].

    Returns:
        float32 [pictures, LIGHT_BINS], square roots of shares.
    """
    count = len(light)
    places = np.clip(light.reshape(-1), 0, 1) * (LIGHT_BINS - 1)
    first = np.minimum(places.astype(np.int64), LIGHT_BINS - 2)
    after = places - first
    owner = np.repeat(np.arange(count) * LIGHT_BINS, SMALL * SMALL) + first
    weight = weights.reshape(-1)
    total = np.bincount(owner, weights=(1 - after) * weight, minlength=count * LIGHT_BINS)
    total += np.bincount(owner + 1, weights=after * weight, minlength=count * LIGHT_BINS)
    shares = total.reshape(count, LIGHT_BINS)
    return np.asarray(np.sqrt(shares / shares.sum(1, keepdims=True)), dtype=np.float32)


def _edges(pictures: PreparedPictures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sharpness and detail from 0 to 1.

    Over four pixels, a sharp edge changes in one step, and a blurred one in four equal steps:
    sharpness is the largest step's share of the change, as a mean over the strongest edges. Detail
    is the share of the picture that has an edge.
    """
    sharpness = np.zeros(len(pictures.pixels), dtype=np.float32)
    detail = np.zeros(len(pictures.pixels), dtype=np.float32)
    block = SIDE // SMALL
    for number, pixels in enumerate(pictures.pixels):
        rows, columns = np.nonzero(pictures.inside[number])
        # Bars have no edges of their own, and their borders must not count as any.
        top, bottom = rows.min() * block, (rows.max() + 1) * block
        left, right = columns.min() * block, (columns.max() + 1) * block
        light = pixels[top:bottom, left:right] @ _LUMA
        changes, steps = [], []
        for lines in (light, light.T):
            if lines.shape[1] > 4:
                step = np.abs(np.diff(lines, axis=1))
                largest = np.maximum.reduce([step[:, i : step.shape[1] - 3 + i] for i in range(4)])
                changes.append(np.abs(lines[:, 4:] - lines[:, :-4]).ravel())
                steps.append(largest.ravel())
        if not changes:
            continue
        change, step = np.concatenate(changes), np.concatenate(steps)
        detail[number] = (change > 0.06).mean()
        edges = change >= max(0.05, float(np.quantile(change, 0.95)))
        if edges.any():
            sharpness[number] = np.minimum(step[edges] / change[edges], 1).mean()
    return sharpness, detail
