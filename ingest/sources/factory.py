"""Opens sources by what the user typed, and finds pictures again by their stored paths.

Every kind of source is one entry of :data:`SOURCE_KINDS`.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Callable, Mapping, Sequence

from indexes.errors import UsageError
from indexes.store.records import inside, is_address, stored_path, unescaped
from ingest.sources.base import (
    MissingSource,
    Source,
    SourceFile,
    SourceOptions,
    has_picture_suffix,
    suffix_of,
)
from ingest.sources.cells import CellTable, table_cell
from ingest.sources.datasets import is_dataset, open_dataset
from ingest.sources.folders import FileList, Folder, local_file
from ingest.sources.patterns import expand_braces, fixed_part, has_wildcard
from ingest.sources.remote import (
    RemoteFileList,
    RemoteFolder,
    entry_type,
    matching_addresses,
    remote_file,
)
from ingest.sources.shards import TarShard, shard_member
from ingest.sources.tables import CsvTable, JsonLines

#: The argument that means a list of paths on stdin.
STDIN = "-"

_COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz", ".csv.gz", ".jsonl.gz")


@dataclass(frozen=True)
class SourceKind:
    """A kind of source, as the registry holds it.

    Attributes:
        name: the name for people.
        open: makes the sources of a location; arguments are the location (a path or an address),
            the gallery's root for stored paths, and the options.
        suffixes: file names that this kind reads; empty for a kind of folder.
        accepts_folder: whether a folder is of this kind.
        picture: looks up a picture inside a file of this kind, by its stored path and the file's
            location; ``None`` if files of this kind contain no pictures.
    """

    name: str
    open: Callable[[str, Path, SourceOptions], Sequence[Source]]
    suffixes: tuple[str, ...] = ()
    accepts_folder: Callable[[str], bool] = lambda location: False
    picture: Callable[[str, str], SourceFile] | None = None


def _single(
    make: Callable[[str, Path, SourceOptions], Source],
) -> Callable[[str, Path, SourceOptions], Sequence[Source]]:
    return lambda location, root, options: [make(location, root, options)]


#: All kinds of sources; the first that accepts a location opens it.
SOURCE_KINDS = (
    SourceKind("tar shard", _single(TarShard), (".tar",), picture=shard_member),
    SourceKind(
        "Parquet or Arrow table", _single(CellTable), (".parquet", ".arrow"), picture=table_cell
    ),
    SourceKind("CSV or TSV table", _single(CsvTable), (".csv", ".tsv")),
    SourceKind("JSON Lines table", _single(JsonLines), (".jsonl", ".ndjson")),
    SourceKind("datasets folder", open_dataset, accepts_folder=is_dataset),
    SourceKind("remote folder", _single(RemoteFolder), accepts_folder=is_address),
    SourceKind("folder", _single(Folder), accepts_folder=lambda location: True),
)


@dataclass(frozen=True)
class SourceGroup:
    """The sources that one argument of the command line opens.

    Attributes:
        name: as the gallery remembers it; empty if it is not remembered.
        sources: the sources in order.
        options: how they are read, as the gallery remembers it.
    """

    name: str
    sources: tuple[Source, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def left_out(groups: Sequence[SourceGroup]) -> dict[str, int]:
    """What the last scan of some sources left out, see :attr:`Source.left_out`; largest first."""
    counts: Counter[str] = Counter()
    for group in groups:
        for source in group.sources:
            counts.update(source.left_out)
    return dict(counts.most_common())


def open_sources(
    texts: Sequence[str],
    options: SourceOptions,
    root: Path,
    remembered: Collection[str] = (),
    stdin: BinaryIO | None = None,
) -> list[SourceGroup]:
    """Open all sources that the user named, before anything is ingested.

    Args:
        texts: folders, files, patterns, lists in braces, tables, shards, addresses, and ``-``.
        options: how to read them.
        root: the gallery's root, for stored paths.
        remembered: names of sources that were ingested before; if one of these does not exist
            now, a :class:`MissingSource` is opened instead of raising an error.
        stdin: read for the argument ``-``.

    Raises:
        UsageError: naming the first that does not exist or cannot be used.
    """
    pictures: list[str] = []
    groups: list[SourceGroup] = []
    stored_options = options.to_json()
    if options.root is not None and not is_address(options.root):
        stored_options["root"] = stored_path(options.root, root)
    for text in texts:
        if text == STDIN:
            groups.append(SourceGroup("", _listed_on_stdin(stdin, options, root)))
            continue
        text = _without_scheme_and_tilde(text)
        name = _name(text, root)
        try:
            sources = _open(text, root, options)
        except _NotFoundError as error:
            if name not in remembered:
                raise
            sources = [MissingSource(name, error.reason)]
        if sources is not None:
            groups.append(SourceGroup(name, tuple(sources), stored_options))
        elif is_address(text):
            groups.append(SourceGroup(name, (RemoteFileList(text, [text]),), stored_options))
        else:
            pictures.append(text)
    if pictures:
        groups.append(SourceGroup("", (FileList("the files named", pictures, root),)))
    return groups


class _NotFoundError(UsageError):
    def __init__(self, text: str, reason: str):
        super().__init__(text)
        self.reason = reason


def _without_scheme_and_tilde(text: str) -> str:
    if text.startswith("file://"):
        return text.removeprefix("file://")
    if text.startswith("~") and not os.path.lexists(text):
        return os.path.expanduser(text)
    return text


def _name(text: str, root: Path) -> str:
    return text.rstrip("/") if is_address(text) else stored_path(os.path.abspath(text), root)


def _open(text: str, root: Path, options: SourceOptions) -> list[Source] | None:
    """The sources of one argument; ``None`` for a single picture file."""
    if not text:
        raise UsageError("An empty source was named; give a folder or a file.")
    remote = is_address(text)
    # Local names may contain such characters themselves, so they are looked up first.
    if not remote and (kind := _local_entry_type(text)):
        return _open_entry(text, kind, root, options)
    names = expand_braces(text)
    if names == [text]:
        if not has_wildcard(text):
            if remote and (kind := entry_type(text)):
                return _open_entry(text, kind, root, options)
            missing = f"There is no file or folder {text}; check the path."
            if remote:
                missing = f"There is nothing at {text}; check the address."
            raise _NotFoundError(missing, "is not there")
        names = matching_addresses(text) if remote else sorted(glob.glob(text, recursive=True))
        if not names:
            raise _NotFoundError(f"Nothing matches {text}; check the pattern.", "matches nothing")
    return _open_several(names, text, root, options)


def _local_entry_type(path: str) -> str:
    """``folder`` or ``file``, or empty if there is nothing; as :func:`remote.entry_type`."""
    if os.path.isdir(path):
        return "folder"
    return "file" if os.path.lexists(path) else ""


def _open_entry(
    location: str, entry_type: str, root: Path, options: SourceOptions
) -> list[Source] | None:
    """The sources of a folder or file; ``None`` for a file that is not a table or shard."""
    suffix = suffix_of(location)
    for kind in SOURCE_KINDS:
        folder = entry_type == "folder"
        if kind.accepts_folder(location) if folder else suffix in kind.suffixes:
            return list(kind.open(location, root, options))
    if location.lower().endswith(_COMPRESSED):
        raise UsageError(f"{location} is compressed; unpack it first.")
    return None


def _open_several(
    names: Sequence[str], text: str, root: Path, options: SourceOptions
) -> list[Source]:
    """The sources of all names that a pattern or a list in braces expands to."""
    sources: list[Source] = []
    pictures: list[str] = []
    others: list[str] = []
    for name in names:
        opened = _open(name, root, options)
        if opened is not None:
            sources.extend(opened)
        elif has_picture_suffix(name):
            pictures.append(name)
        else:
            others.append(name)
    if pictures and is_address(text):
        sources.append(RemoteFileList(text, pictures))
    elif pictures:
        folder = Folder(fixed_part(os.path.abspath(expand_braces(text)[0])) or "/", root, options)
        sources.append(FileList(_name(text, root), pictures, root, folder.covers, others))
    return sources


def _listed_on_stdin(
    stdin: BinaryIO | None, options: SourceOptions, root: Path
) -> tuple[Source, ...]:
    data = stdin.read() if stdin is not None else b""
    if not options.null and b"\0" in data:
        raise UsageError("The paths on stdin end in NUL; add -0.")
    lines = data.split(b"\0" if options.null else b"\n")
    texts = [os.fsdecode(line.rstrip(b"\r\n")) for line in lines if line.strip()]
    addresses = [text for text in texts if is_address(text)]
    paths = [text for text in texts if not is_address(text)]
    sources: list[Source] = []
    if paths or not addresses:
        sources.append(FileList("the paths on stdin", paths, root))
    if addresses:
        sources.append(RemoteFileList("the paths on stdin", addresses))
    return tuple(sources)


def file_at(location: str) -> SourceFile:
    """Look up a picture by a location that :meth:`indexes.store.gallery.Gallery.location` returns.

    Raises:
        UsageError: if it is an address that cannot be read on this machine.
    """
    if is_address(location):
        return stored_file(location, Path())
    folder = Path(location).absolute().anchor
    return stored_file(stored_path(location, Path(folder)), Path(folder))


def stored_file(path: str, root: Path) -> SourceFile:
    """Look up a picture by its stored path.

    Args:
        path: as a gallery stores it.
        root: the gallery's root.

    Raises:
        UsageError: if it is an address that cannot be read on this machine.
    """
    parts = inside(path)
    if parts is None:
        if is_address(path):
            return remote_file(path)
        return local_file(os.path.join(root, unescaped(path)), root)
    container = parts[0] if is_address(parts[0]) else os.path.join(root, unescaped(parts[0]))
    suffix = suffix_of(container)
    kinds = (kind.picture for kind in SOURCE_KINDS if kind.picture and suffix in kind.suffixes)
    return next(kinds, table_cell)(path, container)
