"""Speeds and costs measured on this machine, stored in the user's data folder for estimates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from eval.bench.cost import MethodCost
from indexes.files import write_atomic
from ingest.encoders.base import BaseEncoder
from ingest.encoders.models.find import stored_name

#: Fewer pictures give no reliable speed: the first ones are slower than the rest.
MIN_PICTURES = 64

_VERSION = 1


@dataclass(frozen=True)
class MeasuredSpeed:
    """One measured speed. Only the newest measurement of each :attr:`kind` is stored.

    Attributes:
        model: its name as a gallery stores it, without revision.
        conditions: number of conditions embedded in one pass.
        device: such as ``cpu`` or ``cuda``; ``2 cuda`` for two devices of one kind.
        dtype: such as ``float32``.
        threads: CPU threads that torch used.
        pictures_per_second: embedding speed, including preparation, without file access.
        pictures: number of pictures measured.
        when: UTC, ISO 8601.
        method: the method that used the model.
    """

    model: str
    conditions: int
    device: str
    dtype: str
    threads: int
    pictures_per_second: float
    pictures: int
    when: str
    method: str = "dior"

    @property
    def kind(self) -> tuple[str, str, int, str, str, int]:
        """Everything that the speed depends on, apart from the machine."""
        return (
            *(self.method, self.model, self.conditions),
            *(self.device, self.dtype, self.threads),
        )


@dataclass(frozen=True)
class MeasuredCost(MethodCost):
    """The costs of one method with one model. Only the newest of each :attr:`kind` is stored.

    Attributes:
        when: UTC, ISO 8601.

    The other attributes are those of :class:`eval.bench.cost.MethodCost`.
    """

    when: str

    @property
    def kind(self) -> tuple[str, str, str, str, int]:
        """Everything that the costs depend on, apart from the machine."""
        return self.method, self.model, self.device, self.dtype, self.threads


_Measurement = TypeVar("_Measurement", MeasuredSpeed, MeasuredCost)


def speeds_file() -> Path:
    """The file that stores the measured speeds."""
    import platformdirs

    return Path(platformdirs.user_data_dir("cies", appauthor=False)) / "speeds.json"


def costs_file() -> Path:
    """The file that stores the measured costs of methods."""
    return speeds_file().with_name("methods.json")


def measured_speeds() -> list[MeasuredSpeed]:
    """All stored speeds, newest first; none if the file cannot be read."""
    # Earlier versions had one method and did not store its name.
    return _read(speeds_file(), "speeds", MeasuredSpeed, {"method": "dior"})


def measured_costs() -> list[MeasuredCost]:
    """All stored costs of methods, newest first; none if the file cannot be read."""
    return _read(costs_file(), "costs", MeasuredCost, {})


def measured_rate(
    model: str, conditions: int, device: str = "auto", method: str = "dior"
) -> float | None:
    """The newest measured speed of a model in pictures a second; ``None`` if there is none.

    Args:
        model: a built-in name, ``ORG/NAME[@REVISION]`` or a folder.
        conditions: number of conditions embedded in one pass.
        device: as for ``--device``: ``cpu``, ``cuda:1``, ``cuda:0,cuda:1``; ``auto`` takes the
            newest speed of any device.
        method: the method that uses the model.
    """
    name = stored_name(model)
    kinds = [part.partition(":")[0] for part in device.split(",")]
    kind = kinds[0] if len(kinds) == 1 else f"{len(kinds)} {kinds[0]}"
    for speed in measured_speeds():
        matches = (speed.method, speed.model, speed.conditions) == (method, name, conditions)
        if matches and kind in ("auto", speed.device):
            return speed.pictures_per_second
    return None


def remember_speed(encoder: BaseEncoder) -> None:
    """Store how fast an encoder was, if it embedded at least :data:`MIN_PICTURES` pictures.

    A file that cannot be written is ignored: no run should fail because of a speed measurement.
    """
    spec = encoder.spec
    new = [
        MeasuredSpeed(
            model=spec.model,
            conditions=conditions,
            device=encoder.device,
            dtype=str(spec.settings.get("dtype", "")),
            threads=encoder.threads,
            pictures_per_second=round(timing.pictures / timing.seconds, 3),
            pictures=timing.pictures,
            when=_now(),
            method=spec.method,
        )
        for conditions, timing in encoder.timings.items()
        if timing.pictures >= MIN_PICTURES and timing.seconds > 0
    ]
    if new:
        _write(speeds_file(), "speeds", new, measured_speeds())


def remember_costs(costs: Sequence[MethodCost]) -> None:
    """Store the measured costs of methods; a file that cannot be written is ignored."""
    when = _now()
    new = [MeasuredCost(**asdict(cost), when=when) for cost in costs]
    _write(costs_file(), "costs", new, measured_costs())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read(
    path: Path, key: str, kind: type[_Measurement], missing: dict[str, Any]
) -> list[_Measurement]:
    """The measurements of a file, newest first; none if it cannot be read.

    Args:
        path: the file.
        key: the list's name in the document.
        kind: the class of one measurement.
        missing: values of fields that an entry may lack.
    """
    # Annotations are strings in this module; each names the type that converts the value.
    types = {"str": str, "int": int, "float": float}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))[key]
        found = [
            kind(**{f.name: types[str(f.type)]({**missing, **entry}[f.name]) for f in fields(kind)})
            for entry in entries
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return sorted(found, key=lambda one: one.when, reverse=True)


def _write(path: Path, key: str, new: Sequence[_Measurement], old: Sequence[_Measurement]) -> None:
    """Store new measurements in place of older ones of the same kinds."""
    kinds = {one.kind for one in new}
    kept: list[_Measurement] = [one for one in old if one.kind not in kinds]
    document = {"schema_version": _VERSION, key: [asdict(one) for one in [*new, *kept]]}
    with suppress(OSError):
        write_atomic(path, json.dumps(document, indent=2).encode(), durable=False)
