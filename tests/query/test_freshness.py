"""A gallery that is held open while others write to it: one moment, and the newest when asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.growing import BATCH, TABLES, add, key, remove, start_writer, vectors
from support.stand_in_fill import paint

import cies
from cies.gallery_search import SearchableGallery
from indexes.search.snapshot import Snapshot
from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.fill.pipeline import ingest


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look for a newer state before every search."""
    monkeypatch.setattr("query.engine.LOOK_SECONDS", 0.0)


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of rows for small galleries too, of which a half may change."""
    monkeypatch.setattr("indexes.search.table_loader.CACHED_FROM", 20)
    monkeypatch.setattr("indexes.search.table_loader._CHANGED", 0.5)


def keys_of(g: SearchableGallery) -> tuple[list[str], list[str], list[str]]:
    """The keys under both conditions, and those that have a path."""
    color, shape = (list(g.opened(name).keys) for name in ("color", "shape"))
    return color, shape, sorted(g.gallery.paths()) if not g._follow else sorted(g._opened.paths)


def check_answers(g: SearchableGallery, numbers: list[int]) -> None:
    """Hits are those of a comparison with every vector, by NumPy alone."""
    for order, name in enumerate(("color", "shape")):
        rows = np.stack([vectors(range(n, n + 1), order)[0] for n in numbers])
        stored = rows.astype(np.float16).astype(np.float32)
        stored /= np.linalg.norm(stored, axis=1, keepdims=True)
        for query in (0, len(numbers) - 1):
            cosines = stored @ stored[query]
            best = [n for n in np.argsort(-cosines) if n != query][:5]
            hits = g.search(key(numbers[query]), name, 5)
            assert [hit.key for hit in hits] == [key(numbers[n]) for n in best]
            assert [hit.score for hit in hits] == pytest.approx(cosines[best], abs=1e-5)
            words = [f"word{numbers[n] % 7}" for n in best]
            assert [hit.word for hit in hits] == words
            assert [Path(hit.path).stem for hit in hits] == [hit.key for hit in hits]


def test_new_pictures_are_found_and_a_gallery_that_does_not_follow_stays(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(gallery, range(30))
    g, still = cies.open(gallery.path), cies.open(gallery.path, follow=False)
    for one in (g, still):
        assert len(one.search(key(1), "color", 100)) == 29
    add(gallery, range(30, 37))
    # Within a second nothing is looked for, and a condition that is first used now is of the same
    # moment as one that was used before.
    monkeypatch.setattr("query.engine.LOOK_SECONDS", 3600.0)
    for one in (g, still):
        assert len(one.search(key(1), "shape", 100)) == len(one.search(key(1), "color", 100)) == 29
        assert len(one) == 30
    monkeypatch.setattr("query.engine.LOOK_SECONDS", 0.0)
    assert len(g.search(key(1), "shape", 100)) == len(g.search(key(1), "color", 100)) == 36
    assert len(g) == 37 and len(g.vectors("color")) == 37
    assert len(still) == 30 and len(still.search(key(1), "color", 100)) == 29
    assert still.refresh() and not still.refresh()
    assert len(still) == 37 and len(still.search(key(1), "color", 100)) == 36


def test_a_new_condition_is_found(tmp_path: Path, folder: Path, at_once: None) -> None:
    from support.stand_in import StandIn

    gallery = Gallery.create(tmp_path / "new")
    ingest(gallery, [folder], [Condition.parse("color")], lambda spec: StandIn())
    g = cies.open(gallery.path)
    assert g.conditions == ["color"]
    paint(folder / "more.png", 99)
    both = [Condition.parse("color"), Condition.parse("shape")]
    ingest(gallery, [folder], both, lambda spec: StandIn())
    assert g.conditions == ["color", "shape"]
    assert len(g.search(folder / "more.png", "shape", 100)) == 10


def test_the_look_is_cheap_and_at_most_every_second(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(gallery, range(5))
    looks: list[float] = []
    moment = Gallery.newest_moment

    def looked(self: Gallery) -> object:
        looks.append(time.monotonic())
        return moment(self)

    monkeypatch.setattr(Gallery, "newest_moment", looked)
    g = cies.open(gallery.path)
    start = time.monotonic()
    while time.monotonic() < start + 1.5:
        g.search(key(1), "color", 3)
    assert len(looks) == 2 and looks[1] - looks[0] >= 1
    before = g._opened
    g.refresh()
    assert g._opened is before, "nothing was written"


@pytest.mark.parametrize("seed", range(3))
def test_a_refreshed_gallery_answers_as_one_that_is_opened_anew(
    gallery: Gallery, cached: None, at_once: None, seed: int
) -> None:
    random = np.random.default_rng(seed)
    add(gallery, range(40))
    held = list(range(40))
    g = cies.open(gallery.path)
    check_answers(g, held)
    for _ in range(8):
        if random.random() < 0.3:
            first = int(random.choice(held[:-3]))
            gone = [n for n in held if first <= n < first + 3]
            remove(gallery, range(first, first + 3))
            held = [n for n in held if n not in gone]
        else:
            count = int(random.integers(1, 9))
            add(gallery, range(held[-1] + 1, held[-1] + 1 + count))
            held += range(held[-1] + 1, held[-1] + 1 + count)
        check_answers(g, held)
        color, shape, paths = keys_of(g)
        assert color == shape == paths == sorted(key(n) for n in held)
    check_answers(cies.open(gallery.path), held)


def test_a_refresh_reads_only_what_was_added(
    gallery: Gallery, cached: None, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(gallery, range(200))
    g = cies.open(gallery.path)
    g.search(key(1), "color", 3)
    add(gallery, range(200, 203))
    g.search(key(1), "color", 3)  # compares all keys once
    taken: list[int] = []
    take = Snapshot.take

    def counted(self: Snapshot, row_ids: np.ndarray) -> Iterator[object]:
        taken.append(len(row_ids))
        return take(self, row_ids)

    monkeypatch.setattr(Snapshot, "take", counted)
    monkeypatch.setattr(Snapshot, "digest", lambda self: pytest.fail("all keys were read"))
    monkeypatch.setattr(Snapshot, "batches", lambda self: pytest.fail("all rows were read"))
    for first in (203, 205, 209):
        add(gallery, range(first, first + 2))
        assert len(g.search(key(1), "color", 1000)) == len(g.gallery.paths()) - 1
    assert taken == [2, 2, 2]


def test_the_state_that_a_gallery_was_opened_in_is_kept_for_an_hour(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    add(gallery, range(30))
    monkeypatch.setattr("indexes.store.tables.RETENTION_SECONDS", 0.5)
    time.sleep(0.6)  # The newest version is now older than versions are kept.
    still, g = cies.open(gallery.path, follow=False), cies.open(gallery.path)
    compact(gallery, range(30, 33))
    assert len(still.search(key(1), "color", 100)) == 29, "it was the newest half a second ago"
    time.sleep(0.6)
    compact(gallery, range(33, 36))
    time.sleep(0.6)
    compact(gallery, range(36, 37))
    with pytest.raises(cies.GalleryExpired, match=r"no longer stored.*refresh\(\)"):
        still.search(key(1), "shape", 100)
    assert len(g.search(key(1), "shape", 100)) == 36
    assert still.refresh() and len(still.search(key(1), "shape", 100)) == 36


def compact(gallery: Gallery, numbers: range) -> None:
    """Add pictures, and compact all tables."""
    add(gallery, numbers)
    with gallery.writer() as writer:
        for table in [*TABLES]:
            writer._table(table.table).compact()
        writer._table("files").compact()


def test_an_unplugged_gallery_is_one_sentence(gallery: Gallery, at_once: None) -> None:
    add(gallery, range(5))
    g = cies.open(gallery.path)
    gallery.path.rename(gallery.path.with_name("elsewhere"))
    with pytest.raises(cies.GalleryMissing, match=r"is gone; if it is on another drive"):
        g.search(key(1), "color", 3)
    gallery.path.with_name("elsewhere").rename(gallery.path)
    assert len(g.search(key(1), "color", 3)) == 3


def test_searches_while_another_process_writes(
    gallery: Gallery, cached: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query.engine.LOOK_SECONDS", 0.02)
    add(gallery, range(200))
    g = cies.open(gallery.path)
    writer = start_writer(gallery.path, 2.0)
    moments = mixed_states(g, writer)
    commits = int(writer.communicate()[0])
    assert commits >= 12 and moments >= 3
    g.refresh()
    color, shape, paths = keys_of(g)
    assert color == shape == paths
    assert len(color) == 200 + commits * BATCH - commits // 8 * 5


def mixed_states(g: SearchableGallery, writer: object) -> int:
    """Search in two threads until the writer ends; returns the number of moments that were seen."""
    errors: list[BaseException] = []
    seen: set[int] = set()

    def search() -> None:
        try:
            while writer.poll() is None:  # type: ignore[attr-defined]
                hits = g.search(key(3), ["color", "shape"], 5)
                # The files exist in no folder; apart from that there is nothing to note.
                assert len(hits) == 5 and all("not there" in note for note in hits.notes)
                opened = g._opened
                tables = [
                    opened.tables.open_table(opened.resolver.resolve(name))
                    for name in ("color", "shape")
                ]
                assert list(tables[0].keys) == list(tables[1].keys) == sorted(opened.paths)
                seen.add(len(tables[0]))
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return len(seen)


def test_searches_among_100_000_pictures_while_another_process_writes(
    tmp_path: Path, soak: bool
) -> None:
    if not soak:
        pytest.skip("takes minutes; part of make soak")
    gallery = Gallery.create(tmp_path / "large")
    for first in range(0, 100_000, 20_000):
        add(gallery, range(first, first + 20_000), 192)
    g = cies.open(gallery.path)
    rest = latencies(g, 30.0)
    writer = start_writer(gallery.path, 60.0, 192)
    under = latencies(g, 60.0)
    commits = int(writer.communicate()[0])
    figures = [np.percentile(one, 95) * 1000 for one in (rest, under)]
    print(
        f"p95 of {len(rest)} searches at rest {figures[0]:.1f} ms, of {len(under)} during "
        f"{commits} commits {figures[1]:.1f} ms"
    )
    assert commits > 50
    assert figures[1] <= 2 * figures[0]
    assert len(g) > 100_000 + 40 * BATCH


def latencies(g: SearchableGallery, seconds: float) -> list[float]:
    """Seconds of each search."""
    for number in range(200):
        g.search(key(number), "color" if number % 2 else "shape")
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        assert len(g.search(key(len(found) % 9973), "color" if len(found) % 2 else "shape")) == 10
        found.append(time.perf_counter() - start)
    return found
