"""kill -9 at any moment: nothing acknowledged is lost, stored twice, or embedded twice."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.galleries import made, put
from support.killed import check, digest, lines

from cies import maintain
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from indexes.verify import verify

PICTURES = 2000
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures, all different."""
    made = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(made / f"{number:04}.png", compress_level=0)
    return made


class Victim:
    """A process that works on a gallery; its imports are done before it is needed."""

    def __init__(self, kind: str, place: Path, folder: Path):
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "support" / "killed.py"), kind, str(place), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
        )

    def go(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        assert self.process.stdout.readline() == "READY\n", self.process.stderr
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill_after(self, seconds: float, wait: bool) -> bool:
        """Kill it so long after it started to write; returns whether it was done before.

        Args:
            seconds: to wait.
            wait: count from when it has checked the gallery, not from the beginning.
        """
        if wait:
            assert self.process.stdout is not None
            self.process.stdout.readline()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
        _, errors = self.process.communicate()
        assert "Error" not in errors, errors
        return self.process.returncode == 0

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_kills_during_ingest(folder: Path, tmp_path: Path, soak: bool) -> None:
    kills, done, count = (200 if soak else 10), 0, 0
    random = np.random.default_rng()
    seed = int(random.integers(2**32))
    print("seed", seed)
    random = np.random.default_rng(seed)
    key_of = {}
    for path in folder.iterdir():
        key_of[digest(Image.open(path).tobytes())] = hashlib.sha256(path.read_bytes()).hexdigest()
    place = tmp_path / "gallery0"
    victim = Victim("ingest", place, folder)
    finished = 0
    while done < kills:
        log = place.with_suffix(".embedded")
        missing = set(key_of.values())
        if (place / "manifest.lance").is_dir() and lines(place.with_suffix(".acknowledged")):
            check(place, place.with_suffix(".acknowledged"))
            gallery = Gallery.open(place)
            missing -= gallery.keys(gallery.conditions()[1])
        before = len(lines(log))
        victim.go()
        complete = victim.kill_after(random.uniform(0, 2.5), wait=random.random() < 0.8)
        # Whatever was embedded was missing, and was embedded once, under both conditions or, if
        # the run before died between the two, under the second alone.
        embedded = [line.partition(":")[0] for line in lines(log)[before:]]
        assert len(embedded) == len(set(embedded))
        assert {key_of[pixels] for pixels in embedded} <= missing
        done += not complete
        if complete or len(missing) < PICTURES // 4:
            if not complete:
                last = Victim("ingest", place, folder)
                last.go()
                assert last.kill_after(120, wait=True)
            check(place, place.with_suffix(".acknowledged"))
            gallery = Gallery.open(place)
            assert all(len(gallery.keys(t)) == PICTURES for t in gallery.conditions())
            assert [f.text for f in verify(place) if f.damage] == []
            finished += 1
            count += 1
            place = tmp_path / f"gallery{count}"
        victim = Victim("ingest", place, folder)
    victim.end()
    assert finished or kills < 40


def test_kills_between_two_vector_sources(folder: Path, tmp_path: Path, soak: bool) -> None:
    """As above, in a gallery of two methods: each embeds just what it had not embedded before."""
    few = tmp_path / "few"
    few.mkdir()
    key_of = {}
    for path in sorted(folder.iterdir())[: PICTURES // 5]:
        (few / path.name).write_bytes(path.read_bytes())
        key_of[digest(Image.open(path).tobytes())] = hashlib.sha256(path.read_bytes()).hexdigest()
    seed = int(np.random.default_rng().integers(2**32))
    print("seed", seed)
    random = np.random.default_rng(seed)
    place = tmp_path / "gallery"
    log, acknowledged = place.with_suffix(".embedded"), place.with_suffix(".acknowledged")
    both, complete, kills = {"color", "shape"}, False, 0
    while not complete:
        kills += 1
        have: list[set[str]] = []
        if (place / "manifest.lance").is_dir() and lines(acknowledged):
            check(place, acknowledged)
        if (place / "gallery.json").is_file():
            gallery = Gallery.open(place)
            have = [gallery.keys(table) for table in gallery.conditions()]
        have += [set()] * (3 - len(have))  # It may have died while it declared them.
        before = len(lines(log))
        victim = Victim("mixed", place, few)
        victim.go()
        patience = 120 if kills > (40 if soak else 5) else random.uniform(0, 1.5)
        complete = victim.kill_after(patience, wait=True)
        for names, known in ((both, have[0] & have[1]), ({"unconditional"}, have[2])):
            run = [line.partition(":") for line in lines(log)[before:]]
            embedded = [pixels for pixels, _, under in run if set(under.split("+")) <= names]
            assert len(embedded) == len(set(embedded))
            assert not {key_of[pixels] for pixels in embedded} & known
    check(place, acknowledged)
    gallery = Gallery.open(place)
    assert [len(gallery.keys(table)) for table in gallery.conditions()] == [PICTURES // 5] * 3
    assert len(gallery.paths()) == PICTURES // 5
    assert [f.text for f in verify(place) if f.damage] == []


def test_a_resumed_run_embeds_exactly_what_is_missing(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "gallery"
    log = place.with_suffix(".embedded")
    victim = Victim("ingest", place, folder)
    victim.go()
    assert victim.process.stdout is not None
    victim.process.stdout.readline()
    while len(lines(place.with_suffix(".acknowledged"))) < 100:
        time.sleep(0.02)
    victim.end()
    gallery = Gallery.open(place)
    have = [gallery.keys(table) for table in gallery.conditions()]
    before = len(lines(log))
    victim = Victim("ingest", place, folder)
    victim.go()
    assert victim.kill_after(120, wait=True)
    again = lines(log)[before:]
    names = {
        name: sum(name in line.partition(":")[2] for line in again) for name in ("color", "shape")
    }
    assert names == {"color": PICTURES - len(have[0]), "shape": PICTURES - len(have[1])}
    check(place, place.with_suffix(".acknowledged"))


@pytest.mark.parametrize("kind", ["compact", "index"])
def test_kills_inside_maintenance(kind: str, folder: Path, tmp_path: Path, soak: bool) -> None:
    place = tmp_path / "gallery"
    victim = Victim("ingest", place, folder)
    victim.go()
    assert victim.kill_after(120, wait=True)
    random = np.random.default_rng()
    before = None
    for _ in range(50 if soak else 1):
        victim = Victim(kind, place, folder)
        victim.go()
        assert not victim.kill_after(random.uniform(0.05, 1.0), wait=True)
        check(place, place.with_suffix(".acknowledged"))
        gallery = Gallery.open(place)
        column = gallery.column(gallery.conditions()[0])
        now = column.vectors.tobytes()
        assert before in (None, now)
        before = now
    # What was left lying about is gone after the next maintenance.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexes.store.tables.RETENTION_SECONDS", 0.0)
        with gallery.writer() as writer:
            writer.maintain(due_only=False)
            for table in gallery.conditions():
                writer._table(table.table).compact()
    for table in gallery.conditions():
        left = [p for p in (place / f"{table.table}.lance").rglob("*") if p.is_file()]
        assert len(left) <= 12, left
    assert [f.text for f in verify(place) if f.damage] == []


def test_kills_during_removals(tmp_path: Path, soak: bool) -> None:
    """What was removed stays removed, what was not is whole, and what was asked for is one of both.

    The long form removes 10,000 pictures.
    """
    count, kills, seconds = (10_000 if soak else 120), 0, (3.0 if soak else 0.6)
    place = tmp_path / "gallery"
    _, vectors = made(place, count)
    second = VectorTable("shape", 32, {"phrase": "shape", "model": "none"})
    put(Gallery.open(place), vectors, second)
    random = np.random.default_rng()
    complete = False
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    while not complete:
        victim = Victim("remove", place, tmp_path)
        victim.go()
        enough = not soak and kills >= 2
        complete = victim.kill_after(120 if enough else random.uniform(0, seconds), wait=True)
        kills += not complete
        removed = set(lines(place.with_suffix(".removed")))
        asked = set(lines(place.with_suffix(".asked")))
        gallery = Gallery.open(place)
        found = set(gallery.paths())
        assert not removed & found, "a removed picture is back"
        assert set(vectors) - asked <= found, "a picture is lost that nobody removed"
        for table in gallery.conditions():
            column = gallery.column(table)
            stored = dict(zip(column.keys, column.vectors, strict=True))
            assert found <= stored.keys() and not removed & stored.keys()
            assert all(np.allclose(stored[key], vectors[key], atol=1e-3) for key in found)
        assert [f.text for f in verify(place) if f.damage] == []
    print(f"{count} removals, {kills} kills")
    assert kills and gallery.read_keys() == set() and gallery.files() == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexes.store.tables.RETENTION_SECONDS", 0.0)
        maintain.prune(gallery)
    left = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    print(f"{size} bytes before, {left} after")
    assert left < size / 2
