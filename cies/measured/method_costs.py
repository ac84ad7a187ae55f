"""What methods cost on this machine, as ``cies bench methods`` measured it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Sequence

from cies.measured.speeds import speeds_file, write_whole
from eval.bench.cost import Cost


@dataclass(frozen=True)
class Kept(Cost):
    """One method's costs with one model; the newest of its kind is kept.

    Attributes:
        when: UTC, ISO 8601.

    The others are those of :class:`eval.bench.cost.Cost`.
    """

    when: str

    @property
    def kind(self) -> tuple[str, str, str, str, int]:
        """All that a measurement hangs on, apart from the machine."""
        return self.method, self.model, self.device, self.dtype, self.threads


def costs_file() -> Path:
    """Where the measurements are kept."""
    return speeds_file().with_name("methods.json")


def kept_costs() -> list[Kept]:
    """All measurements kept on this machine, newest first; none if the file cannot be read."""
    try:
        document = json.loads(costs_file().read_text(encoding="utf-8"))
        costs = [_kept(entry) for entry in document["costs"]]
        return sorted(costs, key=lambda cost: cost.when, reverse=True)
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _kept(entry: dict[str, Any]) -> Kept:
    vector_sources = {"str": str, "int": int, "float": float}
    return Kept(
        **{one.name: vector_sources[str(one.type)](entry[one.name]) for one in fields(Kept)}
    )


def remember_costs(costs: Sequence[Cost]) -> None:
    """Keep what was measured; a folder that cannot be written only means that nothing is kept."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    fresh = [Kept(**asdict(cost), when=now) for cost in costs]
    kinds = {cost.kind for cost in fresh}
    kept = [cost for cost in kept_costs() if cost.kind not in kinds]
    with suppress(OSError):
        write_whole(costs_file(), {"costs": [asdict(cost) for cost in [*fresh, *kept]]})
