"""What a method costs on a machine. Imports nothing: `cies methods` reads it without models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodCost:
    """What a method costs on this machine.

    Attributes:
        method: its name.
        model: name of its model.
        device: such as ``cpu``.
        dtype: such as ``float32``.
        threads: the number of processor threads.
        pictures: number of pictures it was measured on.
        conditions: number of conditions asked at once in ``all_rate``.
        one_rate: pictures a second under one condition.
        all_rate: pictures a second under all conditions at once.
        condition_seconds: for one more condition over all pictures: a pass, or the fit of a
            projection and its application; 0 where the condition makes no difference.
        query_ms: to embed one picture and rank all others, everything loaded.
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
