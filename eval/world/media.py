"""Turns a painted canvas into a picture: the look of photographs, paintings and sketches."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from eval.world.surfaces import Pixels


def develop(canvas: Pixels, style: str, size: int, random: np.random.Generator) -> Image.Image:
    """Reduce a canvas to a picture of a style.

    Args:
        canvas: [side, side, 3], 0 to 255, larger than the picture.
        style: photo, flat, painting, sketch or pixelated; empty is flat.
        size: width and height of the picture in pixels.
        random: draws the strength of each effect.
    """
    if style == "painting":
        canvas = _dabs(canvas, random)
    elif style == "sketch":
        canvas = _hatched(canvas, random)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    if style in ("photo", "painting") and random.random() < 0.35:
        image = _tilted(image, random)
    if style == "pixelated":
        cells = int(random.integers(46, 60))
        image = image.resize((cells, cells), Image.Resampling.BOX)
        image = image.resize((size, size), Image.Resampling.NEAREST)
    else:
        image = image.resize((size, size), Image.Resampling.BOX)
    if style == "photo":
        image = _photographed(image, size, random)
    pixels = np.asarray(image, dtype=np.float32) * np.float32(random.uniform(0.88, 1.08))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if random.random() < 0.25:
        # JPEG artefacts, as of a picture that was saved before.
        saved = io.BytesIO()
        image.save(saved, "JPEG", quality=int(random.integers(35, 85)))
        image = Image.open(saved).convert("RGB")
    return image


def _photographed(image: Image.Image, size: int, random: np.random.Generator) -> Image.Image:
    if random.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(size * random.uniform(0.002, 0.008)))
    pixels = np.asarray(image, dtype=np.float32)
    balance = random.uniform(0.92, 1.08, 3).astype(np.float32)
    # The grain is coarse, so that it is still visible in a model's reduced input.
    grain = random.normal(0, random.uniform(5, 13), (96, 96, 1)).astype(np.float32)
    if random.random() < 0.5:
        grain = grain + random.normal(0, 6, (96, 96, 3)).astype(np.float32)
    rows = (np.arange(size) * 96 // size).astype(int)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(random.uniform(0.75, 1.15))
    return Image.fromarray(
        np.clip(pixels * balance + grain[rows][:, rows], 0, 255).astype(np.uint8)
    )


def _dabs(canvas: Pixels, random: np.random.Generator) -> Pixels:
    """Brush strokes: every cell takes the color of a nearby place."""
    side = canvas.shape[0]
    cells = int(random.integers(52, 72))
    reach = side * random.uniform(0.007, 0.011)
    places = np.arange(side) * cells // side
    shift = (random.normal(0, reach, (cells, cells, 2))).astype(int)[places][:, places]
    rows = np.clip(np.arange(side)[:, None] + shift[..., 0], 0, side - 1)
    columns = np.clip(np.arange(side)[None, :] + shift[..., 1], 0, side - 1)
    tone = random.normal(0, 9, (cells, cells, 1)).astype(np.float32)[places][:, places]
    return np.asarray(canvas[rows, columns] + tone, dtype=np.float32)


def _hatched(canvas: Pixels, random: np.random.Generator) -> Pixels:
    """Colored pencil: strokes in one direction, with paper visible between them."""
    side = canvas.shape[0]
    turn = random.uniform(0.5, 1.1) * random.choice([-1, 1])
    axis = np.linspace(0, 1, side, dtype=np.float32)
    along = axis[None, :] * np.cos(turn) + axis[:, None] * np.sin(turn)
    noise = random.normal(0, 0.35, (64, 64)).astype(np.float32)
    rows = np.arange(side) * 64 // side
    phase = along * 2 * np.pi / random.uniform(0.026, 0.036) + noise[rows][:, rows] * 2
    paper = 0.34 * np.clip(np.sin(phase) + 0.25, 0, 1)
    return np.asarray(canvas * (1 - paper[..., None]) + 250 * paper[..., None], dtype=np.float32)


def _tilted(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Apply a slight perspective."""
    side = image.width
    inset = random.uniform(0, 0.09, 8) * side
    corners = (
        inset[0],
        inset[1],
        inset[2],
        side - inset[3],
        side - inset[4],
        side - inset[5],
        side - inset[6],
        inset[7],
    )
    return image.transform(
        image.size,
        Image.Transform.QUAD,
        tuple(float(c) for c in corners),
        Image.Resampling.BILINEAR,
    )
