"""``cies verify``, ``repair``, ``prune``, ``remove``: what they do and print."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Sequence

from cies import maintain
from cies.console import print_document, print_table, say
from indexes.errors import UsageError
from indexes.repair import repair
from indexes.store.gallery import Gallery
from indexes.verify import Finding, verify
from ingest.fill.prune import Removal

#: Pictures named per condition by a repair; its JSON document has all of them.
_PICTURES_SHOWN = 20

#: Files named by prune and remove; their JSON document has all of them.
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
    gallery_path: Path,
    source: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    where: str | None = None,
) -> None:
    """Forget the files that are gone, and pictures without any file.

    Args:
        gallery_path: the gallery's folder.
        source: also forget the missing files of this source.
        dry_run: only say what would be forgotten.
        yes: forget even a large share.
        as_json: print one JSON document.
        where: forget only files that match this filter.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing.
        UsageError: if more than a tenth of the pictures would be lost and ``yes`` is not given.
    """
    gallery = Gallery.open(gallery_path)
    before = _bytes(gallery_path)
    try:
        removal = maintain.prune(gallery, source, where, dry_run, yes)
    except UsageError:
        if not yes:
            _say_gone(maintain.prune(gallery, source, where, dry_run=True))
        raise
    if as_json:
        _print_removal(gallery_path, removal, not dry_run)
        return
    _say_gone(removal)
    for name in removal.absent:
        say(f"Source {name!r} is not there and has no file in the gallery any more.")
    nothing = not (removal.paths or removal.keys or removal.source or removal.absent)
    if nothing:
        say("Nothing to forget.")
    else:
        say("Nothing was changed." if dry_run else "Forgotten.")
    if not dry_run:
        _say_space(gallery_path, before, bool(removal.keys))


def run_remove(
    gallery_path: Path, names: Sequence[str], where: str | None, dry_run: bool, as_json: bool
) -> None:
    """Remove files and pictures that the user names.

    Args:
        gallery_path: the gallery's folder.
        names: keys, paths and folders.
        where: a filter.
        dry_run: only say what would be removed.
        as_json: print one JSON document.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing.
        UsageError: if nothing is named, a name is not known, or the filter is wrong.
    """
    gallery = Gallery.open(gallery_path)
    before = _bytes(gallery_path)
    removal = maintain.remove(gallery, names, where, dry_run)
    if as_json:
        _print_removal(gallery_path, removal, not dry_run)
        return
    _say_files("removed", removal.paths)
    say(
        f"{len(removal.paths)} of {removal.files} files, {len(removal.keys)} of "
        f"{removal.pictures} pictures."
    )
    if not (removal.paths or removal.keys):
        say("Nothing to remove.")
        return
    say("Nothing was changed." if dry_run else "Removed. The picture files were not touched.")
    for source, count in removal.returning.items():
        say(
            f"Still in {source}: {count}. The next `cies ingest` adds these again, unless you "
            "delete the files or their rows, or leave them out with --exclude."
        )
    if not dry_run:
        _say_space(gallery_path, before, bool(removal.keys))


def run_relocate(gallery_path: Path, old: str, new: str, dry_run: bool, as_json: bool) -> None:
    """Change the paths of a tree that was moved.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing.
        UsageError: if the gallery has nothing below ``old``, or ``new`` has none of its files.
    """
    found = maintain.relocate(Gallery.open(gallery_path), old, new, dry_run)
    if as_json:
        print_document(
            {
                "gallery": str(gallery_path),
                "done": not dry_run,
                "old": found.old,
                "new": found.new,
                "files": found.files,
                "existing": found.existing,
                "sources": [{"old": one, "new": two} for one, two in found.sources.items()],
            }
        )
        return
    say(f"{found.files} files: {found.old!r} is {found.new!r} now.")
    for before, now in found.sources.items():
        say(f"Source {before!r} is {now!r} now.")
    if found.existing < found.files:
        say(
            f"{found.files - found.existing} of them are not there; the next `cies ingest` marks "
            "them as gone."
        )
    say("Nothing was changed." if dry_run else "Done; no picture was read.")


def run_merge(gallery_path: Path, other: Path, dry_run: bool, as_json: bool) -> None:
    """Add what another gallery has.

    Args:
        gallery_path: the gallery that gets everything; an empty one is made if there is none.
        other: the gallery that is read.
        dry_run: change nothing.
        as_json: print one JSON document.

    Raises:
        GalleryMissing: if ``other`` is no gallery.
        GalleryLocked: if another process is writing.
        GalleryMismatch: if no vectors of one can be compared with those of the other.
        UsageError: if both are the same gallery, or a column has other values in each.
    """
    source = Gallery.open(other)
    if dry_run:
        gallery = Gallery.open(gallery_path)
    else:
        exists = (gallery_path / "manifest.lance").is_dir()
        gallery = Gallery.create(gallery_path, None if exists else source.geometry)
    found = maintain.merge(gallery, source, dry_run)
    if as_json:
        print_document(
            {"gallery": str(gallery_path), "other": str(other), "done": not dry_run} | vars(found)
        )
        return
    for title, count in found.conditions.items():
        is_new = " (a new condition here)" if title in found.new_conditions else ""
        say(f"{title}: {count} vectors{is_new}")
    for title, reason in found.left_out.items():
        say(f"{title} is left out: {reason}.")
    for conflict in found.conflicts:
        say(f"{conflict[0].upper()}{conflict[1:]}.")
    if found.columns:
        say(f"New columns: {', '.join(found.columns)}.")
    if found.collections:
        say(f"Collections with new pictures: {', '.join(found.collections)}.")
    for source_name in found.sources:
        say(f"New source: {source_name}")
    say(f"{found.files} files and {found.pictures} pictures are new.")
    say("Nothing was changed." if dry_run else f"{other} is merged into {gallery_path}.")


def run_remove_columns(
    gallery_path: Path, names: Sequence[str], dry_run: bool, as_json: bool
) -> None:
    """Remove columns of the user.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing.
        UsageError: if there is no such column.
    """
    removed = maintain.remove_columns(Gallery.open(gallery_path), names, dry_run)
    if as_json:
        print_document({"gallery": str(gallery_path), "done": not dry_run, "removed": removed})
        return
    if dry_run:
        say(f"Would be removed: {', '.join(removed)}. Nothing was changed.")
    else:
        say(
            f"Removed: {', '.join(removed)}. Later ingests leave them out; `cies ingest TABLE "
            "--columns NAME` brings one back."
        )


def run_rename_column(gallery_path: Path, old: str, new: str, dry_run: bool, as_json: bool) -> None:
    """Rename a column of the user.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing.
        UsageError: if there is no such column, or the new name is taken.
    """
    before, now = maintain.rename_column(Gallery.open(gallery_path), old, new, dry_run)
    if as_json:
        print_document(
            {"gallery": str(gallery_path), "done": not dry_run, "old": before, "new": now}
        )
        return
    say(
        f"Column {before} would be {now}. Nothing was changed."
        if dry_run
        else f"Column {before} is {now} now. Later ingests of a table with {before} store it so."
    )


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


def _say_gone(removal: Removal) -> None:
    _say_files("gone", removal.paths, "; `cies status --gone` lists all of them")
    say(
        f"Gone: {len(removal.paths)} of {removal.files} files; {len(removal.keys)} of "
        f"{removal.pictures} pictures have no file left, and would be forgotten with their "
        "vectors."
    )


def _say_files(word: str, paths: Sequence[str], where: str = "") -> None:
    for path in paths[:_FILES_SHOWN]:
        say(f"{word}: {path!r}")
    if len(paths) > _FILES_SHOWN:
        say(f"... and {len(paths) - _FILES_SHOWN} more{where}.")


def _bytes(gallery_path: Path) -> int:
    """Bytes of a gallery on the disk."""
    return sum(path.stat().st_size for path in gallery_path.rglob("*") if path.is_file())


def _say_space(gallery_path: Path, before: int, removed: bool) -> None:
    """Say how much disk space was given back, and when the rest is."""
    now = _bytes(gallery_path)
    if before > now:
        say(f"The gallery takes {(before - now) / 1e6:.1f} MB less: {now / 1e6:.1f} MB.")
    if removed:
        say(
            "What a search may still be reading is kept for an hour; after that, the next "
            "`cies ingest` or `cies prune` gives its space back."
        )


def _print_removal(gallery_path: Path, removal: Removal, done: bool) -> None:
    print_document(
        {
            "gallery": str(gallery_path),
            "done": done,
            "paths": removal.paths,
            "keys": removal.keys,
            "files": removal.files,
            "pictures": removal.pictures,
            "share": round(removal.share, 6),
        }
    )
