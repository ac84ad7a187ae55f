"""Random changes of a folder and its gallery, in any order, against a plain model."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as live
from PIL import Image
from support.stand_in import StandIn

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.verify import verify
from ingest.conditions import Condition
from ingest.fill.pipeline import ingest
from ingest.read.images import read_bytes

NAMES = st.sampled_from(["a", "b", "c", "d/e", "d/f"])
SEEDS = st.integers(0, 9)


class Life(RuleBasedStateMachine):
    """A folder of up to five pictures, of ten that there are."""

    @initialize()
    def begin(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="cies-life-"))
        self.root = self.base / "0"
        self.folder = self.root / "in"
        self.folder.mkdir(parents=True)
        self.place = self.root / "gallery"
        self.gallery = Gallery.create(self.place)
        self.conditions: list[str] = []
        self.stored: dict[str, set[str]] = {}
        self.time = 10**18

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    # -- what people do to folders -------------------------------------------------------------

    @rule(name=NAMES, seed=SEEDS)
    def write(self, name: str, seed: int) -> None:
        path = self.path(name)
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=0)
        self.touch(path)

    def touch(self, path: Path) -> None:
        """Give it a time of its own, since tests are faster than clocks."""
        self.time += 10**9
        os.utime(path, ns=(self.time, self.time))

    @rule(name=NAMES)
    def spoil(self, name: str) -> None:
        if self.path(name).exists():
            self.path(name).write_bytes(b"spoilt")
            self.touch(self.path(name))

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    @rule(source=NAMES, other=NAMES, copy=st.booleans())
    def move(self, source: str, other: str, copy: bool) -> None:
        if self.path(source).exists() and source != other:
            self.path(other).parent.mkdir(exist_ok=True)
            (shutil.copy2 if copy else shutil.move)(self.path(source), self.path(other))

    # -- what happens to galleries ---------------------------------------------------------------

    def present(self) -> dict[str, str]:
        """Readable files and their keys."""
        found = {}
        for path in self.folder.rglob("*.png"):
            if path.read_bytes() != b"spoilt":
                found[self.gallery.stored(path)] = read_bytes(path).key
        return found

    @rule(more=st.sampled_from(["", "color", "shape"]), after=st.sampled_from([None, None, 0, 1]))
    def fill(self, more: str, after: int | None) -> None:
        """Ingest, which may break down after some calls of the encoder."""
        if not self.conditions and not more:
            return
        if more and more not in self.conditions:
            self.conditions.append(more)
        before = self.have()
        encoder = StandIn(fail_after=after)
        wanted = [Condition.parse(name) for name in self.conditions]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ingest.fill.commit_queue.BATCH", 2)
            patch.setattr("ingest.fill.commit_queue.COMMIT_SECONDS", 0.0)
            try:
                ingest(self.gallery, [self.folder], wanted, lambda spec: encoder)
            except RuntimeError:
                assert after is not None
                return
            except UsageError as error:
                # A folder that held pictures and is empty is taken for an unplugged drive.
                assert not self.present() and "drive is not plugged in" in str(error)
                assert encoder.calls == []
                return
        present = set(self.present().values())
        embedded = sum(count * len(names) for count, names in encoder.calls)
        after_all = self.have()
        assert embedded == sum(len(after_all[n] - before.get(n, set())) for n in after_all)
        assert all(present <= keys for keys in after_all.values())
        recorded = {path for paths in self.gallery.paths().values() for path in paths}
        assert set(self.present()) <= recorded

    def have(self) -> dict[str, set[str]]:
        return {table.name: self.gallery.keys(table) for table in self.gallery.conditions()}

    @rule()
    def reopen(self) -> None:
        self.gallery = Gallery.open(self.place)

    @rule()
    def move_all(self) -> None:
        """Gallery and pictures move to another place together."""
        root = self.base / str(int(self.root.name) + 1)
        shutil.move(self.root, root)
        self.root, self.folder, self.place = root, root / "in", root / "gallery"
        self.gallery = Gallery.open(self.place)

    @rule()
    def maintain(self) -> None:
        with self.gallery.writer() as writer:
            for table in self.gallery.conditions():
                writer.ensure(table)
            assert writer.maintain(due_only=False) is None

    @invariant()
    def every_vector_is_the_encoders(self) -> None:
        if not hasattr(self, "gallery"):
            return
        encoder = StandIn()
        pictures = {}
        for seed in range(10):
            pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
            pictures[seed] = Image.fromarray(pixels)
        for table in self.gallery.conditions():
            column = self.gallery.column(table)
            assert len(set(column.keys)) == len(column.keys)
            # What was there once stays until it is pruned.
            assert self.stored.get(table.name, set()) <= set(column.keys)
            self.stored[table.name] = set(column.keys)
            possible = np.stack([encoder.vector(p, table.name) for p in pictures.values()])
            if len(column.keys):
                assert ((column.vectors @ possible.T).max(axis=1) > 0.999).all()

    def teardown(self) -> None:
        if hasattr(self, "place"):
            assert [f.text for f in verify(self.place) if f.damage] == []
            shutil.rmtree(self.base, ignore_errors=True)


def test_random_histories(soak: bool) -> None:
    live(
        Life,
        settings=settings(
            max_examples=1000 if soak else 25,
            stateful_step_count=30 if soak else 10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
