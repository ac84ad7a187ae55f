"""``cies verify``, ``cies repair`` and ``cies prune``: what they do and print."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Sequence

from cies.console import print_document, print_table, say
from indexes.errors import UsageError
from indexes.repair import repair
from indexes.store.gallery import Gallery
from indexes.verify import Finding, verify
from ingest.fill.prune import LARGEST_SHARE, PrunePlan, delete_gone, find_gone

#: Pictures named per condition by a repair; its JSON document has all of them.
_PICTURES_SHOWN = 20

#: Files named by prune; its JSON document has all of them.
_FILES_SHOWN = 10


def run_verify(gallery_path: Path, as_json: bool) -> bool:
    """Check a gallery and print the findings; returns whether it is undamaged.

    Raises:
        GalleryMissing: if there is no gallery.
    """
    findings = verify(gallery_path, _progress())
    damaged = any(finding.damage for finding in findings)
    if as_json:
        print_document(
            {
                "gallery": str(gallery_path),
                "damaged": damaged,
                "findings": [vars(finding) for finding in findings],
            }
        )
    else:
        _print_findings(findings)
    if damaged:
        say(
            f"The gallery at {gallery_path} is damaged; `cies repair -g {gallery_path}` removes "
            "the damage."
        )
    else:
        say(f"The gallery at {gallery_path} is undamaged.")
    return not damaged


def run_repair(gallery_path: Path, dry_run: bool, as_json: bool) -> None:
    """Repair a gallery and say what to do next.

    Raises:
        GalleryError: if it is missing, locked, or cannot be written to.
    """
    done = repair(gallery_path, dry_run, _progress())
    damaged = any(finding.damage for finding in done.findings)
    if as_json:
        print_document(
            {
                "gallery": str(gallery_path),
                "dry_run": dry_run,
                "damaged": damaged,
                "findings": [vars(finding) for finding in done.findings],
                "steps": done.steps,
                "embed_again": done.embed_again,
                "read_again": done.read_again,
            }
        )
    else:
        _print_findings(done.findings)
    if not damaged:
        say(f"The gallery at {gallery_path} is undamaged; there is nothing to repair.")
        return
    if dry_run:
        say("Nothing was changed; run without --dry-run to remove the damage.")
        return
    for step in done.steps:
        say(step)
    paths = Gallery.open(gallery_path).paths()
    for condition, keys in done.embed_again.items():
        say(f"To be embedded again under '{condition}': {len(keys)} pictures.")
        for key in keys[:_PICTURES_SHOWN]:
            say(f"  {(paths.get(key) or [key])[0]!r}")
        if len(keys) > _PICTURES_SHOWN:
            say(f"  ... and {len(keys) - _PICTURES_SHOWN} more")
    say("Run your `cies ingest` again: it embeds and reads only what is missing now.")


def run_prune(
    gallery_path: Path, source: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Forget the files that are gone, and pictures without any file.

    Args:
        gallery_path: the gallery's folder.
        source: also forget the missing files of this source.
        dry_run: only say what would be forgotten.
        yes: forget even a large share.
        as_json: print one JSON document.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing.
        UsageError: if more than a tenth would be forgotten and ``yes`` is not given.
    """
    gallery = Gallery.open(gallery_path)
    if dry_run:
        _print_prune(find_gone(gallery, source), as_json, gallery_path, done=False)
        return
    with gallery.writer() as writer:
        plan = find_gone(gallery, source)
        if plan.share > LARGEST_SHARE and not yes:
            _say_gone(plan)
            raise UsageError(
                f"That is {plan.share:.0%} of the gallery at {gallery_path}; if you mean it, and "
                "no drive is unplugged, add --yes."
            )
        delete_gone(gallery, writer, plan)
    _print_prune(plan, as_json, gallery_path, done=True)


def _print_findings(findings: Sequence[Finding]) -> None:
    if findings:
        rows = [["damage" if f.damage else "note", f.what, f.text] for f in findings]
        print_table(["", "kind", "what"], rows)


def _progress() -> Callable[[str, int, int], None]:
    """A function that prints the progress of a check, at most every two seconds."""
    last = time.monotonic()

    def show(table: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 2:
            last = time.monotonic()
            say(f"Checking table {table}: {done} of {total} rows")

    return show


def _say_gone(plan: PrunePlan) -> None:
    for path in plan.paths[:_FILES_SHOWN]:
        say(f"gone: {path!r}")
    if len(plan.paths) > _FILES_SHOWN:
        more = len(plan.paths) - _FILES_SHOWN
        say(f"... and {more} more; `cies status --gone` lists all of them.")
    say(
        f"Gone: {len(plan.paths)} of {plan.files} files; {len(plan.keys)} of {plan.pictures} "
        "pictures have no file left, and would be forgotten with their vectors."
    )


def _print_prune(plan: PrunePlan, as_json: bool, gallery_path: Path, done: bool) -> None:
    if not as_json:
        _say_gone(plan)
        nothing = not (plan.paths or plan.keys or plan.source)
        say("Nothing to forget." if nothing else "Forgotten." if done else "Nothing was changed.")
        return
    print_document(
        {
            "gallery": str(gallery_path),
            "done": done,
            "paths": plan.paths,
            "keys": plan.keys,
            "files": plan.files,
            "pictures": plan.pictures,
            "share": round(plan.share, 6),
        }
    )
