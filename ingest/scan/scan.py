"""Opens sources and compares them with a gallery: the first step of an ingest and of a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Callable, Sequence

from indexes.errors import UsageError
from indexes.store.attributes import column_name, user_columns
from indexes.store.gallery import Gallery
from indexes.store.records import FILES, LISTINGS, is_address, unescaped
from indexes.store.writer import Writer
from ingest.scan.known_files import KnownFiles, KnownListings
from ingest.scan.metadata import ColumnUpdater, apply_column_changes, unify_column_types
from ingest.scan.plan import IngestPlan, Planner
from ingest.sources.base import SourceOptions
from ingest.sources.factory import SourceGroup, open_sources
from ingest.sources.values import without_type


@dataclass(frozen=True)
class ScanResult:
    """The result of a scan.

    Attributes:
        plan: what the ingest has to do.
        planner: returns the records of files that are gone.
        known: the files in the gallery before the scan.
        relabelled: files whose user's columns changed.
        notes: sentences for the user.
    """

    plan: IngestPlan
    planner: Planner
    known: KnownFiles
    relabelled: int
    notes: tuple[str, ...] = ()


def open_all_sources(
    gallery: Gallery | None,
    sources: Sequence[str | Path | SourceGroup],
    options: SourceOptions,
    root: Path | None = None,
    stdin: BinaryIO | None = None,
) -> list[SourceGroup]:
    """Open the named sources, or all sources a gallery remembers, each with its stored options.

    Args:
        gallery: ``None`` if it does not exist yet.
        sources: names, or sources that are already open; none for all that are remembered.
        options: how to read them.
        root: the root of a gallery that does not exist yet.
        stdin: read for the name ``-``.

    Raises:
        UsageError: if a source does not exist or cannot be used, or none is named or remembered.
    """
    root = gallery.root if gallery is not None else root or Path.cwd()
    remembered = gallery.sources() if gallery is not None else {}
    if not sources:
        if not remembered:
            raise UsageError(
                "No source was named and none is remembered; name a folder, such as "
                "`cies ingest photos`."
            )
        return [
            group
            for name, entry in remembered.items()
            for group in open_sources(
                [_location(name, root)], _stored_options(entry, root), root, remembered
            )
        ]
    ready = [source for source in sources if isinstance(source, SourceGroup)]
    names = [str(source) for source in sources if not isinstance(source, SourceGroup)]
    if options.root is not None and not is_address(options.root):
        options = replace(options, root=str(Path(options.root).absolute()))
    return [*ready, *open_sources(names, options, root, remembered, stdin)]


def _location(name: str, root: Path) -> str:
    return name if is_address(name) else str(root / unescaped(name))


def _stored_options(entry: dict[str, object], root: Path) -> SourceOptions:
    options = SourceOptions.from_json(entry)
    if options.root is not None:
        options = replace(options, root=_location(options.root, root))
    return options


def scan_sources(
    gallery: Gallery | None,
    groups: Sequence[SourceGroup],
    needed: Callable[[str], object],
    writer: Writer | None = None,
    retry_failed: bool = False,
) -> ScanResult:
    """Compare sources with a gallery; with a writer, also store the sources and user's columns.

    Args:
        gallery: ``None`` if it does not exist yet.
        groups: the open sources.
        needed: whether the picture of a content key lacks a condition or its image record.
        writer: the writer of the gallery; ``None`` to write nothing.
        retry_failed: whether to plan for files that could not be read before.

    Raises:
        UsageError: if no source can be reached, or a column's type is not that of the gallery.
    """
    sources = [source for group in groups for source in group.sources]
    if gallery is not None:
        apply_column_changes(sources, _column_changes(gallery, groups, writer))
    unify_column_types(sources, user_columns(gallery) if gallery is not None else {})
    has_rows = any(source.columns or source.owns_named_files for source in sources)
    files = gallery.read("files", FILES) if gallery is not None else FILES.empty_table()
    rows = LISTINGS.empty_table()
    if gallery is not None and has_rows:
        rows = gallery.read("listings", LISTINGS)
    known, known_listings = KnownFiles(files), KnownListings(rows)
    root = gallery.root if gallery is not None else Path.cwd()
    outdated = _outdated_columns(gallery, groups) if gallery is not None else {}
    columns = ColumnUpdater(known_listings, writer, len(sources) > 1, outdated)
    planner = Planner(known, needed, root, retry_failed, columns.update)
    plan = planner.scan(groups, known_listings.listed_by if has_rows else None)
    if len(plan.unreachable) == len(groups) and not plan.todo:
        lost = plan.unreachable[0]
        raise UsageError(
            f"{lost.name} {lost.reason}, and the gallery has {lost.files} files from it; if a "
            "drive is not plugged in, plug it in and run this again; if it was moved, run `cies "
            f"relocate {lost.name} NEW`; to forget the files, run "
            f"`cies prune --source {lost.name}`."
        )
    columns.flush()
    if writer is not None and gallery is not None:
        _drop_empty_columns(gallery, writer, {name for _, name in columns.dropped})
        _remember(gallery, writer, groups, plan)
    notes = tuple(
        f"column '{name}' is not taken from {source} any more, and was dropped from {count} files"
        for (source, name), count in columns.dropped.items()
    )
    return ScanResult(plan, planner, known, columns.changed, notes)


def _column_changes(
    gallery: Gallery, groups: Sequence[SourceGroup], writer: Writer | None
) -> dict[str, str | None]:
    """The user's renamed and removed columns; one that ``--columns`` names is not removed."""
    changes = gallery.column_changes()
    wanted = {
        column_name(without_type(text))
        for group in groups
        for text in group.options.get("columns", ())
    }
    kept = {old: new for old, new in changes.items() if new is not None or old not in wanted}
    if writer is not None and kept != changes:
        writer.put_column_changes(kept)
    return kept


def _outdated_columns(gallery: Gallery, groups: Sequence[SourceGroup]) -> dict[str, set[str]]:
    """The columns that a source, by its name, had at its last ingest and does not have now.

    Columns that another source of the gallery has are left out: the same file may have them from
    there.
    """
    stored = gallery.source_columns()
    existing = set(user_columns(gallery))
    found: dict[str, set[str]] = {}
    for group in groups:
        now = {column for source in group.sources for column in source.columns}
        had = stored.get(group.name)
        if had is None and not stored and _listing_sources(gallery) == {group.name}:
            # A gallery of an earlier version, in which all columns are from one source.
            had = sorted(existing)
        elsewhere = {
            column
            for other in groups
            if other is not group
            for source in other.sources
            for column in source.columns
        }
        for name, columns in stored.items():
            if name != group.name:
                elsewhere |= set(columns)
        lost = (set(had or ()) & existing) - now - elsewhere
        reachable = not any(source.reason for source in group.sources)
        if lost and reachable:
            found |= {source.name: lost for source in group.sources}
    return found


def _listing_sources(gallery: Gallery) -> set[str]:
    """The sources that have listed files of the gallery."""
    return set(gallery.read("listings", LISTINGS).column("source").unique().to_pylist())


def _drop_empty_columns(gallery: Gallery, writer: Writer, names: set[str]) -> None:
    """Remove those of some columns in which no file has a value any more."""
    if names:
        rows = gallery.read("listings", LISTINGS)
        writer.change_columns(
            {n: None for n in sorted(names) if rows.column(n).null_count == rows.num_rows}
        )


def _remember(
    gallery: Gallery, writer: Writer, groups: Sequence[SourceGroup], plan: IngestPlan
) -> None:
    """Store the names, options and columns of the sources that could be reached."""
    unreachable = {source.name for source in plan.unreachable}
    for group in groups:
        columns = dict.fromkeys(column for source in group.sources for column in source.columns)
        if group.name and group.name not in unreachable:
            writer.put_source(group.name, group.options, list(columns))
