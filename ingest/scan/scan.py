"""Opens sources and compares them with a gallery: what a run does first, and a plan does only."""

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
from ingest.scan.metadata import Listings, agree_on_columns
from ingest.scan.plan import Plan, Planner
from ingest.sources.base import SourceOptions
from ingest.sources.factory import Opened, open_sources


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        plan: what is to be done.
        planner: who says which records are gone.
        known: the files the gallery had seen before.
        relabelled: files of which the user's tables say something new.
    """

    plan: Plan
    planner: Planner
    known: KnownFiles
    relabelled: int


def open_all(
    gallery: Gallery | None,
    sources: Sequence[str | Path | Opened],
    options: SourceOptions,
    root: Path | None = None,
    stdin: BinaryIO | None = None,
) -> list[Opened]:
    """Open sources by name, or all those a gallery remembers, each by its own options.

    Args:
        gallery: ``None`` if there is none yet.
        sources: names, or what was opened before; none for those remembered.
        options: how to read them.
        root: of a gallery that is not there yet.
        stdin: where ``-`` is read from.

    Raises:
        UsageError: if one is not there or cannot be used, or none is known.
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
            one
            for name, entry in remembered.items()
            for one in open_sources(
                [_location(name, root)], _restored(entry, root), root, remembered
            )
        ]
    ready = [source for source in sources if isinstance(source, Opened)]
    names = [str(source) for source in sources if not isinstance(source, Opened)]
    if options.root is not None and not is_address(options.root):
        options = replace(options, root=str(Path(options.root).absolute()))
    return [*ready, *open_sources(names, options, root, remembered, stdin)]


def _location(name: str, root: Path) -> str:
    return name if is_address(name) else str(root / unescaped(name))


def _restored(entry: dict[str, object], root: Path) -> SourceOptions:
    options = SourceOptions.from_json(entry)
    if options.root is not None:
        options = replace(options, root=_location(options.root, root))
    return options


def survey(
    gallery: Gallery | None,
    opened: Sequence[Opened],
    needed: Callable[[str], object],
    writer: Writer | None = None,
    retry_failed: bool = False,
) -> Survey:
    """Compare sources with a gallery, and remember them and what their tables say.

    Args:
        gallery: ``None`` if there is none yet.
        opened: the sources.
        needed: whether the picture of a content key lacks anything the gallery should have.
        writer: where to; ``None`` to write nothing.
        retry_failed: whether to plan for what could not be read before.

    Raises:
        UsageError: if nothing can be reached, or a column's type is not that of the gallery.
    """
    sources = [source for one in opened for source in one.sources]
    agree_on_columns(sources, user_columns(gallery) if gallery is not None else {})
    listing = any(source.columns or source.lists for source in sources)
    files = gallery.read("files", FILES) if gallery is not None else FILES.empty_table()
    rows = LISTINGS.empty_table()
    if gallery is not None and listing:
        rows = gallery.read("listings", LISTINGS)
    known, known_listings = KnownFiles(files), KnownListings(rows)
    root = gallery.root if gallery is not None else Path.cwd()
    listings = Listings(known_listings, writer, several=len(sources) > 1)
    planner = Planner(known, needed, root, retry_failed, listings.listed)
    plan = planner.look(opened, known_listings.listed_by if listing else None)
    if len(plan.unreachable) == len(opened) and not plan.todo:
        one = plan.unreachable[0]
        raise UsageError(
            f"{one.name} {one.reason}, and the gallery knows {one.files} files from it; if a "
            "drive is not plugged in, plug it in and run this again; to forget them, "
            f"`cies prune --source {one.name}`."
        )
    listings.flush()
    if writer is not None and gallery is not None:
        _remember(gallery, writer, opened, plan)
    return Survey(plan, planner, known, listings.changed)


def _remember(gallery: Gallery, writer: Writer, opened: Sequence[Opened], plan: Plan) -> None:
    there = gallery.sources()
    lost = {one.name for one in plan.unreachable}
    for one in opened:
        if one.name and one.name not in lost and there.get(one.name) != one.options:
            writer.put_source(one.name, one.options)
