"""Opens sources and compares them with a gallery: the first step of an ingest and of a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Callable, Sequence

from indexes.errors import UsageError
from indexes.store.attributes import user_columns
from indexes.store.gallery import Gallery
from indexes.store.records import FILES, LISTINGS, is_address, unescaped
from indexes.store.writer import Writer
from ingest.scan.known_files import KnownFiles, KnownListings
from ingest.scan.metadata import ColumnUpdater, unify_column_types
from ingest.scan.plan import IngestPlan, Planner
from ingest.sources.base import SourceOptions
from ingest.sources.factory import SourceGroup, open_sources


@dataclass(frozen=True)
class ScanResult:
    """The result of a scan.

    Attributes:
        plan: what the ingest has to do.
        planner: returns the records of files that are gone.
        known: the files in the gallery before the scan.
        relabelled: files whose user's columns changed.
    """

    plan: IngestPlan
    planner: Planner
    known: KnownFiles
    relabelled: int


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
    unify_column_types(sources, user_columns(gallery) if gallery is not None else {})
    has_rows = any(source.columns or source.owns_named_files for source in sources)
    files = gallery.read("files", FILES) if gallery is not None else FILES.empty_table()
    rows = LISTINGS.empty_table()
    if gallery is not None and has_rows:
        rows = gallery.read("listings", LISTINGS)
    known, known_listings = KnownFiles(files), KnownListings(rows)
    root = gallery.root if gallery is not None else Path.cwd()
    columns = ColumnUpdater(known_listings, writer, several=len(sources) > 1)
    planner = Planner(known, needed, root, retry_failed, columns.update)
    plan = planner.scan(groups, known_listings.listed_by if has_rows else None)
    if len(plan.unreachable) == len(groups) and not plan.todo:
        lost = plan.unreachable[0]
        raise UsageError(
            f"{lost.name} {lost.reason}, and the gallery has {lost.files} files from it; if a "
            "drive is not plugged in, plug it in and run this again; to forget the files, run "
            f"`cies prune --source {lost.name}`."
        )
    columns.flush()
    if writer is not None and gallery is not None:
        _remember(gallery, writer, groups, plan)
    return ScanResult(plan, planner, known, columns.changed)


def _remember(
    gallery: Gallery, writer: Writer, groups: Sequence[SourceGroup], plan: IngestPlan
) -> None:
    """Store the names and options of the sources that could be reached."""
    stored = gallery.sources()
    unreachable = {source.name for source in plan.unreachable}
    for group in groups:
        name = group.name
        if name and name not in unreachable and stored.get(name) != group.options:
            writer.put_source(name, group.options)
