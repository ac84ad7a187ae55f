"""One bad cell, member or address costs one row, and nothing is lost without a word."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from support.kinds import fill, png, put

from indexes.errors import UsageError
from indexes.store.attributes import user_columns
from indexes.store.gallery import Gallery
from ingest.fill.pipeline import IngestReport
from ingest.sources.remote import file_system, remote_file


def ingested(tmp_path: Path, source: Path, **more: Any) -> tuple[IngestReport, int, Gallery]:
    gallery = Gallery.create(tmp_path / "g.cies")
    report, pictures = fill(gallery, source, **more)
    return report, pictures, gallery


def values(gallery: Gallery, column: str) -> list[object]:
    from indexes.store.records import LISTINGS

    table = gallery.read("listings", LISTINGS).sort_by("path")
    return list(table.column(column).to_pylist())


def failures(report: IngestReport) -> dict[str, str]:
    return {record.path.rpartition("!/")[2]: record.status for record in report.failed}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for number in range(6):
        put(tmp_path / f"p/{number}.png", png(number))
    return [f"p/{number}.png" for number in range(6)]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (r'{"file": "p/5.png", "label": "\ud800"}', "bad_value"),
        (r'{"file": "p/5.png", "label": ["a", "\udfff"]}', "bad_value"),
        (r'{"file": "p/\ud8005.png", "label": "x"}', "no_path"),
        ('{"file": "p/5.png", "label": ' + "9" * 5000 + "}", "bad_row"),
        (r'{"file": "p/5.png", "\ud800": "x"}', "bad_row"),
        ('{"file": "p/5.png", "label": ' + "[" * 9999 + "]" * 9999 + "}", "bad_row"),
    ],
)
def test_a_bad_cell_of_json_lines(line: str, status: str, files: list[str], tmp_path: Path) -> None:
    good = [json.dumps({"file": name, "label": "x"}) for name in files[:5]]
    table = put(tmp_path / "t.jsonl", "\n".join([*good[:2], line, *good[2:]]))
    report, pictures, gallery = ingested(tmp_path, table)
    assert pictures == 5 and failures(report) == {"line 3": status}
    assert values(gallery, "label") == ["x"] * 5


@pytest.mark.parametrize(
    ("column", "lost"),
    [
        (pa.array([1, 1700000000123456789, 3, None, 5, 6], pa.timestamp("ns")), []),
        (pa.array([1, 1700000000123456789, 3, None, 5, 6], pa.timestamp("ns", "UTC")), []),
        (pa.array([1, 1700000000123456789, 3, None, 5, 6], pa.duration("ns")), []),
        (pa.array([1, 123456789, 3, None, 5, 6], pa.time64("ns")), []),
        (pa.array([[1], [7], None, [], [5], [6]], pa.list_(pa.timestamp("ns"))), []),
        (pa.array([{"a": 1}] * 6, pa.struct([("a", pa.duration("ns"))])), []),
        (pa.array([1, 2**62, 3, None, 5, 6], pa.timestamp("us")), ["row 1"]),
        (pa.array([1, 2**50, 3, None, 5, 6], pa.duration("s")), ["row 1"]),
        (
            pa.Array.from_buffers(
                pa.string(),
                6,
                [
                    None,
                    pa.array([0, 1, 2, 3, 4, 5, 6], pa.int32()).buffers()[1],
                    pa.py_buffer(b"ab\xffdef"),
                ],
            ),
            ["row 2"],
        ),
    ],
)
def test_a_bad_cell_of_a_parquet_table(
    column: pa.Array, lost: list[str], files: list[str], tmp_path: Path
) -> None:
    parquet.write_table(pa.table({"file": files, "value": column}), tmp_path / "t.parquet")
    report, pictures, _ = ingested(tmp_path, tmp_path / "t.parquet")
    assert pictures == 6 - len(lost) and failures(report) == dict.fromkeys(lost, "bad_value")
    if not (lost or pa.types.is_list(column.type)):
        return
    # The same beside pictures in cells.
    cells = [png(number) for number in range(6)]
    parquet.write_table(pa.table({"image": cells, "value": column}), tmp_path / "c.parquet")
    report, pictures = fill(Gallery.create(tmp_path / "h.cies"), tmp_path / "c.parquet")
    assert pictures == 6 - len(lost) and len(report.failed) == len(lost)


@pytest.mark.parametrize(
    ("column", "want"),
    [
        # Identifiers keep all their digits: of 19, of 20, and hashes without a sign.
        (pa.array([1234567890123456789 + n for n in range(6)]), [1234567890123456789, "int64"]),
        (pa.array([2**64 - 1, 1, 2, 3, 4, None], pa.uint64()), ["18446744073709551615", "string"]),
        (pa.array([7, 1, 2, 3, 4, None], pa.uint64()), [7, "int64"]),
        (pa.array([b"\x01\xff"] * 6, pa.binary(2)), ["01ff", "string"]),
        # Of the time zone only the name is unknown here: Arrow stores the time in UTC.
        (
            pa.array([0] * 6, pa.timestamp("s", "Mars/Olympus")),
            [datetime(1970, 1, 1), "timestamp[us]"],
        ),
    ],
)
def test_cells_keep_their_values(
    column: pa.Array, want: list[object], files: list[str], tmp_path: Path
) -> None:
    parquet.write_table(pa.table({"file": files, "value": column}), tmp_path / "t.parquet")
    report, pictures, gallery = ingested(tmp_path, tmp_path / "t.parquet")
    assert pictures == 6 and not report.failed
    assert [values(gallery, "value")[0], str(user_columns(gallery)["value"])] == want


def test_long_numbers_keep_their_digits(files: list[str], tmp_path: Path) -> None:
    short, long = "1234567890123456789", "12345678901234567890"
    put(tmp_path / "t.csv", "file,a,b\n" + "".join(f"{n},{short},{long}\n" for n in files))
    put(tmp_path / "t.jsonl", "".join(f'{{"file": "{n}", "a": {short}}}\n' for n in files))
    _, _, gallery = ingested(tmp_path, tmp_path / "t.csv")
    assert (values(gallery, "a")[0], values(gallery, "b")[0]) == (int(short), long)
    other = Gallery.create(tmp_path / "h.cies")
    fill(other, tmp_path / "t.jsonl")
    assert values(other, "a") == [int(short)] * 6


def test_a_bad_line_of_a_csv_file(files: list[str], tmp_path: Path) -> None:
    rows = [f"{name},x" for name in files]
    rows[2] = files[2] + "," + "y" * 200_000
    report, pictures, gallery = ingested(
        tmp_path, put(tmp_path / "t.csv", "\n".join(["file,a", *rows]))
    )
    assert pictures == 5 and failures(report) == {"line 4": "bad_row"}
    assert values(gallery, "a") == ["x"] * 5


@pytest.mark.parametrize(
    "end", ['p/2.png,"open\n', 'p/2.png,"open', '"p/2.png,x\n' + "y" * 200_000]
)
def test_an_open_quotation_mark_is_said(end: str, files: list[str], tmp_path: Path) -> None:
    """It would make one cell of all rows after it."""
    table = put(tmp_path / "t.csv", f"file,a\n{files[0]},x\n{end}\n{files[3]},x\n")
    with pytest.raises(UsageError, match="a quotation mark in line 3 is not closed"):
        ingested(tmp_path, table)


def test_paths_of_windows(files: list[str], tmp_path: Path) -> None:
    put(tmp_path / "p/b\\c.png", png(9))
    names = [r".\0.png", r"..\p\1.png", r"b\c.png", r"..\out.png", "b\\c.png"]
    put(tmp_path / "out.png", png(8))
    table = put(tmp_path / "p/t.csv", "file\n" + "\n".join(names))
    report, pictures, gallery = ingested(tmp_path, table)
    assert pictures == 3 and failures(report) == {"line 5": "refused"}
    stored = {Path(path).name for own in gallery.paths().values() for path in own}
    assert stored == {"0.png", "1.png", "b\\c.png"}


def test_nanoseconds_are_cut_to_microseconds(files: list[str], tmp_path: Path) -> None:
    moment = 1700000000123456789
    column = pa.array([moment] * 6, pa.timestamp("ns"))
    parquet.write_table(pa.table({"file": files, "at": column}), tmp_path / "t.parquet")
    _, _, gallery = ingested(tmp_path, tmp_path / "t.parquet")
    assert str(values(gallery, "at")[0]) == "2023-11-14 22:13:20.123456"


def test_one_unreachable_address_among_many_rows(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def unreachable(scheme: str, host: str, process: int) -> None:
        tried.append(host)
        raise OSError("Could not resolve host")

    monkeypatch.setattr("ingest.sources.remote._filesystem", unreachable)
    monkeypatch.setattr("ingest.sources.remote._UNREACHABLE", {})
    for number in range(1000):
        file = remote_file(f"s3://gone/{number}.png")
        assert file.status == "unreadable" and "Could not resolve host" in file.reason
    assert tried == ["gone"]
    assert remote_file("nothing://known/a.png").status == "unreadable"
    monkeypatch.undo()
    assert file_system("memory://").protocol == "memory"


# -- shards --------------------------------------------------------------------------------


def packed(members: Sequence[tuple[str, bytes]]) -> bytes:
    """A tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def blocks(name: str, data: bytes) -> bytes:
    """One member as in a tar file, without the end mark."""
    return packed([(name, data)])[: 512 + -(-len(data) // 512) * 512]


def header(name: str, size: int, kind: bytes) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(format=tarfile.GNU_FORMAT)


SIZE_RECORD = b"20 size=34359738368\n"


@pytest.mark.parametrize(
    ("evil", "kept"),
    [
        (header("x", 2**35, tarfile.XHDTYPE), 5),
        (header("x", 2**35, tarfile.GNUTYPE_LONGNAME), 5),
        (header("x.png", 2**35, tarfile.REGTYPE), 5),
        (header("x.png", 2**60, tarfile.REGTYPE), 5),
        # This one is about the next member, which is lost.
        (header("x", 20, tarfile.XHDTYPE) + SIZE_RECORD.ljust(512, b"\0"), 4),
        (b"no header at all".ljust(512, b"."), 5),
    ],
)
def test_a_header_that_claims_32_gib_costs_one_member(
    evil: bytes, kept: int, tmp_path: Path
) -> None:
    parts = [blocks(f"{number}.png", png(number)) for number in range(5)]
    shard = put(tmp_path / "t.tar", b"".join([*parts[:2], evil, *parts[2:]]) + bytes(1024))
    started = time.monotonic()
    report, pictures, gallery = ingested(tmp_path, shard)
    assert pictures == kept and time.monotonic() - started < 30
    assert "damaged" in failures(report).values()
    again, pictures = fill(gallery, shard)
    assert not pictures and len(again.failed) == len(report.failed) and not again.gone


def test_links_and_texts_without_a_picture_are_said(tmp_path: Path) -> None:
    parts = [blocks("a.png", png(1)), blocks("b.json", b'{"label": "x"}')]
    parts += [header("c.png", 0, tarfile.SYMTYPE), header("d.png", 0, tarfile.LNKTYPE)]
    shard = put(tmp_path / "t.tar", b"".join(parts) + bytes(1024))
    report, pictures, _ = ingested(tmp_path, shard)
    assert pictures == 1 and failures(report) == {"c.png": "link", "d.png": "link"}
    assert report.left_out == {".json": 1}


def test_a_damaged_first_header_costs_its_member(tmp_path: Path) -> None:
    data = bytearray(packed([(f"{number}.png", png(number)) for number in range(4)]))
    data[0] ^= 255
    report, pictures, _ = ingested(tmp_path, put(tmp_path / "t.tar", bytes(data)))
    assert pictures == 3 and list(failures(report).values()) == ["damaged"]


def test_members_under_one_name_are_reported(tmp_path: Path) -> None:
    shard = put(tmp_path / "t.tar", packed([("same.png", png(number)) for number in range(3)]))
    report, pictures, gallery = ingested(tmp_path, shard)
    assert pictures == 1
    assert [(record.status, "more than once" in record.reason) for record in report.failed] == [
        ("repeated", True)
    ] * 2
    again, _ = fill(gallery, shard)
    assert again.failed == report.failed


def test_members_of_a_sample_need_not_stand_together(tmp_path: Path) -> None:
    pictures = [(f"s{number}.png", png(number)) for number in range(3)]
    labels = [(f"s{number}.json", b'{"label": "x%d"}' % number) for number in range(3)]
    texts = [(f"s{number}.txt", b"words") for number in range(3)]
    shard = put(tmp_path / "t.tar", packed([*labels, *pictures, *texts]))
    report, count, gallery = ingested(tmp_path, shard)
    assert count == 3 and not report.failed
    assert values(gallery, "label") == ["x0", "x1", "x2"]
    assert values(gallery, "txt") == ["words"] * 3
    again, count = fill(gallery, shard)
    assert not count and not again.relabelled


def test_columns_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    members = [("a.png", png(1)), ("a.json", b"{"), ("b.png", png(2)), ("b.json", b"[1]")]
    report, count, _ = ingested(tmp_path, put(tmp_path / "t.tar", packed(members)))
    assert count == 2 and failures(report) == {"a.json": "bad_row", "b.json": "bad_row"}


def test_tar_files_joined_to_one_are_read_whole(tmp_path: Path) -> None:
    joined = b"".join(packed([(f"{number}.png", png(number))]) for number in range(3))
    report, count, _ = ingested(tmp_path, put(tmp_path / "t.tar", joined))
    assert count == 3 and not report.failed


# -- what is left out ----------------------------------------------------------------------


def test_everything_left_out_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number, name in enumerate(
        ["a.png", "b.png", "raw/c.png", ".hidden.png", "._a.png", "notes.txt", "d.xmp", "none"]
    ):
        put(folder / name, png(number))
    put(folder / ".thumbnails/a.png", png(50))
    put(folder / "@eaDir/a.png", png(51))
    (folder / "around").symlink_to(folder, target_is_directory=True)
    Gallery.create(folder / "inside.cies")
    report, count = fill(
        Gallery.create(tmp_path / "g.cies"), folder, include=("*.png",), exclude=("raw/", "b*")
    )
    assert count == 1
    assert report.left_out == {
        **{"pattern": 1, "excluded folder": 1, "hidden": 1, "hidden folder": 1},
        **{"link to a folder": 1, ".txt": 1, ".xmp": 1, "": 1},
    }
    for name in ("a.png", "b.txt", "c.xmp"):
        put(tmp_path / "flat" / name, png(1))
    report, _ = fill(Gallery.create(tmp_path / "h.cies"), tmp_path / "flat" / "*")
    assert report.left_out == {".txt": 1, ".xmp": 1}
    shard = put(tmp_path / "t.tar", packed([("a.png", png(1)), ("a.npy", b"x"), (".b.png", b"x")]))
    report, _ = fill(Gallery.create(tmp_path / "i.cies"), shard)
    assert report.left_out == {".npy": 1, "hidden": 1}
