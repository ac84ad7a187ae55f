"""Remote pictures: in memory, and through the protocols of S3 and Google on a local socket."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Iterator

import fsspec
import pytest
from support.kinds import (
    cells,
    failures,
    fill,
    png,
    rows,
    save_parquet,
    stored_bytes_are_those_of,
    tar,
)
from support.object_store import ObjectStore, served, served_apart

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.read.images import UnreadableImage
from ingest.sources import remote


@pytest.fixture
def store() -> fsspec.AbstractFileSystem:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    return system


def test_an_object_store(
    gallery: Gallery, tmp_path: Path, store: fsspec.AbstractFileSystem
) -> None:
    for number in range(3):
        store.pipe(f"/bucket/p/{number}.png", png(number))
    store.pipe("/bucket/p/deep/er/3.png", png(3))
    store.pipe("/bucket/p/bad.png", b"text")
    store.pipe("/bucket/p/notes.txt", b"text")
    store.pipe("/bucket/t.csv", b"file,n\np/0.png,1\nmemory://bucket/p/1.png,2\n")
    _, passes = fill(gallery, "memory://bucket/p/")
    assert passes == 4
    expected = {f"memory://bucket/p/{number}.png": png(number) for number in range(3)}
    stored_bytes_are_those_of(gallery, expected | {"memory://bucket/p/deep/er/3.png": png(3)})
    assert failures(gallery) == {"memory://bucket/p/bad.png": "not_an_image"}
    _, passes = fill(gallery, "memory://bucket/t.csv")
    assert passes == 0
    assert {path: row["n"] for path, row in rows(gallery).items() if row["n"]} == {
        "memory://bucket/p/0.png": 1,
        "memory://bucket/p/1.png": 2,
    }
    # Unchanged files are not read again, a changed one is, and a gone one is marked.
    store.pipe("/bucket/p/1.png", png(11))
    store.rm("/bucket/p/2.png")
    report, passes = fill(gallery, "memory://bucket/p")
    assert (report.unchanged, report.gone, passes) == (2, 1, 1)
    # A new condition reads them from the store again.
    assert fill(gallery, "memory://bucket/t.csv", names="shape")[1] == 4 - 1
    assert gallery.location("memory://bucket/p/0.png") == "memory://bucket/p/0.png"


def test_tables_and_shards_in_an_object_store(
    gallery: Gallery, tmp_path: Path, store: fsspec.AbstractFileSystem
) -> None:
    store.pipe(
        "/b/s.tar", tar(tmp_path / "s.tar", [("a.png", png(1)), ("a.cls", b"3")]).read_bytes()
    )
    store.pipe("/b/p.parquet", save_parquet(tmp_path / "p.parquet", cells([2, 3])).read_bytes())
    _, passes = fill(gallery, "memory://b/s.tar", "memory://b/p.parquet")
    assert passes == 3
    expected = {f"memory://b/p.parquet!/image/{row}": png(row + 2) for row in range(2)}
    stored_bytes_are_those_of(gallery, expected | {"memory://b/s.tar!/a.png": png(1)})


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nope://x", "cannot be read"),
        ("s3://", "names no bucket"),
        ("s3://user:secret@host/x", "contains a password"),
        ("zip://a.zip::memory://b", "Chained"),
        ("memory://nothing/here", "There is nothing at"),
    ],
)
def test_addresses_that_cannot_be_read(gallery: Gallery, address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        fill(gallery, address)
    assert "secret" not in str(caught.value)


# -- S3 and Google Cloud Storage -----------------------------------------------------------------


@pytest.fixture(params=["s3://", pytest.param("gs://anonymous@", marks=pytest.mark.soak)])
def bucket(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """A local store that the environment names as S3's and Google's; no other host is contacted."""
    store = ObjectStore()
    store.scheme = request.param
    with served(store) as address:
        monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", address)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield store


def test_a_bucket_is_read_and_scanned_again(gallery: Gallery, bucket: ObjectStore) -> None:
    names = ["0.png", "1.png", "deep/er/2.png", "with space.png", "grün & gut.png", "5.png"]
    inside = f"{gallery.path.parent.name}-b/p"
    home = bucket.address(inside)
    for number, name in enumerate(names):
        bucket.put(f"{inside}/{name}", png(number))
    bucket.put(f"{inside}/notes.txt", b"text")
    bucket.put(f"{inside}/bad.png", b"text")
    report, passes = fill(gallery, home)
    assert passes == len(names)
    expected = {f"{home}/{name}": png(number) for number, name in enumerate(names)}
    stored_bytes_are_those_of(gallery, expected)
    assert failures(gallery) == {f"{home}/bad.png": "not_an_image"}
    # Nothing new: only the listing is requested, and no picture is fetched.
    bucket.asked.clear()
    report, passes = fill(gallery, home)
    assert (report.unchanged, passes) == (len(names), 0)
    assert not [asked for asked in bucket.asked if asked.endswith((".png", ".txt"))]
    # One file changes, one is deleted.
    bucket.put(f"{inside}/1.png", png(11), time=1_750_000_100.0)
    del bucket.objects[f"{inside}/5.png"]
    report, passes = fill(gallery, home)
    assert (report.gone, passes) == (1, 1)
    there = {path: key for key, paths in gallery.paths().items() for path in paths}
    assert there[f"{home}/1.png"] == hashlib.sha256(png(11)).hexdigest()


def test_archives_in_a_bucket(
    gallery: Gallery, tmp_path: Path, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = bucket.address("archives")
    shard = tar(tmp_path / "s.tar", [("a.png", png(1)), ("a.cls", b"3"), ("b.png", png(2))])
    bucket.put("archives/s.tar", shard.read_bytes())
    table = save_parquet(tmp_path / "p.parquet", cells([3, 4]))
    bucket.put("archives/p.parquet", table.read_bytes())
    bucket.put("archives/t.csv", f"file,price\n{home}/x/0.png,7\n".encode())
    bucket.put("archives/x/0.png", png(5))
    sources = [f"{home}/{name}" for name in ("s.tar", "p.parquet", "t.csv")]
    with served_apart(bucket) as address:
        monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", address)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        _, passes = fill(gallery, *sources)
        assert passes == 5
        stored_bytes_are_those_of(
            gallery,
            {
                f"{home}/s.tar!/a.png": png(1),
                f"{home}/s.tar!/b.png": png(2),
                f"{home}/p.parquet!/image/0": png(3),
                f"{home}/p.parquet!/image/1": png(4),
                f"{home}/x/0.png": png(5),
            },
        )
    assert rows(gallery)[f"{home}/x/0.png"]["price"] == 7


def test_a_refused_object_is_an_outcome(gallery: Gallery, bucket: ObjectStore) -> None:
    bucket.put("refusing/p/0.png", png(0))
    bucket.put("refusing/p/1.png", png(1))
    bucket.broken.add("refusing/p/1.png")
    _, passes = fill(gallery, bucket.address("refusing/p"))
    assert passes == 1
    assert failures(gallery) == {bucket.address("refusing/p/1.png"): "unreadable"}
    (reason,) = {record.reason for record in gallery.files() if record.status == "unreadable"}
    assert "ACCESS_DENIED" in reason


def test_a_bucket_that_does_not_exist(gallery: Gallery, bucket: ObjectStore) -> None:
    with pytest.raises(UsageError, match=f"^(?=.*{bucket.address('nobodys/p')})"):
        fill(gallery, bucket.address("nobodys/p"))
    assert not gallery.files()


def test_from_the_command_line_and_when_the_bucket_is_gone(
    tmp_path: Path, bucket: ObjectStore
) -> None:
    home = bucket.address("shop/p")
    for number in range(5):
        bucket.put(f"shop/p/{number}.png", png(number))
    command = [sys.executable, "-m", "cies", "ingest", home, "-g", str(tmp_path / "g")]
    asked = [*command, "-c", "color", "--json"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert '"embedded": 5' in done.stdout
    # The bucket is empty now: embedded pictures stay, and no file counts as gone.
    bucket.objects.clear()
    again = subprocess.run(asked, capture_output=True, text=True, timeout=240)
    assert home in again.stderr
    assert {record.status for record in Gallery.open(tmp_path / "g").files()} == {"done"}


def test_a_store_that_drips_ends_in_time(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_READ_SECONDS", 0.3)
    monkeypatch.setattr(remote, "_ASK_SECONDS", 0.3)
    store.pipe("/slow/a.png", png(1))
    file = remote.remote_file("memory://slow/a.png")
    stream = remote.open_binary("memory://slow/a.png")

    def drip(*given: object, **more: object) -> bytes:
        time.sleep(2)
        return b""

    for verb in ("info", "ls", "cat_file"):
        monkeypatch.setattr(type(store), verb, drip)
    monkeypatch.setattr(
        stream.raw,
        "_stream",
        SimpleNamespace(seekable=lambda: False, read=drip, close=lambda: None),
    )
    began = time.monotonic()
    with pytest.raises(UnreadableImage, match="no answer within"):
        file.read()
    assert "no answer within" in remote.remote_file("memory://slow/b.png").reason
    with pytest.raises(TimeoutError):
        stream.read(1)
    assert time.monotonic() - began < 1.9
