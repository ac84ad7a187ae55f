"""Reads the data files of the method photo in ``configs``."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def photo_settings() -> dict[str, Any]:
    """The content of ``configs/photo.toml``."""
    return _read("photo.toml")


@cache
def kind_groups() -> dict[str, dict[str, list[int]]]:
    """``configs/photo_kinds.toml``: group to word to the numbers of its classes."""
    return {
        group: {word: _numbers(ranges) for word, ranges in words.items()}
        for group, words in _read("photo_kinds.toml").items()
    }


def _numbers(ranges: str) -> list[int]:
    """The numbers of a text such as ``7-8, 83``."""
    numbers: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.strip().partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("configs").joinpath(name).read_text(encoding="utf-8"))
