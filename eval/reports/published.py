"""Published figures, for comparison with those of runs."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class PublishedFigure:
    """One published figure.

    Attributes:
        task: prefix of the name of our task.
        part: part or condition; empty for the mean over parts.
        metric: by our name.
        system: method and model.
        value: 0 to 1.
        source: the publication.
        seen: ``repository`` if read in its owners' repository, ``secondary`` if quoted.
        protocol: how it was measured, as far as known.
    """

    task: str
    part: str
    metric: str
    system: str
    value: float
    source: str
    seen: str
    protocol: str

    @property
    def method(self) -> str:
        """Our name of the method, such as ``pdv``; the published name if we do not have it."""
        first, _, rest = self.system.lower().partition(",")
        if first.startswith("clip"):
            baselines = {"image only": "image", "text only": "text", "sum": "sum"}
            return baselines.get(rest.strip(), "clip")
        if first.startswith("searle"):
            return "searle-oti" if "oti" in first else "searle"
        return "pdv" if "+ pdv" in first else first

    def names(self, model: str) -> bool:
        """Return whether a model, such as ``openai/clip-vit-base-patch32``, is this one's."""
        found = re.search(r"vit-([a-z])/(\d+)", self.system.lower())
        if found is None:
            return False
        size = {"b": "base", "l": "large", "g": "bigg"}.get(found[1], found[1])
        plain = model.lower()
        return f"vit-{size}-patch{found[2]}" in plain or f"vit-{found[1]}-{found[2]}" in plain

    def differs(self, task: str) -> str:
        """Return how the protocol of our task differs, or an empty text."""
        rest = task.removeprefix(self.task).strip("-")
        options = rest.split("-")
        marks = []
        if "partial" in rest:
            marks.append("ours is a part of the data")
        if "symmetric" in rest:
            marks.append("ours cuts symmetrically")
        if "without-reference" in rest:
            marks.append("ours leaves out the reference")
        if task.startswith(("circo-val", "cirr-val")) and "-test" in self.task:
            marks.append("ours is the validation split")
        if "split not stated" in self.protocol:
            marks.append("their split was not seen")
        with_concept = "shared concept is told" in self.protocol
        if task.startswith("circo-") and with_concept != ("concept" in options):
            marks.append(f"{'theirs' if with_concept else 'ours'} tells the shared concept")
        if task.startswith("fashioniq-val-union"):
            marks.append("ours ranks the smaller gallery")
        both_orders = "both orders" in self.protocol
        if task.startswith("fashioniq-") and both_orders != ("both" in options):
            marks.append(
                "ours joins the sentences in one order"
                if both_orders
                else "ours averages both orders of the sentences"
            )
        if "joining of the sentences not stated" in self.protocol:
            marks.append("how theirs joins the sentences was not seen")
        if "ties by the order" in self.protocol:
            marks.append("ours counts ties in expectation")
        return "; ".join(marks)


@cache
def every() -> tuple[PublishedFigure, ...]:
    """Return all figures of ``configs/published.toml``."""
    text = resources.files("configs").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(
        PublishedFigure(
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


def published_for(task: str) -> list[PublishedFigure]:
    """Return figures of a task's protocol; for validation splits those of the test split."""
    split = task.replace("circo-val", "circo-test").replace("cirr-val", "cirr-test1")
    return [
        one
        for one in every()
        if split == one.task or split.startswith(one.task + "-")
        # The two CUB protocols use different pictures.
        if not (one.task == "cub200" and split.startswith("cub200-indirect"))
    ]
