"""What ``cies ingest`` does before a gallery is written to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Sequence

from cies.api import default_conditions
from cies.console import print_json
from cies.plans import make_plan, print_plan
from indexes.errors import GalleryMissing
from indexes.gallery import Gallery
from ingest.conditions import Condition
from ingest.encoders.base import EncoderSpec
from ingest.encoders.models import find
from ingest.pipeline import check_same_model
from ingest.sources.base import SourceOptions
from ingest.sources.factory import Opened
from ingest.survey import open_all


def existing(place: Path) -> Gallery | None:
    """The gallery at a place, or ``None`` if there is none yet."""
    try:
        return Gallery.open(place)
    except GalleryMissing:
        return None


def open_named(place: Path, sources: Sequence[str], options: SourceOptions) -> list[Opened]:
    """Open the sources first of all, so that no gallery is made for a slip of the finger.

    Raises:
        UsageError: if one is not there or cannot be used.
    """
    root = place.absolute().parent
    stdin = sys.stdin.buffer if "-" in sources else None
    return open_all(existing(place), sources, options, root, stdin)


def run_plan(
    gallery: Gallery | None,
    place: Path,
    opened: Sequence[Opened],
    conditions: Sequence[str],
    model: str | None,
    method: str | None,
    retry_failed: bool,
    as_json: bool,
) -> None:
    """Print what a run with the same words would do.

    Raises:
        CiesError: as the run itself would.
    """
    wanted = [Condition.parse(text) for text in conditions]
    tables = gallery.conditions() if gallery is not None else []
    if gallery is not None and tables and (model is not None or method is not None):
        spec = EncoderSpec.from_made_by(tables[0].made_by)
        name = spec.model if model is None else find(model).name
        check_same_model(gallery, method or spec.method, name)
    if not tables:
        wanted = wanted or default_conditions(model)
    document = make_plan(gallery, place, opened, wanted, model, retry_failed)
    if as_json:
        print_json(document)
    else:
        print_plan(document)
