"""``cies ingest`` without a model: which method is taken, and what is advised once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cies.console import say
from cies.measured import speeds_file
from cies.reports.ingest import existing_gallery
from ingest.conditions import Condition
from ingest.encoders.models.catalogue import HubModel, hub_models, this_machine
from ingest.encoders.models.find import DEFAULT_MODEL, DEFAULT_PHOTO
from ingest.fill.encoder_choice import PHOTO_CONDITIONS, photo_answers
from ingest.fill.vector_sources import PHOTO
from ingest.sources.factory import SourceGroup


def usual_method(
    gallery_path: Path, opened: Sequence[SourceGroup], conditions: Sequence[str]
) -> str | None:
    """The method of an ingest that names neither method nor model, and a line that says why.

    A gallery that has vectors keeps its own. A new one takes photo if that answers all conditions;
    pictures of ``cies world`` are not photographs, and take the built-in model, which knows them.

    Args:
        gallery_path: the gallery's folder.
        opened: the sources.
        conditions: as the user typed them.

    Returns:
        ``photo``, or ``None`` for the usual choice.

    Raises:
        UsageError: if a condition is not valid.
    """
    gallery = existing_gallery(gallery_path)
    if gallery is not None and not all(table.imported for table in gallery.conditions()):
        return None
    wanted = [Condition.parse(text) for text in conditions or PHOTO_CONDITIONS]
    if not photo_answers(wanted) or _is_rendered(opened):
        return None
    say(
        f"Method: photo, which answers {', '.join(one.name for one in wanted)} on photographs; "
        f"--model {DEFAULT_MODEL} takes the built-in LVLM instead."
    )
    return PHOTO


def usual_geometry(gallery_path: Path, method: str | None, model: str | None) -> str | None:
    """The geometry of an ingest that names none: ``centred`` for a new gallery of photo.

    The descriptors of photo share a mean that depends on the pictures; without it they rank better
    (docs/photographs.md). ``None`` is the gallery's own geometry, or the usual one.
    """
    is_photo = method == PHOTO or (method is None and model == DEFAULT_PHOTO)
    return "centred" if is_photo and existing_gallery(gallery_path) is None else None


def _is_rendered(opened: Sequence[SourceGroup]) -> bool:
    """Whether all sources are folders of the rendered world."""
    from eval.world.gallery import is_world

    names = [group.name or group.sources[0].name for group in opened if group.sources]
    return bool(names) and all(is_world(Path(name)) for name in names)


def advise_once() -> None:
    """Say in three lines what would be better on this machine: once, and only on a terminal."""
    marker = speeds_file().with_name("advised")
    if not sys.stderr.isatty() or marker.exists():
        return
    # If the marker cannot be written, no advice is better than advice at every run.
    with suppress(OSError):
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        for line in advice():
            say(line)


def advice() -> list[str]:
    """Three lines: better models for photographs, and what each costs here."""
    listed = {model.family: model for model in reversed(hub_models())}
    return [
        f"Better for any condition in words, on a small machine: {_line(listed['smolvlm'])}.",
        f"Better still: {_line(listed['qwen3_vl'])}.",
        "For texts and conditions that you think of later: --method clip --model "
        "google/siglip2-base-patch16-224 (0.8 GB, Apache-2.0), once for all conditions.",
    ]


def _line(model: HubModel) -> str:
    where = {"gpu": "runs on your GPU", "cpu": "runs here on the processor"}
    place = where.get(this_machine().place(model), "too large for this machine")
    return f"--model {model.name} ({model.gigabytes:.1f} GB, {model.licence}; {place})"
