"""How fast models embedded on this machine, kept in the user's data folder."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest.encoders.base import BaseEncoder
from ingest.encoders.models.find import name_of

#: Fewer pictures say too little: the first ones are slower than the rest.
MIN_PICTURES = 64

_VERSION = 1


@dataclass(frozen=True)
class Speed:
    """One measurement; the newest of its kind is kept.

    Attributes:
        model: as a gallery names it, without revision.
        conditions: how many were asked in one go.
        device: such as ``cpu`` or ``cuda``, with a number before it if there were several.
        dtype: such as ``float32``.
        threads: of the processor that torch computed with.
        pictures_per_second: embedded, preparation included, reading and writing files not.
        pictures: it was measured on.
        when: UTC, ISO 8601.
        method: that the model was used with.
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
        """All that a measurement hangs on, apart from the machine."""
        how = self.conditions, self.device, self.dtype, self.threads
        return self.method, self.model, *how


def speeds_file() -> Path:
    """Where the measurements are kept."""
    import platformdirs

    return Path(platformdirs.user_data_dir("cies", appauthor=False)) / "speeds.json"


def measured_speeds() -> list[Speed]:
    """All measurements kept on this machine, newest first; none if the file cannot be read."""
    try:
        document = json.loads(speeds_file().read_text(encoding="utf-8"))
        speeds = [_speed(entry) for entry in document["speeds"]]
        return sorted(speeds, key=lambda speed: speed.when, reverse=True)
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _speed(entry: dict[str, Any]) -> Speed:
    # The types of the fields are written as text in this module, and are the makers of values.
    vector_sources = {"str": str, "int": int, "float": float}
    # Earlier versions knew one method and did not write it down.
    entry = {"method": "dior", **entry}
    return Speed(
        **{one.name: vector_sources[str(one.type)](entry[one.name]) for one in fields(Speed)}
    )


def measured_rate(
    model: str, conditions: int, device: str = "auto", method: str = "dior"
) -> float | None:
    """Pictures a second that a model embedded here lately, or ``None`` if it was not measured.

    Args:
        model: a built-in name, ``ORG/NAME[@REVISION]`` or a folder.
        conditions: how many are asked in one go.
        device: as for ``--device``: ``cpu``, ``cuda:1``, ``cuda:0,cuda:1``; ``auto`` for the
            newest of any.
        method: that the model is used with.
    """
    name = name_of(model)
    kinds = [name.partition(":")[0] for name in device.split(",")]
    kind = kinds[0] if len(kinds) == 1 else f"{len(kinds)} {kinds[0]}"
    for speed in measured_speeds():
        asked = (speed.method, speed.model, speed.conditions) == (method, name, conditions)
        if asked and kind in ("auto", speed.device):
            return speed.pictures_per_second
    return None


def remember_speed(encoder: BaseEncoder) -> None:
    """Keep how fast an encoder was, if it did enough; what goes wrong is passed over.

    Nobody should lose a run over a note about its speed, so that a folder that cannot be written
    only means that nothing is kept.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    spec = encoder.spec
    fresh = [
        Speed(
            spec.model,
            conditions,
            encoder.device,
            str(spec.settings.get("dtype", "")),
            encoder.threads,
            round(timing.pictures / timing.seconds, 3),
            timing.pictures,
            now,
            spec.method,
        )
        for conditions, timing in encoder.timings.items()
        if timing.pictures >= MIN_PICTURES and timing.seconds > 0
    ]
    if fresh:
        kinds = {speed.kind for speed in fresh}
        kept = [speed for speed in measured_speeds() if speed.kind not in kinds]
        with suppress(OSError):
            _write([*fresh, *kept])


def _write(speeds: list[Speed]) -> None:
    write_whole(speeds_file(), {"speeds": [asdict(speed) for speed in speeds]})


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Replace a file of measurements in one step, so that nobody ever reads half of it.

    Raises:
        OSError: if it cannot be written; what was there is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"schema_version": _VERSION, **content}
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
