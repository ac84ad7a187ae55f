"""What a method takes on a machine. Light to import: what is kept of it is read without models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a method takes on this machine.

    Attributes:
        method: its name.
        model: its model's.
        device: such as ``cpu``.
        dtype: such as ``float32``.
        threads: of the processor.
        pictures: it was measured on.
        conditions: asked at once in ``all_rate``.
        one_rate: pictures a second under one condition.
        all_rate: pictures a second under all conditions at once.
        condition_seconds: for one more condition over all pictures: a pass, or a fit of a view
            and moving the vectors; 0 where the condition makes no difference.
        query_ms: for one picture to be embedded and all others to be ranked, everything loaded.
        dimension: numbers in a vector.
    """

    method: str
    model: str
    device: str
    dtype: str
    threads: int
    pictures: int
    conditions: int
    one_rate: float
    all_rate: float
    condition_seconds: float
    query_ms: float
    dimension: int
