"""Pictures of queries, pages and programs are decoded in processes that may be killed."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.decoders import decoders, end_shared_decoders
from support.encoded import encoded, ramp
from support.stand_in import StandIn
from support.stand_in_fill import fill

import cies
from indexes.errors import CiesError, UsageError
from indexes.store.gallery import Gallery
from ingest.read import isolated
from ingest.read.decoder_pool import DecoderPool
from ingest.read.images import UnreadableImage
from ingest.read.isolated import decode_isolated, picture_of
from query.explore.thumbnails import thumbnail


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A pool of this test, with a short time limit."""
    pool = DecoderPool(seconds=0.7, processes=2, idle_seconds=1.0)
    monkeypatch.setattr(isolated, "_pools", {os.getpid(): pool})
    yield
    pool.close()


def slow_jpeg() -> bytes:
    """A progressive JPEG of 4 megapixels that repeats its last scan, so that it takes minutes."""
    data = encoded(Image.new("L", (2000, 2000), 128), "JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xc4") : -2]
    return data[:-2] + scan * 8000 + data[-2:]


@pytest.fixture(autouse=True)
def no_other_decoders() -> None:
    end_shared_decoders()


def test_a_hostile_picture_costs_a_sentence_wherever_it_is_given(tmp_path: Path) -> None:
    data = slow_jpeg()
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(encoded(ramp(60 + number, 48), "PNG"))
    fill(Gallery.create(tmp_path / "g.cies"), folder, "color", StandIn())
    (tmp_path / "slow.jpg").write_bytes(data)
    opened = cies.open(tmp_path / "g.cies", model=StandIn())
    encoder = cies.Encoder(StandIn())
    for ask in (
        lambda: opened.search(tmp_path / "slow.jpg", condition="color"),
        lambda: opened.search(data, condition="color"),
        lambda: encoder.encode(Image.open(io.BytesIO(data)), "color"),
    ):
        started = time.monotonic()
        with pytest.raises(UsageError, match=r"not decoded within 0\.7 seconds"):
            ask()
        assert time.monotonic() - started < 5
    assert thumbnail(tmp_path / "slow.jpg") is None
    # The next picture is searched as before.
    hits = opened.search(encoded(ramp(64, 48), "PNG"), condition="color")
    assert len(hits) == 2


def test_threads_share_few_processes_that_end_when_idle() -> None:
    from concurrent.futures import ThreadPoolExecutor

    pictures = [encoded(ramp(40 + n, 30), "PNG") for n in range(24)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda data: decode_isolated(data).image.width, pictures))
        assert 1 <= len(decoders()) <= 2
    assert found == [40 + n for n in range(24)]
    until = time.monotonic() + 6
    while decoders() and time.monotonic() < until:
        time.sleep(0.1)
    assert not decoders()
    assert decode_isolated(pictures[0]).image.width == 40


def test_a_copy_of_the_process_has_decoders_of_its_own() -> None:
    data = encoded(ramp(), "PNG")
    decode_isolated(data)
    reading, writing = os.pipe()
    copy = os.fork()
    if not copy:
        width = decode_isolated(data).image.width
        os.write(writing, str(width).encode())
        os._exit(0)
    os.waitpid(copy, 0)
    assert os.read(reading, 9) == b"64"
    assert decode_isolated(data).image.width == 64


def test_pixels_need_no_process() -> None:
    picture = picture_of(np.zeros((8, 8, 3), np.uint8))
    assert picture.image.size == (8, 8) and not decoders()


def test_programs_that_contain_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/sbin/server")
    assert decode_isolated(encoded(ramp(), "PNG")).image.size == (64, 48)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with DecoderPool() as pool, pytest.raises(CiesError, match="own program is not found"):
        pool.decode(b"x")
    with (
        DecoderPool(command=[str(tmp_path / "nothing")]) as pool,
        pytest.raises(CiesError, match="No decoder process can be started"),
    ):
        pool.decode(b"x")


def test_nothing_outside_this_package_decodes() -> None:
    """Pillow decodes when it opens a file; all of that happens in ``ingest/read``."""
    root = Path(cies.__file__).parents[1]
    ours = (p for name in ("cies", "eval", "query", "ingest") for p in (root / name).rglob("*.py"))
    decoding = {
        str(path.relative_to(root))
        for path in ours
        if path.parent not in (root / "ingest" / "read", root / "eval" / "peers")
        and ("Image.open(" in (text := path.read_text()) or "images import decode" in text)
    }
    # Peers are what one would write without CIES. The others read pictures of our own, measure
    # Pillow, and ask for the size of a benchmark's file.
    assert decoding <= {
        "eval/world/media.py",
        "eval/bench/ingest.py",
        "eval/protocols/datasets/genecis.py",
    }


def test_empty_and_large_files_are_refused_here() -> None:
    with pytest.raises(UnreadableImage, match="empty"):
        decode_isolated(b"")
    assert not decoders()
