"""A stand-in encoder with given timings."""

from __future__ import annotations

from collections.abc import Mapping

from support.stand_in import StandIn

from ingest.encoders.base import EncoderSpec, Timing


class Timed(StandIn):
    """An encoder that reports given timings."""

    def __init__(self, timings: Mapping[int, Timing], model: str = "tiny-lvlm", kind: str = "cpu"):
        super().__init__()
        self.own, self.model, self.kind = timings, model, kind

    @property
    def spec(self) -> EncoderSpec:
        return EncoderSpec("dior", self.model, "1", {"dtype": "float32"})

    @property
    def device(self) -> str:
        return self.kind

    @property
    def timings(self) -> Mapping[int, Timing]:
        return self.own
