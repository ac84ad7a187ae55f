"""Surfaces of objects: patterns and materials, as functions over the object's plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.floating[Any]]


def vary(color: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    """A color similar to ``color`` [3]: all channels are shifted together, and each a little."""
    lightness = random.uniform(-amount, amount)
    hue = random.uniform(-amount / 2, amount / 2, 3)
    return np.clip(color + lightness + hue, 0, 255).astype(np.float32)


def second_tone(color: Pixels, others: Pixels, random: np.random.Generator) -> Pixels:
    """The tone of a pattern: usually a clearly darker or lighter tone of the same color.

    Args:
        color: the color of the object, [3].
        others: any colors, [n, 3], one of which may be used instead.
        random: chooses.
    """
    if random.random() < 0.35:
        other = vary(others[int(random.integers(len(others)))], 15, random)
        if float(np.abs(other - color).max()) > 70:
            return other
    step = random.uniform(70, 105)
    moved: Pixels = color + np.float32(step if float(color.mean()) < 90 else -step)
    return np.clip(moved, 0, 255).astype(np.float32)


def pattern(
    kind: str, x: Pixels, y: Pixels, fineness: float, thin: bool, random: np.random.Generator
) -> NDArray[np.float32]:
    """Share of the second tone at every pixel, 0 to 1.

    Args:
        kind: plain, striped, checked, dotted or printed.
        x: the x coordinate of every pixel, in radii of the object.
        y: the y coordinate, as ``x``.
        fineness: the smallest visible period, in radii.
        thin: whether the object and its pattern are drawn in lines.
        random: draws period, angle and kind of pattern.
    """
    turn = random.uniform(0, np.pi) if random.random() < 0.5 else random.choice([0.0, np.pi / 2])
    u = x * np.cos(turn) - y * np.sin(turn) + 8
    v = x * np.sin(turn) + y * np.cos(turn) + 8
    period = random.uniform(fineness, max(0.66, 1.3 * fineness))
    second: NDArray[Any]
    if kind == "plain":
        second = np.zeros(x.shape)
    elif kind == "striped":
        second = (u / period) % 1 < (0.24 if thin else random.uniform(0.25, 0.5))
    elif kind == "checked":
        if thin:
            second = ((u / period) % 1 < 0.2) | ((v / period) % 1 < 0.2)
        elif random.random() < 0.55:
            second = (np.floor(1.6 * u / period) + np.floor(1.6 * v / period)) % 2 == 0
        else:
            # Crossing bands, darker where they cross, as in woven cloth.
            width = random.uniform(0.3, 0.45)
            second = 0.5 * ((u / period) % 1 < width) + 0.5 * ((v / period) % 1 < width)
    elif kind == "dotted":
        across, along = u / period, v / period
        if random.random() < 0.5:
            across = across + 0.5 * (np.floor(along) % 2)
        distance = np.hypot(across % 1 - 0.5, along % 1 - 0.5)
        second = (
            (np.abs(distance - 0.26) < 0.1) if thin else (distance < random.uniform(0.22, 0.32))
        )
    else:
        # Printed: irregular blotches, the sum of a few waves of different directions.
        waves = np.zeros(x.shape, dtype=np.float32)
        for _ in range(5):
            angle = random.uniform(0, 2 * np.pi)
            pace = 2 * np.pi / random.uniform(1.3 * fineness, max(1.5, 2 * fineness))
            along = x * np.cos(angle) + y * np.sin(angle)
            waves += np.cos(pace * along + random.uniform(0, 2 * np.pi))
        second = (np.abs(waves) < 0.45) if thin else (waves > 0.6)
    return second.astype(np.float32)


def material(
    kind: str, x: Pixels, y: Pixels, fineness: float, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Effect of a material on the paint: a factor and an amount of white.

    Args:
        kind: matte, shiny, woven or wooden; empty is matte.
        x: the x coordinate of every pixel, in radii of the object.
        y: the y coordinate, as ``x``.
        fineness: the smallest visible period, in radii.
        random: draws light, grain and angle.

    Returns:
        ``factor`` and ``white``, both of the shape of ``x``: paint x factor + 255 x white.
    """
    factor = np.ones(x.shape, dtype=np.float32)
    white = np.zeros(x.shape, dtype=np.float32)
    if kind == "shiny":
        lx, ly = random.uniform(-0.5, 0.5), random.uniform(-0.6, 0.1)
        reach = random.uniform(0.16, 0.26)
        far = ((x - lx) / random.uniform(0.8, 1.6)) ** 2 + (y - ly) ** 2
        white = (0.85 * np.exp(-far / (2 * reach**2))).astype(np.float32)
        factor = 1.08 - 0.42 * np.clip(np.hypot(x - lx, y - ly) / 1.6, 0, 1) ** 2
    elif kind == "woven":
        turn = random.uniform(0, np.pi / 2)
        period = 0.5 * fineness * random.uniform(0.95, 1.3)
        u = (x * np.cos(turn) - y * np.sin(turn)) * np.pi / period
        v = (x * np.sin(turn) + y * np.cos(turn)) * np.pi / period
        factor = 1 + 0.26 * np.sin(u) * np.sin(v)
    elif kind == "wooden":
        turn = random.uniform(0, np.pi)
        u = x * np.cos(turn) - y * np.sin(turn)
        v = x * np.sin(turn) + y * np.cos(turn)
        bend = random.uniform(0.05, 0.12) * np.sin(random.uniform(2, 4) * u + random.uniform(0, 6))
        pace = 2 * np.pi / (0.8 * fineness)
        rings = np.sin(pace * (v + bend) + 2.2 * np.sin(1.9 * (v + bend) * 3 + 0.7 * u))
        factor = 1 + 0.15 * rings - 0.05
    return factor.astype(np.float32), white.astype(np.float32)
