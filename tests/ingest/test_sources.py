"""Every kind of source, with real files, good and bad."""

from __future__ import annotations

import io
import json
import os
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from support.kinds import (
    cells,
    failures,
    fill,
    named,
    png,
    put,
    rows,
    save_dataset,
    save_parquet,
    stored_bytes_are_those_of,
    tar,
)

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.records import stored_path, unescaped
from ingest.read.images import UnreadableImage
from ingest.sources.base import SourceOptions
from ingest.sources.factory import open_sources

# -- folders, files, patterns, stdin -----------------------------------------------------------


def test_patterns_and_names_that_look_like_them(gallery: Gallery, tmp_path: Path) -> None:
    for number, name in enumerate(["1.png", "2.png", "x[1].png", "deep/er/3.png", "n.txt"]):
        put(tmp_path / "p" / name, png(number))
    fill(gallery, tmp_path / "p" / "x[1].png")
    assert set(rows(gallery)) == {"p/x[1].png"}
    fill(gallery, tmp_path / "p" / "**" / "*")
    assert set(rows(gallery)) == {"p/x[1].png", "p/1.png", "p/2.png", "p/deep/er/3.png"}
    with pytest.raises(UsageError, match="Nothing matches"):
        fill(gallery, tmp_path / "*.jpg")
    # A remembered pattern reports files that are gone.
    (tmp_path / "p" / "1.png").unlink()
    assert fill(gallery, tmp_path / "p" / "**" / "*")[0].gone == 1


def test_paths_on_stdin(gallery: Gallery, tmp_path: Path) -> None:
    odd = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff\n.png"))
    Path(odd).write_bytes(png(1))
    put(tmp_path / "two.png", png(2))
    put(tmp_path / "f" / "three.png", png(3))
    paths = [os.fsencode(odd), b"two.png", b"f", b"", b"missing.png"]

    def listed(data: bytes, null: bool) -> list[tuple[str, str]]:
        options = SourceOptions(null=null)
        (one,) = open_sources(["-"], options, tmp_path, stdin=io.BytesIO(data))
        return [(found.path, found.status) for source in one.sources for found in source.scan()]

    expected = [
        ("\0ff\n.png", ""),
        ("two.png", ""),
        ("f/three.png", ""),
        ("missing.png", "vanished"),
    ]
    assert listed(b"\0".join(paths) + b"\0", null=True) == expected
    assert listed(b"\n".join(paths[1:]) + b"\r\n", null=False) == expected[1:]
    with pytest.raises(UsageError, match="add -0"):
        listed(b"a\0b", null=False)


def test_exif_is_recorded(gallery: Gallery, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0132] = "2020:02:03 04:05:06"
    put(tmp_path / "turned.png", png(1, exif))
    fill(gallery, tmp_path / "turned.png")
    row = rows(gallery)["turned.png"]
    assert (row["width"], row["height"], row["orientation"]) == (12, 16, 6)
    assert row["taken_at"] == datetime(2020, 2, 3, 4, 5, 6)
    assert row["size"] == len(png(1, exif))
    assert gallery.images()[0].orientation == 6


# -- pictures inside other files ---------------------------------------------------------------


def test_webdataset_shards(gallery: Gallery, tmp_path: Path) -> None:
    for shard in range(2):
        members = []
        for number in range(3):
            key = f"d/{shard}{number}.v1"
            members += [
                (f"{key}.png".replace(".v1.png", ".png"), png(10 * shard + number)),
                (f"d/{shard}{number}.json", json.dumps({"brand": f"b{number}"}).encode()),
                (f"d/{shard}{number}.cls", str(number).encode()),
                (f"d/{shard}{number}.txt", f"picture {number}".encode()),
            ]
        tar(tmp_path / f"s-{shard:03}.tar", [*members, ("d/._junk.png", b"x"), ("d/x.svg", b"x")])
    report, passes = fill(gallery, tmp_path / "s-{000..001}.tar")
    assert (report.found, passes) == (8, 6)
    expected = {
        f"s-{shard:03}.tar!/d/{shard}{number}.png": png(10 * shard + number)
        for shard in range(2)
        for number in range(3)
    }
    stored_bytes_are_those_of(gallery, expected)
    row = rows(gallery)["s-001.tar!/d/12.png"]
    assert (row["brand"], row["cls"], row["txt"]) == ("b2", 2, "picture 2")
    assert set(failures(gallery).values()) == {"unsupported"}
    assert not list(tmp_path.glob("**/*.png"))  # nothing was unpacked
    # The files of a shard that no longer exists are gone.
    (tmp_path / "s-001.tar").unlink()
    assert fill(gallery, tmp_path / "s-*.tar")[0].gone == 0  # another word, another source
    tar(tmp_path / "s-000.tar", [("d/00.png", png(0)), ("d/new.png", png(50))])
    report, passes = fill(gallery, tmp_path / "s-*.tar")
    assert (report.gone, passes) == (2, 1)


def test_a_truncated_shard_keeps_its_first_pictures(gallery: Gallery, tmp_path: Path) -> None:
    path = tar(tmp_path / "s.tar", [(f"{n}.png", png(n)) for n in range(4)])
    whole = path.read_bytes()
    fill(gallery, path)
    path.write_bytes(whole[: 512 * 9])
    report, passes = fill(gallery, path)
    assert report.gone == 0 and passes == 0
    assert "damaged" in failures(gallery).values()
    path.write_bytes(whole)
    report, _ = fill(gallery, path)
    assert failures(gallery) == {} and report.gone == 0


def test_folders_of_datasets(gallery: Gallery, tmp_path: Path) -> None:
    first = named(cells([1, 2, 3], label=[0, 1, -1], n=[1, 2, 3]), {"label": ["cat", "dog"]})
    second = named(cells([4], label=[1], n=[4]), {"label": ["cat", "dog"]})
    save_dataset(tmp_path / "ds" / "train", [first, second])
    save_dataset(tmp_path / "ds" / "test", [cells([5], label=[None], n=[5])])
    put(tmp_path / "ds" / "dataset_dict.json", '{"splits": ["train", "test"]}')
    with pytest.raises(UsageError, match="is not whole"):
        put(tmp_path / "ds2" / "dataset_dict.json", '{"splits": ["gone"]}')
        fill(gallery, tmp_path / "ds2")
    _, passes = fill(gallery, tmp_path / "ds")
    assert passes == 5
    stem = "ds/train/data-0000{}-of-00002.arrow!/image/{}"
    expected = {stem.format(0, row): png(row + 1) for row in range(3)}
    expected |= {stem.format(1, 0): png(4)}
    expected |= {"ds/test/data-00000-of-00001.arrow!/image/0": png(5)}
    stored_bytes_are_those_of(gallery, expected)
    told = rows(gallery)
    assert [told[stem.format(0, row)]["label"] for row in range(3)] == ["cat", "dog", None]
    assert fill(gallery, tmp_path / "ds")[0].unchanged == 5


def test_parquet_with_pictures_in_it(gallery: Gallery, tmp_path: Path) -> None:
    put(tmp_path / "aside.png", png(9))
    table = cells([1, 2, 3, 4, 5], split=["a", "a", "b", "b", None])
    pictures = table.column("image").to_pylist()
    pictures[3] = {"bytes": b"text", "path": None}
    pictures[4] = {"bytes": None, "path": "aside.png"}
    table = table.set_column(0, "image", pa.array(pictures, table.schema.field("image").type))
    path = save_parquet(tmp_path / "p.parquet", table)
    report, passes = fill(gallery, path)
    assert passes == 4
    assert failures(gallery) == {"p.parquet!/image/3": "not_an_image"}
    expected = {f"p.parquet!/image/{row}": png(row + 1) for row in range(3)}
    stored_bytes_are_those_of(gallery, expected | {"p.parquet!/image/4": png(9)})
    assert rows(gallery)["p.parquet!/image/2"]["split"] == "b"
    report, passes = fill(gallery, path)
    assert (report.unchanged, len(report.failed), passes) == (4, 1, 0)


def test_parquet_that_names_pictures(gallery: Gallery, tmp_path: Path) -> None:
    put(tmp_path / "a.png", png(1))
    table = pa.table(
        {
            "path": ["a.png"],
            "when": pa.array([datetime(2024, 1, 2)], pa.timestamp("ns", "UTC")),
            "price": pa.array([1.5], pa.float32()),
            "kind": pa.array(["x"]).dictionary_encode(),
            "blob": pa.array([b"x"]),
        }
    )
    with pytest.raises(UsageError, match="no column 'nope'"):
        fill(gallery, save_parquet(tmp_path / "p.parquet", table), image_column="nope")
    fill(gallery, tmp_path / "p.parquet", image_column="path")
    row = rows(gallery)["a.png"]
    assert (row["when"], row["price"], row["kind"]) == (datetime(2024, 1, 2), 1.5, "x")
    assert "blob" not in row


def test_a_file_that_changes_under_a_shard_is_an_outcome(tmp_path: Path) -> None:
    path = tar(tmp_path / "s.tar", [("a.png", png(1))])
    (one,) = open_sources([str(path)], SourceOptions(), tmp_path)
    (found,) = one.sources[0].scan()
    os.utime(path, (1, 1))
    with pytest.raises(UnreadableImage) as caught:
        found.read()
    assert caught.value.status == "changed"
    path.unlink()
    with pytest.raises(UnreadableImage) as caught:
        found.read()
    assert caught.value.status == "vanished"


def test_stored_paths_are_those_of_pathlib(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "a", Path("/")):
        for text in ("a", "a/b.png", "./a", "a//b", "a/./b", "a/../b", "a/", ".", "/", "/etc/x"):
            for path in (text, str(tmp_path / "a" / text), "/tmp/" + text):
                absolute = Path(path).absolute()
                below = absolute.is_relative_to(root)
                expected = (absolute.relative_to(root) if below else absolute).as_posix()
                assert stored_path(path, root) == expected, (path, root)
    odd = os.fsdecode(b"\xff.png")
    assert unescaped(stored_path(odd, tmp_path)) == odd
