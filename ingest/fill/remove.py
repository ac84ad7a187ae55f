"""Finds the files and pictures that the user wants to remove from a gallery."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.store.attributes import accepted_paths, attributes
from indexes.store.gallery import Gallery
from indexes.store.records import FILES, LISTINGS, is_address
from ingest.fill.prune import REMOVED, Matching, Removal
from ingest.sources.base import MissingSource
from ingest.sources.folders import is_absent

#: Unknown names that an error lists.
_NAMES_SHOWN = 3

_KEY = re.compile(r"[0-9a-f]{64}")


def find_chosen(
    gallery: Gallery, names: Sequence[str] = (), matching: Matching | None = None
) -> Removal:
    """Find the files and pictures that the user wants to remove.

    Args:
        gallery: the gallery.
        names: keys of pictures, paths of files, and folders, tables or shards for all files in
            them; all files by default.
        matching: accepts rows of :func:`indexes.store.attributes.attributes`; of a file that
            several rows name it must accept all.

    Raises:
        UsageError: if neither is given, or the gallery does not know a name.
    """
    if not names and matching is None:
        raise UsageError(
            "Nothing was named to remove; give keys, paths or folders, or a filter with --where."
        )
    files = gallery.read("files", FILES)
    every = gallery.read_keys()
    chosen = np.ones(files.num_rows, dtype=np.bool_)
    without_file: set[str] = set()
    if names:
        chosen, without_file = _named(gallery, files, names, every)
    if matching is not None:
        without_file.clear()
        rows = attributes(gallery)
        chosen &= _mask(pc.is_in(files.column("path"), accepted_paths(rows, matching(rows))))
    # A killed removal is continued by the next.
    chosen |= _mask(pc.equal(files.column("reason"), REMOVED))
    kept = set(files.column("key").filter(pa.array(~chosen)).to_pylist())
    keys = set(files.column("key").filter(pa.array(chosen)).to_pylist()) | without_file
    paths = sorted(files.column("path").filter(pa.array(chosen)).to_pylist())
    return Removal(
        paths,
        sorted((keys & every) - kept),
        files.num_rows,
        len(every),
        returning=_returning(gallery, paths),
    )


def _named(
    gallery: Gallery, files: pa.Table, names: Sequence[str], every: set[str]
) -> tuple[NDArray[np.bool_], set[str]]:
    """Which files are named, bool [files], and named pictures without any file.

    Raises:
        UsageError: if the gallery does not know a name.
    """
    # Thousands of keys or paths are looked up together; folders one by one.
    stored = {name: _stored_paths(gallery, name) for name in names}
    exact = pa.array([path for paths in stored.values() for path in paths], pa.string())
    by_path = _mask(pc.is_in(files.column("path"), exact))
    by_key = _mask(pc.is_in(files.column("key"), pa.array(list(names), pa.string())))
    paths_found = set(files.column("path").filter(pa.array(by_path)).to_pylist())
    keys_found = set(files.column("key").filter(pa.array(by_key)).to_pylist())
    chosen = by_path | by_key
    without_file, unknown = set(), []
    for name, paths in stored.items():
        if name in keys_found or not paths_found.isdisjoint(paths):
            continue
        inside = _inside(gallery, files, paths)
        chosen |= inside
        if name in every:
            without_file.add(name)
        elif not inside.any():
            unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - _NAMES_SHOWN} more" if len(unknown) > _NAMES_SHOWN else ""
        raise UsageError(
            f"The gallery at {gallery.path} has no picture or file "
            f"{', '.join(map(repr, unknown[:_NAMES_SHOWN]))}{more}; name a key, path or folder "
            "as `cies search` prints it."
        )
    return chosen, without_file


def _stored_paths(gallery: Gallery, name: str) -> list[str]:
    """The stored paths that a name may mean: seen from the current folder, or as it is."""
    plain = name.rstrip("/") or name
    return list(dict.fromkeys([plain if is_address(plain) else gallery.stored(plain), plain]))


def _inside(gallery: Gallery, files: pa.Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """Which files are in a folder or archive, or are listed by a table: bool [files]."""
    paths = files.column("path")
    for name in names:
        if name == ".":
            # The gallery's own root: every relative path is below it.
            found = ~_mask(pc.match_substring_regex(paths, r"^/|^[A-Za-z][A-Za-z0-9+.-]+://"))
        else:
            found = _mask(pc.starts_with(paths, name.rstrip("/") + "/"))
            found |= _mask(pc.starts_with(paths, name + "!/"))
        if found.any():
            return found
    listings = gallery.read("listings", LISTINGS)
    listed = pc.is_in(listings.column("source"), pa.array(names, pa.string()))
    return _mask(pc.is_in(paths, listings.filter(listed).column("path").combine_chunks()))


def _mask(found: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(found, False).to_numpy(), dtype=np.bool_)


def _returning(gallery: Gallery, paths: Sequence[str]) -> dict[str, int]:
    """Files that exist in a source that is remembered, so that the next ingest adds them again.

    Args:
        gallery: the gallery.
        paths: stored paths of files.

    Returns:
        Name of the source to number of files, without sources that have none.
    """
    sources = [MissingSource(name) for name in gallery.sources()]
    listings = gallery.read("listings", LISTINGS)
    listed = listings.filter(pc.is_in(listings.column("path"), pa.array(paths, pa.string())))
    lister = dict(zip(*(listed.column(c).to_pylist() for c in ("path", "source")), strict=True))
    names = {source.name for source in sources}
    found: dict[str, int] = {}
    for path in paths:
        name = next((source.name for source in sources if source.covers(path)), lister.get(path))
        if name in names and (is_address(path) or not is_absent(path, gallery.root)):
            found[name] = found.get(name, 0) + 1
    return found
