"""Decoders that crash, hang or exhaust memory cost one picture, and none is left running."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from support.decoders import decoders, end_shared_decoders
from support.encoded import encoded, ramp
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from indexes.errors import CiesError
from indexes.store.gallery import Gallery
from ingest.read.decoder_pool import DecoderPool
from ingest.read.images import UnreadableImage, decode

#: A decoder with a hook: the picture's first bytes decide what happens.
HOOKED = """
import os, sys, time
sys.argv[1:1] = []
from ingest.read import decoder_process
from ingest.read.images import Picture, decode
def hooked(data, side, suffix):
    if data == b"hang":
        while True: pass
    if data == b"sleep": time.sleep(60)
    if data == b"die": os.kill(os.getpid(), 11)
    if data == b"leave": os._exit(3)
    if data == b"eat":
        eaten = []
        while True: eaten.append(bytearray(10 ** 8))
    if data == b"babble": os.write(1, b"nonsense" * 99); print("nonsense")
    if data.startswith(b"die once "):
        mark = data[9:].decode()
        if not os.path.exists(mark): open(mark, "w").close(); os.kill(os.getpid(), 9)
        data = open(mark + ".png", "rb").read()
    return decode(data, side, suffix)
decoder_process.main(hooked)
"""


@pytest.fixture
def hooked() -> list[str]:
    return [sys.executable, "-c", HOOKED]


def outcome(pool: DecoderPool, data: bytes) -> str:
    try:
        pool.decode(data)
    except UnreadableImage as error:
        return error.status
    return "done"


@pytest.fixture(autouse=True)
def no_other_decoders() -> None:
    end_shared_decoders()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF"])
def test_pictures_equal_those_decoded_in_this_process(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0132] = "2020:02:03 04:05:06"
    more = {} if form == "GIF" else {"exif": exif}
    data = encoded(ramp(900, 500), form, **more)
    for side in (None, 100, 2000):
        here = decode(data, side)
        with DecoderPool(side) as pool:
            there = pool.decode(data)
        assert np.array_equal(np.asarray(here.image), np.asarray(there.image))
        assert (here.format, here.taken_at, here.size) == (there.format, there.taken_at, there.size)
        assert there.size == ((900, 500) if form == "GIF" else (500, 900))
        assert max(there.image.size) == min(side or 900, 900)


def test_a_failure_costs_one_picture(hooked: list[str], tmp_path: Path) -> None:
    good = encoded(ramp(), "PNG")
    (tmp_path / "mark.png").write_bytes(good)
    once = b"die once " + str(tmp_path / "mark").encode()
    with DecoderPool(seconds=1.5, memory=400 * 2**20, command=hooked) as pool:
        started = time.monotonic()
        assert outcome(pool, b"hang") == "timeout"
        assert outcome(pool, b"sleep") == "timeout"
        assert time.monotonic() - started < 10
        for data, status in (
            (good, "done"),
            (b"die", "crashed"),
            (b"leave", "crashed"),
            (b"eat", "too_large"),
            (good, "done"),
            (b"babble", "not_an_image"),
            (good[:-30], "truncated"),
            (once, "done"),
            (good, "done"),
        ):
            assert outcome(pool, data) == status, data[:9]
        with pytest.raises(UnreadableImage, match="by signal 11"):
            pool.decode(b"die")
    assert not decoders()


def test_a_decoder_killed_from_outside_costs_nothing() -> None:
    good = encoded(ramp(), "PNG")
    with DecoderPool() as pool:
        assert outcome(pool, good) == "done"
        for process in decoders():
            process.kill()
        assert outcome(pool, good) == "done"


def test_many_threads_share_the_pool(hooked: list[str]) -> None:
    pictures = [encoded(ramp(40 + n, 30), "PNG") for n in range(30)]
    work = [
        data
        for n, data in enumerate(pictures)
        for data in ((data, b"die") if n % 10 == 0 else (data,))
    ]
    with DecoderPool(command=hooked) as pool, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda data: outcome(pool, data), work))
        widths = list(threads.map(lambda data: pool.decode(data).image.width, pictures))
    assert found == ["crashed" if data == b"die" else "done" for data in work]
    assert widths == [40 + n for n in range(30)]


def test_stop_ends_a_hanging_decoder(hooked: list[str]) -> None:
    pool = DecoderPool(command=hooked)
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(outcome(pool, b"sleep")))
    thread.start()
    time.sleep(1)
    started = time.monotonic()
    pool.stop()
    thread.join(10)
    assert time.monotonic() - started < 2 and told == ["interrupted"]
    pool.close()
    assert not decoders()


def test_an_orphan_ends_with_its_parent() -> None:
    code = (
        "import os, sys\nfrom ingest.read.decoder_pool import DecoderPool\n"
        "pool = DecoderPool()\n"
        "try: pool.decode(b'x')\nexcept Exception: pass\n"
        "import psutil; print(psutil.Process().children()[0].pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    until = time.monotonic() + 5
    while psutil.pid_exists(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_decoder_that_does_not_start_is_an_error_of_its_own() -> None:
    with (
        DecoderPool(command=[sys.executable, "-c", "raise SystemExit(1)"]) as pool,
        pytest.raises(CiesError, match="does not start"),
    ):
        pool.decode(b"x")


def test_a_decoder_imports_nothing_heavy_and_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "PIL.py").write_text("raise SystemExit('taken from the folder')")
    monkeypatch.chdir(tmp_path)
    with DecoderPool() as pool:
        assert outcome(pool, encoded(ramp(), "PNG")) == "done"
        (process,) = decoders()
        mapped = {Path(m.path).name for m in process.memory_maps()}
        assert not any("torch" in name or "arrow" in name or "numpy" in name for name in mapped)
        assert process.memory_info().rss < 80 * 2**20


def test_an_ingest_with_a_decoder_that_dies(
    tmp_path: Path, hooked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        paint(tmp_path / "in" / f"{number:02}.png", number)
    for name in ("die", "eat", "leave"):
        (tmp_path / "in" / f"{name}.png").write_bytes(name.encode())
    monkeypatch.setattr("ingest.read.decoder_pool._command", lambda: hooked)
    report = fill(Gallery.create(tmp_path / "g"), tmp_path / "in", "color", StandIn())
    assert report.embedded == 20
    assert {(Path(r.path).stem, r.status) for r in report.failed} == {
        ("die", "crashed"),
        ("eat", "too_large"),
        ("leave", "crashed"),
    }
    assert not decoders()


def test_the_largest_accepted_picture_fits_into_the_memory_limit() -> None:
    from ingest.read.images import MAX_PIXELS

    side = int(MAX_PIXELS**0.5)
    buffer = io.BytesIO()
    Image.new("RGBA", (side, side), (10, 200, 30, 128)).save(buffer, "PNG", compress_level=1)
    with DecoderPool(700) as pool:
        picture = pool.decode(buffer.getvalue())
    assert picture.size == (side, side) and picture.image.size == (700, 700)
    assert abs(picture.image.getpixel((9, 9))[1] - 227) <= 2


def test_draft_mode_differs_little_and_only_for_jpeg() -> None:
    """The reference decodes in full and then reduces."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    image = coarse.resize((2000, 1500), Image.Resampling.BICUBIC)
    for form in ("JPEG", "PNG"):
        data = encoded(image, form)
        full = decode(data).image
        full.thumbnail((350, 350), Image.Resampling.LANCZOS)
        got = np.asarray(decode(data, 350).image, dtype=int)
        difference = np.abs(got - np.asarray(full, dtype=int))
        assert got.shape == (262, 350, 3) or got.shape == (263, 350, 3)
        assert difference.mean() < 1.0 if form == "JPEG" else difference.max() == 0


def test_the_environment_is_unchanged() -> None:
    before = dict(os.environ)
    with DecoderPool() as pool:
        outcome(pool, b"x")
    assert dict(os.environ) == before
