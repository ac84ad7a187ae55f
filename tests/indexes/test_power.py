"""Power cuts: the real content of a disk is opened, and nothing acknowledged is lost.

The gallery lies on a file system of its own in a file. At a random moment the writer is stopped
and that file copied: what was written but not synced is not in it. The copy is then mounted, as
after a power cut, and everything acknowledged before that moment must be there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.killed import CONDITIONS, check, lines
from support.stand_in import StandIn

from indexes.store.gallery import Gallery
from indexes.verify import verify
from ingest.fill.pipeline import ingest

TESTS = Path(__file__).parents[1]
MEGABYTES = 192


def command(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    command("mount", "-o", "loop", image, place)
    try:
        yield place
    finally:
        command("umount", "-l", place)


def test_power_cuts(tmp_path: Path, soak: bool) -> None:
    if not soak:
        pytest.skip("needs root and minutes; `make soak` runs it")
    disk, copy = tmp_path / "disk.img", tmp_path / "copy.img"
    with disk.open("wb") as file:
        file.truncate(MEGABYTES * 2**20)
    try:
        command("mkfs.ext4", "-q", disk)
        with mounted(disk, tmp_path / "probe"):
            pass
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system in a file can be made and mounted by root only")
    folder = tmp_path / "in"
    folder.mkdir()
    random = np.random.default_rng()
    for number in range(2000):
        pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png", compress_level=0)
    cuts = kept = partial = 0
    while cuts < 100:
        command("mkfs.ext4", "-q", "-F", disk)
        with mounted(disk, tmp_path / "before") as before:
            # Where the log of what was acknowledged lies, power stays on.
            place = before / "gallery"
            log = tmp_path / "gallery.acknowledged"
            log.unlink(missing_ok=True)
            (before / "gallery.acknowledged").symlink_to(log)
            process = subprocess.Popen(
                [
                    sys.executable,
                    str(TESTS / "support" / "killed.py"),
                    "ingest",
                    str(place),
                    str(folder),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
            )
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            process.stdout.readline()
            process.stdout.readline()
            # Several cuts a run, each seen through another copy, wherever the machine has got to by
            # then; the first often before anything is acknowledged.
            for count in (0, *sorted(random.integers(1, 1900, 4).tolist())):
                while len(lines(log)) < count and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(float(random.uniform(0.0, 0.2)))
                process.send_signal(signal.SIGSTOP)
                acknowledged = lines(log)
                shutil.copyfile(disk, copy)
                with mounted(copy, tmp_path / "after") as after:
                    cuts += 1
                    promised = tmp_path / "promised"
                    promised.write_text("".join(f"{key}\n" for key in acknowledged))
                    if not (after / "gallery" / "manifest.lance").is_dir():
                        assert not acknowledged
                    elif acknowledged:
                        check(after / "gallery", promised)
                        kept += len(acknowledged)
                        partial += len(acknowledged) < 2000
                    gallery = Gallery.create(after / "gallery")
                    ingest(gallery, [folder], CONDITIONS, lambda spec: StandIn())
                    assert all(len(gallery.keys(t)) == 2000 for t in gallery.conditions())
                    assert [f.text for f in verify(gallery.path) if f.damage] == []
                # Only now, since the run would be over by the next cut.
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()
    print(f"{cuts} cuts, {partial} in the middle of a run, {kept} acknowledged pictures, all there")
    assert partial > cuts // 2
