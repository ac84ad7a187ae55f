"""From what the user typed to sources, and from a stored path back to the picture."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, Mapping, Sequence

from indexes.errors import UsageError
from indexes.store.records import inside, is_address, stored_path, unescaped
from ingest.sources.base import Found, Missing, Source, SourceOptions, looks_like_picture, suffix_of
from ingest.sources.cells import CellTable, cell_at
from ingest.sources.datasets import is_dataset, open_dataset
from ingest.sources.folders import Files, Folder, local_file
from ingest.sources.patterns import expand_braces, fixed_part, has_pattern
from ingest.sources.remote import RemoteFolder, file_system, kind_of, remote_file
from ingest.sources.shards import TarShard, member_at
from ingest.sources.tables import CsvTable, JsonLines

STDIN = "-"

_TABLES: dict[str, Callable[[str, Path, SourceOptions], Source]] = {
    ".csv": CsvTable,
    ".tsv": CsvTable,
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".parquet": CellTable,
    ".arrow": CellTable,
    ".tar": TarShard,
}
_COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz", ".csv.gz", ".jsonl.gz")


@dataclass(frozen=True)
class Opened:
    """What one word of the command line stands for.

    Attributes:
        name: as the gallery remembers it; empty if it is not worth remembering.
        sources: in order.
        options: how they are read, as the gallery remembers it.
    """

    name: str
    sources: tuple[Source, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def open_sources(
    texts: Sequence[str],
    options: SourceOptions,
    root: Path,
    remembered: Collection[str] = (),
    stdin: BinaryIO | None = None,
) -> list[Opened]:
    """Open everything the user named, before anything is done.

    Args:
        texts: folders, files, patterns, lists in braces, tables, shards, addresses, and ``-``.
        options: how to read them.
        root: the gallery's, for stored paths.
        remembered: names of sources ingested before; if one of these is not there now, that is
            no slip of the finger.
        stdin: where ``-`` is read from.

    Raises:
        UsageError: naming the first that is not there or cannot be used.
    """
    pictures: list[str] = []
    opened: list[Opened] = []
    remembered_as = options.to_json()
    if options.root is not None and not is_address(options.root):
        remembered_as["root"] = stored_path(options.root, root)
    for text in texts:
        if text == STDIN:
            opened.append(Opened("", _listed(stdin, options, root)))
            continue
        text = _local(text)
        name = _name(text, root)
        try:
            sources = _open(text, options, root)
        except _NotThereError as error:
            if name not in remembered:
                raise
            sources = (Missing(name, error.short),)
        if sources is None:
            pictures.append(text)
        else:
            opened.append(Opened(name, sources, remembered_as))
    if pictures:
        opened.append(Opened("", (Files("the files named", pictures, root),)))
    return opened


class _NotThereError(UsageError):
    def __init__(self, text: str, short: str):
        super().__init__(text)
        self.short = short


def _local(text: str) -> str:
    if text.startswith("file://"):
        return text.removeprefix("file://")
    if text.startswith("~") and not os.path.lexists(text):
        return os.path.expanduser(text)
    return text


def _name(text: str, root: Path) -> str:
    return text.rstrip("/") if is_address(text) else stored_path(os.path.abspath(text), root)


def _open(text: str, options: SourceOptions, root: Path) -> tuple[Source, ...] | None:
    """The sources of one word, or ``None`` for a single picture file."""
    if not text:
        raise UsageError("An empty source was named; give a folder or a file.")
    if is_address(text):
        return _open_address(text, options, root)
    if os.path.isdir(text) and not os.path.islink(text):
        if is_dataset(text):
            return tuple(open_dataset(text, root, options))
        return (Folder(text, root, options),)
    if os.path.lexists(text):
        if text.lower().endswith(_COMPRESSED):
            raise UsageError(f"{text} is compressed; unpack it first.")
        kind = _TABLES.get(suffix_of(text))
        if kind is not None:
            return (kind(text, root, options),)
        return (Folder(text, root, options),) if os.path.isdir(text) else None
    names = expand_braces(text)
    if names != [text]:
        return _open_all(names, text, options, root)
    if has_pattern(text):
        found = sorted(glob.glob(text, recursive=True))
        if not found:
            raise _NotThereError(f"Nothing matches {text}; check the pattern.", "matches nothing")
        return _open_all(found, text, options, root)
    raise _NotThereError(f"There is no file or folder {text}; check the path.", "is not there")


def _open_all(
    names: Sequence[str], text: str, options: SourceOptions, root: Path
) -> tuple[Source, ...]:
    """The sources that a pattern or a list in braces stands for."""
    sources: list[Source] = []
    pictures: list[str] = []
    for name in names:
        some = _open(name, options, root)
        if some is not None:
            sources.extend(some)
        elif looks_like_picture(name):
            pictures.append(name)
    if pictures:
        folder = fixed_part(os.path.abspath(expand_braces(text)[0]))
        below = Folder(folder or "/", root, options)
        sources.append(Files(_name(text, root), pictures, root, below.covers))
    return tuple(sources)


def _open_address(text: str, options: SourceOptions, root: Path) -> tuple[Source, ...] | None:
    names = expand_braces(text)
    if names != [text]:
        found = [_open_address(name, options, root) for name in names]
        return tuple(source for some in found for source in some or ())
    if has_pattern(text):
        scheme = text.partition("://")[0]
        matched = sorted(file_system(text).glob(text))
        if not matched:
            raise _NotThereError(f"Nothing matches {text}; check the pattern.", "matches nothing")
        sources: list[Source] = []
        pictures = []
        for name in matched:
            address = f"{scheme}://{str(name).lstrip('/')}"
            some = _open_address(address, options, root)
            if some is None:
                pictures.append(address)
            else:
                sources.extend(some)
        return (*sources, RemoteList(text, pictures)) if pictures else tuple(sources)
    kind = kind_of(text)
    if kind == "directory":
        return (RemoteFolder(text, options),)
    if not kind:
        raise _NotThereError(f"There is nothing at {text}; check the address.", "is not there")
    table = _TABLES.get(suffix_of(text))
    if table is not None:
        return (table(text, root, options),)
    return (RemoteList(text, [text]),)


class RemoteList(Source):
    """Pictures on other systems, named one by one."""

    def __init__(self, name: str, addresses: Sequence[str]):
        super().__init__(name)
        self._addresses = addresses

    def scan(self) -> Iterator[Found]:
        """The pictures in order."""
        return (remote_file(address) for address in self._addresses)


def _listed(stdin: BinaryIO | None, options: SourceOptions, root: Path) -> tuple[Source, ...]:
    data = stdin.read() if stdin is not None else b""
    if not options.null and b"\0" in data:
        raise UsageError("The paths on stdin end in NUL; add -0.")
    lines = data.split(b"\0" if options.null else b"\n")
    texts = [os.fsdecode(line.rstrip(b"\r\n")) for line in lines if line.strip()]
    addresses = [text for text in texts if is_address(text)]
    paths = [text for text in texts if not is_address(text)]
    sources: list[Source] = []
    if paths or not addresses:
        sources.append(Files("the paths on stdin", paths, root))
    if addresses:
        sources.append(RemoteList("the paths on stdin", addresses))
    return tuple(sources)


def located(location: str) -> Found:
    """A picture by what :meth:`indexes.store.gallery.Gallery.location` gives, as it is now.

    Raises:
        UsageError: if it lies at an address that cannot be read here.
    """
    if is_address(location):
        return found_at(location, Path())
    folder = Path(location).absolute().anchor
    return found_at(stored_path(location, Path(folder)), Path(folder))


def found_at(path: str, root: Path) -> Found:
    """A picture by its stored path, as it is now.

    Args:
        path: as a gallery stores it.
        root: the gallery's.

    Raises:
        UsageError: if it lies at an address that cannot be read here.
    """
    parts = inside(path)
    if parts is None:
        return (
            remote_file(path)
            if is_address(path)
            else local_file(os.path.join(root, unescaped(path)), root)
        )
    container = parts[0] if is_address(parts[0]) else os.path.join(root, unescaped(parts[0]))
    at = member_at if container.lower().endswith(".tar") else cell_at
    return at(path, container)
