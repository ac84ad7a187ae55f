"""The contract of a source, passed by every kind: see :class:`ingest.sources.base.Source`."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from support.kinds import IMAGE, fill, png, put, save_dataset, save_parquet, tar

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.read.images import UnreadableImage
from ingest.sources.base import Source, SourceFile, SourceOptions
from ingest.sources.factory import SOURCE_KINDS, open_sources, stored_file

#: The same pictures in every kind of source, one that cannot be decoded, and one that is empty.
PICTURES = {"a.png": png(1), "b.png": png(2), "c.png": png(3)}
BAD, EMPTY = b"this is text", b""
ROWS = [("a.png", "acme", 1), ("b.png", "zeta", 2), ("c.png", None, 3), ("bad.png", "acme", 4)]
FILES = PICTURES | {"bad.png": BAD, "empty.png": EMPTY}


def write_folder(place: Path) -> Path:
    for name, data in FILES.items():
        put(place / "p" / name, data)
    put(place / "p" / "notes.txt", "no picture")
    return place / "p"


def write_csv(place: Path, separator: str = ",") -> str:
    write_folder(place)
    lines = [("file", "brand", "n"), *ROWS, ("empty.png", "", 5)]
    text = "\n".join(
        separator.join(str(v if v is not None else "") for v in line) for line in lines
    )
    return str(put(place / "p" / ("t.csv" if separator == "," else "t.tsv"), text))


def write_jsonl(place: Path) -> str:
    write_folder(place)
    rows = [{"file": f, "brand": b, "n": n} for f, b, n in [*ROWS, ("empty.png", None, 5)]]
    return str(put(place / "p" / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))


def table() -> pa.Table:
    data = [{"bytes": FILES[name], "path": None} for name in [row[0] for row in ROWS]]
    pictures = pa.array([*data, {"bytes": EMPTY, "path": None}], IMAGE)
    brands = [*(row[1] for row in ROWS), None]
    return pa.table({"image": pictures, "brand": brands, "n": [1, 2, 3, 4, 5]})


def write_parquet(place: Path) -> str:
    return str(save_parquet(place / "t.parquet", table()))


def write_parquet_of_names(place: Path) -> str:
    write_folder(place)
    names = [*(row[0] for row in ROWS), "empty.png"]
    return str(save_parquet(place / "p" / "t.parquet", table().set_column(0, "file", [names])))


def write_dataset(place: Path) -> str:
    return str(save_dataset(place / "ds", [table()]))


def write_shard(place: Path) -> str:
    members = []
    for name, brand, n in [*ROWS, ("empty.png", None, 5)]:
        about = json.dumps({"brand": brand, "n": n}).encode()
        members += [(name, FILES[name]), (name.replace(".png", ".json"), about)]
    return str(tar(place / "t.tar", members))


def write_remote(place: Path) -> str:
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    for name, data in FILES.items():
        store.pipe(f"/bucket/p/{name}", data)
    return "memory://bucket/p"


def write_remote_csv(place: Path) -> str:
    text = Path(write_csv(place)).read_bytes()
    address = write_remote(place)
    fsspec.filesystem("memory").pipe("/bucket/p/t.csv", text)
    return f"{address}/t.csv"


def write_remote_shard(place: Path) -> str:
    data = Path(write_shard(place)).read_bytes()
    write_remote(place)
    fsspec.filesystem("memory").pipe("/bucket/t.tar", data)
    return "memory://bucket/t.tar"


def write_pattern(place: Path) -> str:
    return str(write_folder(place) / "*.png")


@dataclass(frozen=True)
class Kind:
    """How a test makes one kind of source, and whether it has the user's columns."""

    write: Callable[[Path], object]
    columns: bool


KINDS = {
    "folder": Kind(write_folder, False),
    "pattern": Kind(write_pattern, False),
    "csv": Kind(write_csv, True),
    "tsv": Kind(lambda place: write_csv(place, "\t"), True),
    "jsonl": Kind(write_jsonl, True),
    "parquet": Kind(write_parquet, True),
    "parquet of names": Kind(write_parquet_of_names, True),
    "dataset": Kind(write_dataset, True),
    "shard": Kind(write_shard, True),
    "remote folder": Kind(write_remote, False),
    "remote csv": Kind(write_remote_csv, True),
    "remote shard": Kind(write_remote_shard, True),
    "paths on stdin": Kind(write_folder, False),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sources(kind: str, tmp_path: Path) -> list[Source]:
    location = KINDS[kind].write(tmp_path)
    stdin = None
    if kind == "paths on stdin":
        stdin = io.BytesIO("".join(f"{location}/{name}\n" for name in FILES).encode())
        location = "-"
    groups = open_sources([str(location)], SourceOptions(), tmp_path, stdin=stdin)
    return [source for group in groups for source in group.sources]


def scanned(sources: list[Source]) -> Iterator[SourceFile]:
    return (file for source in sources for file in source.scan())


def outcome(file: SourceFile) -> str:
    """The content key of a file, or the outcome code."""
    try:
        return file.read().key
    except UnreadableImage as error:
        return error.status


def test_lists_all_pictures_in_the_same_order_at_every_scan(sources: list[Source]) -> None:
    files = list(scanned(sources))
    assert len(files) == len({file.path for file in files}) == len(FILES)
    again = list(scanned(sources))
    assert [(f.path, f.size, f.mtime_ns, f.values) for f in again] == [
        (f.path, f.size, f.mtime_ns, f.values) for f in files
    ]
    assert all(source.complete and not source.reason for source in sources)


def test_keys_are_those_of_the_bytes_and_bad_files_are_outcomes(
    sources: list[Source], tmp_path: Path
) -> None:
    expected = sorted([*(hashlib.sha256(d).hexdigest() for d in FILES.values() if d), "empty"])
    files = list(scanned(sources))
    assert sorted(map(outcome, files)) == expected
    # In another process, and by the stored path alone.
    assert sorted(outcome(pickle.loads(pickle.dumps(file))) for file in files) == expected
    assert sorted(outcome(stored_file(file.path, tmp_path)) for file in files) == expected
    assert outcome(stored_file(files[0].path + "x", tmp_path)) in ("vanished", "unreadable")


def test_columns_are_kept_in_their_types(kind: str, sources: list[Source]) -> None:
    values = [dict(zip(s.columns, f.values or (), strict=True)) for s in sources for f in s.scan()]
    if not KINDS[kind].columns:
        assert not any(values)
        return
    assert [(row["brand"], row["n"]) for row in sorted(values, key=lambda row: row["n"])] == [
        *((brand, n) for _, brand, n in ROWS),
        (None, 5),
    ]


def test_an_ingest_takes_the_good_and_records_the_bad(
    kind: str, gallery: Gallery, tmp_path: Path
) -> None:
    if kind == "paths on stdin":
        pytest.skip("the command line reads stdin")
    location = KINDS[kind].write(tmp_path)
    report, passes = fill(gallery, location)
    assert (report.found, passes) == (len(FILES), len(PICTURES))
    assert sorted(record.status for record in report.failed) == ["empty", "not_an_image"]
    report, passes = fill(gallery, location)
    assert (report.unchanged, report.gone, passes) == (len(PICTURES), 0, 0)


def test_a_file_that_the_scan_lists_is_covered_or_owned(sources: list[Source]) -> None:
    for source in sources:
        for file in source.scan():
            if source.name != "the paths on stdin":
                assert source.covers(file.path) or source.owns_named_files


def test_every_registered_kind_is_tested(tmp_path: Path) -> None:
    opened = set()
    for number, entry in enumerate(KINDS.values()):
        place = tmp_path / str(number)
        place.mkdir()
        location = str(entry.write(place))
        for kind in SOURCE_KINDS:
            is_folder = "." not in location.rpartition("/")[2]
            if kind.accepts_folder(location) if is_folder else location.endswith(kind.suffixes):
                opened.add(kind.name)
                break
    assert opened == {kind.name for kind in SOURCE_KINDS}


@pytest.mark.parametrize("name", ["none.csv", "none", "none*.png", "memory://none/at/all"])
def test_a_source_that_does_not_exist_is_refused_unless_it_is_remembered(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"There is no|Nothing matches"):
        open_sources([name], SourceOptions(), tmp_path)
    (group,) = open_sources([name], SourceOptions(), tmp_path, remembered=[name])
    (source,) = group.sources
    assert list(source.scan()) == [] and source.reason and not source.complete
