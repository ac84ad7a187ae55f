"""``cies ingest``: opening of the sources, and what is printed about a finished run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cies.console import print_document, say
from indexes.errors import GalleryMissing
from indexes.printable import printable
from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord
from ingest.fill.pipeline import IngestReport
from ingest.scan.scan import open_all_sources
from ingest.sources.base import (
    HIDDEN,
    HIDDEN_FOLDER,
    LINK,
    PATTERN,
    PATTERN_FOLDER,
    SourceOptions,
)
from ingest.sources.factory import SourceGroup

#: Reasons for which sources leave entries out, and how they are shown.
_LEFT_OUT = (
    (PATTERN, "pictures by --include and --exclude"),
    (PATTERN_FOLDER, "folders by --exclude"),
    (HIDDEN, "hidden pictures"),
    (HIDDEN_FOLDER, "hidden folders"),
    (LINK, "links to folders"),
)

#: Suffixes of other files that are named.
_SUFFIXES_SHOWN = 8

#: Unreadable files named at the end of an ingest; ``cies status --failed`` lists all of them.
_FAILURES_SHOWN = 20


def existing_gallery(path: Path) -> Gallery | None:
    """The gallery at a path, or ``None`` if there is none yet."""
    try:
        return Gallery.open(path)
    except GalleryMissing:
        return None


def open_named_sources(
    gallery_path: Path, sources: Sequence[str], options: SourceOptions
) -> list[SourceGroup]:
    """Open the sources before a gallery is created, so that a mistyped name creates none.

    Raises:
        UsageError: if a source does not exist or cannot be used.
    """
    root = gallery_path.absolute().parent
    stdin = sys.stdin.buffer if "-" in sources else None
    return open_all_sources(existing_gallery(gallery_path), sources, options, root, stdin)


def print_ingest(
    gallery_path: Path, opened: Sequence[SourceGroup], report: IngestReport, as_json: bool
) -> None:
    """Print what a run did.

    Args:
        gallery_path: the gallery's folder.
        opened: the sources of the run.
        report: what the run did.
        as_json: print one JSON document on stdout; messages go to stderr anyway.
    """
    _say_sources(opened, report)
    say_failures(report.failed)
    _say_left_out(report)
    for remark in report.remarks:
        more = ", ..." if remark.files > len(remark.examples) else ""
        names = ", ".join(map(printable, remark.examples))
        reason = printable(remark.reason).rstrip(".")
        say(f"Note: {remark.files} of the pictures ({names}{more}): {reason}.")
    for note in report.notes:
        say(f"Note: {note}.")
    if as_json:
        print_document(ingest_summary(gallery_path, report))
        return
    rate = report.embedded / report.embedding_seconds if report.embedded else 0
    speed = f" at {rate:.1f} pictures/s" if rate else ""
    gone = f", {report.gone} gone" if report.gone else ""
    gone += f", {report.moved} moved" if report.moved else ""
    say(
        f"{report.embedded} pictures embedded{speed}, {report.unchanged + report.known} known, "
        f"{len(report.failed)} unreadable{gone}; gallery {gallery_path}, conditions: "
        f"{', '.join(report.conditions)}."
    )


def ingest_summary(gallery_path: Path, report: IngestReport) -> dict[str, Any]:
    """The document that ``cies ingest --json`` prints."""
    return {
        "gallery": str(gallery_path),
        "conditions": report.conditions,
        "makers": [
            {**vars(one), "seconds": round(one.seconds, 3)} for one in report.vector_sources
        ],
        "found": report.found,
        "embedded": report.embedded,
        "unchanged": report.unchanged,
        "known": report.known,
        "gone": report.gone,
        "moved": report.moved,
        "relabelled": report.relabelled,
        "out_of_reach": report.out_of_reach,
        "unreachable": [vars(one) for one in report.unreachable],
        "failed": [vars(record) for record in report.failed],
        "failed_by_status": Counter(record.status for record in report.failed),
        "left_out": report.left_out,
        "remarks": [vars(one) for one in report.remarks],
        "notes": report.notes,
        "seconds": round(report.seconds, 3),
    }


def _say_sources(opened: Sequence[SourceGroup], report: IngestReport) -> None:
    """Say which columns were renamed, which sources are empty, and which files need attention."""
    for group in opened:
        for source in group.sources:
            renamed = [(old, new) for old, new in source.column_names.items() if old != new]
            if renamed:
                names = ", ".join(f"'{old}' is {new}" for old, new in renamed)
                say(f"Columns of {source.name} in the gallery: {names}.")
    if not report.found and not report.unreachable:
        names = ", ".join(group.name or group.sources[0].name for group in opened)
        say(f"No pictures in {names}: no file name there ends like a picture's.")
    if report.relabelled:
        say(f"{report.relabelled} files have new values in your columns.")
    say_unreachable([vars(one) for one in report.unreachable])
    if report.out_of_reach:
        say(f"{report.out_of_reach} pictures lack a condition and cannot be read now.")


def say_unreachable(sources: Sequence[dict[str, Any]]) -> None:
    """Say which sources gave no file now, although the gallery has files from them."""
    for source in sources:
        if not source["files"]:
            say(
                f"{source['name']} {source['reason']}, and the gallery has no file from it; "
                "`cies prune` forgets a source that is not there."
            )
            continue
        say(
            f"{source['name']} {source['reason']}, and the gallery knows {source['files']} files "
            "from it; none of them is counted as gone. To forget them: `cies prune --source "
            f"{source['name']}`."
        )


def _say_left_out(report: IngestReport) -> None:
    """Count what the sources left out: by reason, and by suffix what is no picture by its name."""
    named = [f"{report.left_out[one]} {text}" for one, text in _LEFT_OUT if one in report.left_out]
    if named:
        say(f"Left out: {', '.join(named)}.")
    reasons = dict(_LEFT_OUT)
    others = [(suffix, count) for suffix, count in report.left_out.items() if suffix not in reasons]
    if others:
        shown = [f"{count} {printable(suffix) or 'without one'}" for suffix, count in others]
        rest = sum(count for _, count in others[_SUFFIXES_SHOWN:])
        more = f", {rest} others" if rest else ""
        say(f"Not pictures by their suffix: {', '.join(shown[:_SUFFIXES_SHOWN])}{more}.")


def say_failures(failed: Sequence[FileRecord]) -> None:
    """Name unreadable files with reasons, and count them by status."""
    for record in failed[:_FAILURES_SHOWN]:
        say(f"unreadable: {record.path!r}: {record.reason}")
    rest = len(failed) - _FAILURES_SHOWN
    if rest > 0:
        say(f"... and {rest} more; `cies status --failed` lists all of them.")
    if len(failed) > 1:
        counts = Counter(record.status for record in failed).most_common()
        say("Unreadable: " + ", ".join(f"{count} {status}" for status, count in counts) + ".")
