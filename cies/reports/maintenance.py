"""``cies verify`` and ``cies repair``: what they print."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

from cies.console import print_json, print_table, say
from indexes.store.gallery import Gallery
from indexes.store.repair import repair
from indexes.store.verify import Finding, verify
from indexes.store.writer import COPY
from query.hits import SCHEMA_VERSION

#: Paths named by a repair; all of them are in its JSON.
_SHOWN = 20


def run_verify(place: Path, as_json: bool) -> bool:
    """Check a gallery and say what was found; returns whether it is whole.

    Raises:
        GalleryMissing: if there is no gallery.
    """
    findings = verify(place, COPY, _progress())
    damaged = any(finding.damage for finding in findings)
    if as_json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "gallery": str(place),
                "damaged": damaged,
                "findings": [vars(finding) for finding in findings],
            }
        )
    else:
        _print_findings(findings)
    if damaged:
        say(f"The gallery at {place} is damaged; `cies repair -g {place}` takes the damage out.")
    else:
        say(f"The gallery at {place} is whole.")
    return not damaged


def _print_findings(findings: list[Finding]) -> None:
    if findings:
        rows = [["damage" if f.damage else "note", f.what, f.text] for f in findings]
        print_table(["", "kind", "what"], rows)


def run_repair(place: Path, dry_run: bool, as_json: bool) -> None:
    """Repair a gallery and say what is to be done next.

    Raises:
        GalleryError: if it is missing, locked, or cannot be written to.
    """
    done = repair(place, dry_run, _progress())
    damaged = any(finding.damage for finding in done.findings)
    if as_json:
        document = {"gallery": str(place), "dry_run": dry_run, "damaged": damaged}
        document |= {"findings": [vars(f) for f in done.findings], "steps": done.steps}
        document |= {"embed_again": done.embed_again, "read_again": done.read_again}
        print_json({"schema_version": SCHEMA_VERSION, **document})
    else:
        _print_findings(done.findings)
    if not damaged:
        say(f"The gallery at {place} is whole; there is nothing to repair.")
        return
    if dry_run:
        say("Nothing was changed; leave --dry-run out to take the damage out.")
        return
    for step in done.steps:
        say(step)
    paths = Gallery.open(place).paths()
    for condition, keys in done.embed_again.items():
        say(f"To be embedded again under '{condition}': {len(keys)} pictures.")
        for key in keys[:_SHOWN]:
            say(f"  {(paths.get(key) or [key])[0]!r}")
        if len(keys) > _SHOWN:
            say(f"  ... and {len(keys) - _SHOWN} more")
    say("Run your `cies ingest` again: it does exactly what is missing now.")


def _progress() -> Callable[[str, int, int], None]:
    """A line on stderr now and then."""
    last = time.monotonic()

    def show(table: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 2:
            last = time.monotonic()
            say(f"Checking table {table}: {done} of {total} rows")

    return show
