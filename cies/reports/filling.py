"""What ``cies ingest`` does before a gallery is written to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Sequence

from cies.console import print_json, say
from cies.measured import measured_rate
from cies.reports.plan import make_plan, print_plan
from indexes.errors import GalleryMissing
from indexes.store.gallery import DEFAULT_GEOMETRY, Gallery
from ingest.conditions import Condition
from ingest.fill.encoder_choice import choose, conditions_for, notes_on_target
from ingest.scan.scan import open_all_sources
from ingest.sources.base import SourceOptions
from ingest.sources.factory import SourceGroup


def existing(place: Path) -> Gallery | None:
    """The gallery at a place, or ``None`` if there is none yet."""
    try:
        return Gallery.open(place)
    except GalleryMissing:
        return None


def open_named(place: Path, sources: Sequence[str], options: SourceOptions) -> list[SourceGroup]:
    """Open the sources first of all, so that no gallery is made for a slip of the finger.

    Raises:
        UsageError: if one is not there or cannot be used.
    """
    root = place.absolute().parent
    stdin = sys.stdin.buffer if "-" in sources else None
    return open_all_sources(existing(place), sources, options, root, stdin)


def run_plan(
    gallery: Gallery | None,
    place: Path,
    opened: Sequence[SourceGroup],
    conditions: Sequence[str],
    model: str | None,
    method: str | None,
    retry_failed: bool,
    as_json: bool,
    device: str = "auto",
    geometry: str | None = None,
) -> None:
    """Print what a run with the same words would do.

    Raises:
        CiesError: as the run itself would.
    """
    choice = choose(gallery, method, model)
    wanted = [Condition.parse(text) for text in conditions]
    for note in notes_on_target(choice, bool(wanted)):
        say(f"Note: {note}.")
    own = geometry or (gallery.geometry if gallery is not None else DEFAULT_GEOMETRY)
    wanted = conditions_for(choice, gallery, wanted, own)

    def rate(by: str, name: str, count: int) -> float | None:
        return measured_rate(name, count, device, by)

    document = make_plan(gallery, place, opened, wanted, choice, retry_failed, rate)
    if as_json:
        print_json(document)
    else:
        print_plan(document)
