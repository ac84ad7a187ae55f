"""Figures that were published, to stand beside ours."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Published:
    """One published figure.

    Attributes:
        task: the beginning of the name of our task.
        part: part or condition; empty for the mean over parts.
        metric: as we name it.
        system: method and model.
        value: 0 to 1.
        source: the publication.
        seen: ``repository`` if read in its owners' repository, ``secondary`` if quoted.
        protocol: how it was measured, as far as that is known.
    """

    task: str
    part: str
    metric: str
    system: str
    value: float
    source: str
    seen: str
    protocol: str

    def differs(self, task: str) -> str:
        """How the protocol of a task of ours is another one, or an empty text."""
        rest = task.removeprefix(self.task).strip("-")
        marks = []
        if "partial" in rest:
            marks.append("ours is a part of the data")
        if "symmetric" in rest:
            marks.append("ours cuts symmetrically")
        if "without-reference" in rest:
            marks.append("ours leaves out the reference")
        if self.task == "circo-test" and task.startswith("circo-val"):
            marks.append("ours is the validation split")
        if self.task == "cirr-test1" and task.startswith("cirr-val"):
            marks.append("ours is the validation split")
        if "ties by the order" in self.protocol:
            marks.append("ours counts ties in expectation")
        return "; ".join(marks)


@cache
def every() -> tuple[Published, ...]:
    """All of ``configs/published.toml``."""
    text = resources.files("configs").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(
        Published(
            entry["task"],
            part,
            metric,
            entry["system"],
            value / 100,
            entry["source"],
            entry["seen"],
            entry["protocol"],
        )
        for entry in tomllib.loads(text)["published"]
        for part, metric, value in entry["values"]
    )


def published_for(task: str) -> list[Published]:
    """Figures of a task's protocol, or of the same benchmark's other split where ours has none."""
    asked = task.replace("circo-val", "circo-test").replace("cirr-val", "cirr-test1")
    return [
        one
        for one in every()
        if asked == one.task or asked.startswith(one.task + "-")
        # The two CUB protocols are over different pictures.
        if not (one.task == "cub200" and asked.startswith("cub200-indirect"))
    ]
