"""The speed of the method photo: pictures a second of one processor core."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder


@dataclass(frozen=True)
class PhotoSpeed:
    """How fast pictures are embedded under some conditions at once.

    Attributes:
        conditions: how many.
        pictures: how many, each measured once.
        pictures_per_second: by the clock, on one thread.
        pictures_per_core_second: by the processor time of this process, which other programs on
            the machine do not change much.
    """

    conditions: int
    pictures: int
    pictures_per_second: float
    pictures_per_core_second: float


def measure_photo_speed(
    encoder: BaseEncoder, pictures: Sequence[Image.Image], conditions: Sequence[Condition]
) -> PhotoSpeed:
    """Embed pictures on one thread, words included; the first batch is not measured.

    Args:
        encoder: of the method photo.
        pictures: decoded.
        conditions: all at once.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        encoder.embed(pictures[:16], conditions)
        started, used = time.perf_counter(), time.process_time()
        encoder.embed(pictures, conditions)
        seconds, core = time.perf_counter() - started, time.process_time() - used
    finally:
        torch.set_num_threads(threads)
    return PhotoSpeed(len(conditions), len(pictures), len(pictures) / seconds, len(pictures) / core)
