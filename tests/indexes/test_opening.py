"""Tables opened for search against brute force, while the gallery and its caches change."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.galleries import TABLE, clustered, forget, kept, key, made, put, table_loader

import indexes.search.cache_folder
import indexes.search.table_loader
from indexes.errors import CiesError, UsageError
from indexes.geometry import Statistics
from indexes.search.open_table import OpenTable
from indexes.search.row_cache import DamagedCache, read_row_cache, row_hashes
from indexes.store.gallery import Gallery
from indexes.verify import verify

#: Recall@10 that each kind must reach here, on 1,200 clustered vectors of 32 numbers.
KINDS = {
    "exact": 1.0,
    "faiss": 0.97,
    "ivf": 0.97,
    "hnsw": 0.97,
    "pq": 0.9,
    "lance": 0.9,
    "IVF16,SQ8": 0.97,
}


@pytest.fixture(autouse=True)
def cached_from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tables are cached here as large ones are everywhere."""
    monkeypatch.setattr(indexes.search.table_loader, "CACHED_FROM", 1)
    indexes.search.cache_folder._warned.clear()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A gallery to copy, and its vectors by key."""
    place = tmp_path_factory.mktemp("plain") / "g.cies"
    _, held = made(place, 1200)
    return place, held


def copied(plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> Gallery:
    shutil.copytree(plain[0], tmp_path / "g.cies")
    return Gallery.open(tmp_path / "g.cies")


def check(table: OpenTable, held: dict[str, np.ndarray], recall: float, k: int = 10) -> None:
    """Answers against a plain sort over the vectors that are held."""
    keys = sorted(held)
    assert list(table.keys) == keys and len(table) == len(keys)
    rows = np.stack([held[one] for one in keys])
    queries = np.concatenate([rows[::97], clustered(10, 32, seed=5)])
    truth = queries @ rows.T
    assert np.allclose(table.scores(queries), truth, atol=1e-5)
    assert np.allclose(table.vectors(np.arange(len(keys))), rows, atol=1e-6)
    assert table.row(keys[7]) == 7 and table.row(key("nobody")) is None
    assert table.words[7] == f"word {int(keys[7][0], 16)}" and len(table.words) == len(keys)
    found, scores = table.search(queries, k)
    assert found.shape == (len(queries), k)
    assert np.allclose(scores, np.take_along_axis(truth, found, 1), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(line)) == k for line in found.tolist())
    least = np.sort(truth, axis=1)[:, -k][:, None]
    assert (scores >= least - 1e-5).mean() >= recall
    one, _ = table.search(queries[:1], k)
    assert np.array_equal(one, found[:1])
    # Filters are exact under every index, at any share.
    random = np.random.default_rng(2)
    for share in (0.004, 0.1, 0.5):
        allowed = random.random(len(keys)) < share
        wanted = min(k, int(allowed.sum()))
        for asked in (queries, queries[:1]):
            some, near = table.search(asked, k, allowed)
            assert some.shape == (len(asked), wanted) and allowed[some].all()
            best = np.sort(np.where(allowed, truth[: len(asked)], -2), axis=1)[:, ::-1][:, :wanted]
            assert np.allclose(near, best, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_index_answers_as_exact_search(
    kind: str, plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    gallery, held = copied(plain, tmp_path), dict(plain[1])
    recall = KINDS[kind]
    built = table_loader(gallery).build(kind)
    if kind == "exact":
        assert built is None
    else:
        assert built is not None and built.recall_at_10 >= recall and built.vectors == 1200
        assert built.bytes > 0 and table_loader(gallery).known() == [built]
    assert table_loader(gallery).choice == kind
    check(table_loader(gallery).open(), held, recall)
    # Added, replaced and deleted since: exact, from what is cached and what is not.
    new = {key(f"new {n}"): row for n, row in enumerate(clustered(20, 32, seed=3))}
    new[sorted(held)[5]] = clustered(1, 32, seed=4)[0]
    dead = sorted(held)[40:55]
    put(gallery, new)
    forget(gallery, dead)
    held.update({one: kept(row) for one, row in new.items()})
    for one in dead:
        del held[one]
    folders = sorted(table_loader(gallery).folder.glob("raw-*"))
    reopened = table_loader(Gallery.open(gallery.path)).open()
    assert reopened.kind == kind
    check(reopened, held, recall)
    for one, row in new.items():
        found, scores = reopened.search(kept(row)[None], 1)
        assert reopened.keys[int(found[0, 0])] == one and scores[0, 0] > 0.9999
    assert sorted(table_loader(gallery).folder.glob("raw-*")) == folders
    # Nearly all neighbours of a question gone at once: still as many hits as were asked for.
    order = np.argsort(-(np.stack([held[one] for one in sorted(held)]) @ held[sorted(held)[9]]))
    near = [sorted(held)[row] for row in order[:60]]
    forget(gallery, near)
    for one in near:
        del held[one]
    check(table_loader(gallery).open(), held, recall)


def test_many_changes_are_cached_again(
    plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    gallery, held = copied(plain, tmp_path), dict(plain[1])
    first = table_loader(gallery).open()
    before = sorted(table_loader(gallery).folder.glob("raw-*"))
    new = {key(f"new {n}"): row for n, row in enumerate(clustered(200, 32, seed=3))}
    put(gallery, new)
    held.update({one: kept(row) for one, row in new.items()})
    check(table_loader(gallery).open(), held, 1.0)
    after = sorted(table_loader(gallery).folder.glob("raw-*"))
    assert len(before) == len(after) == 1 and before != after
    # Who opened the old one goes on with it, though its files are gone.
    check(first, plain[1], 1.0)


def test_gone_pictures_are_found_only_when_asked_for(
    plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    gallery, held = copied(plain, tmp_path), dict(plain[1])
    table_loader(gallery).build("faiss")
    records = [record for record in gallery.files() if record.key in sorted(held)[:30]]
    with gallery.writer() as writer:
        for record in records:
            object.__setattr__(record, "status", "gone")
        writer.put_files(records)
    still = {one: row for one, row in held.items() if one not in sorted(held)[:30]}
    check(table_loader(gallery).open(), still, 0.97)
    check(table_loader(gallery, gone=True).open(), held, 0.97)
    check(table_loader(gallery).open(), still, 0.97)


def test_geometries_do_not_share_a_cache(
    plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    gallery, held = copied(plain, tmp_path), plain[1]
    table_loader(gallery).open()
    rows = np.stack([held[one] for one in sorted(held)])
    statistics = Statistics.of(rows)
    moved = statistics.apply(rows, "centred")
    for _ in range(2):
        table = table_loader(gallery, "centred", statistics=statistics).open()
        assert np.allclose(table.vectors(np.arange(len(rows))), moved, atol=1e-3)
        assert np.allclose(np.linalg.norm(table.vectors(np.arange(99)), axis=1), 1, atol=1e-6)
    # Other statistics are another geometry, and replace it.
    other = Statistics.of(rows[:600])
    table = table_loader(gallery, "centred", statistics=other).open()
    want = other.apply(rows, "centred")
    assert np.allclose(table.vectors(np.arange(len(rows))), want, atol=1e-3)
    names = sorted(path.name.partition("-")[0] for path in table_loader(gallery).folder.glob("*-*"))
    assert names == ["centred", "raw"]


def damage(path: Path, how: str) -> None:
    """Hurt a file in place, as a disk does."""
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 3] ^= 0x10
    elif how == "truncate":
        del data[len(data) // 2 :]
    elif how == "zero":
        data[:] = bytes(len(data))
    elif how == "grow":
        data += b"\0" * 8
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["flip", "truncate", "zero", "grow", "remove"])
def test_damaged_caches_are_never_served(
    how: str,
    plain: tuple[Path, dict[str, np.ndarray]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gallery, held = copied(plain, tmp_path), plain[1]
    table_loader(gallery).build("faiss")
    (folder,) = table_loader(gallery).folder.glob("raw-*")
    files = {path.name.partition("-")[0] + path.suffix for path in folder.iterdir()}
    assert len(files) == 12, files
    for name in sorted(files):
        (folder,) = table_loader(gallery).folder.glob("raw-*")
        found = (p for p in folder.iterdir() if p.name.partition("-")[0] + p.suffix == name)
        (hurt,) = found
        if how == "remove":
            hurt.unlink()
        else:
            damage(hurt, how)
        if (name, how) != ("index.json", "remove"):
            (finding,) = verify(gallery.path)
            assert finding.what == "note" and "cache" in finding.text
        check(table_loader(gallery).open(), held, 0.97)
        # It was built again: the next call finds it undamaged.
        table_loader(gallery).open()
        assert not verify(gallery.path)
    assert "damaged" in caplog.text


def test_choice_and_leftovers(plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    gallery, held = copied(plain, tmp_path), plain[1]
    one = table_loader(gallery)
    one.build("hnsw")
    assert one.open().kind == "hnsw" and one.open("exact").kind == "exact"
    (one.folder / ".old-1").mkdir()
    (one.folder / "choice.json").write_text("{")
    assert one.choice == "auto" and one.open().kind == "exact"
    check(one.open("Flat"), held, 1.0)
    with pytest.raises(UsageError, match="no index 'magic'"):
        one.open("magic")
    with pytest.raises(CiesError, match=r"cies\[gpu\]"):
        one.build("gpu")
    with pytest.raises(UsageError, match="cannot hold"):
        one.build("IVF5000,Flat")
    put(gallery, {key(n): row for n, row in enumerate(clustered(100, 32, seed=8))})
    one.open()
    assert not (one.folder / ".old-1").exists()


def test_a_gallery_that_cannot_be_written_is_searched_all_the_same(
    plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gallery, held = copied(plain, tmp_path), plain[1]
    # A file in place of the folder: nobody can write there, not even root.
    gallery.indexes.write_text("")
    caplog.set_level(logging.WARNING)
    for kind in ("auto", "faiss", "auto"):
        check(table_loader(gallery).open(kind), held, 0.97)
    assert caplog.text.count("cannot be written to") == 1
    with pytest.raises(UsageError, match="Cannot write to"):
        table_loader(gallery).build("faiss")


def test_a_full_disk_costs_the_cache_and_no_more(
    plain: tuple[Path, dict[str, np.ndarray]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gallery, held = copied(plain, tmp_path), plain[1]
    monkeypatch.setattr("indexes.search.row_cache._SPARE_BYTES", 2**62)
    check(table_loader(gallery).open("faiss"), held, 0.97)
    assert "no space left" in caplog.text
    assert not list(table_loader(gallery).folder.iterdir()), "nothing half-written is left"


def test_threads_search_while_a_writer_ingests_and_indexes_are_swapped(tmp_path: Path) -> None:
    gallery, held = made(tmp_path / "g.cies", 600)
    states = {frozenset(held)}
    everything = dict(held)
    query = clustered(1, 32, seed=6)
    stop, errors, answers = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                table = table_loader(Gallery.open(gallery.path)).open()
                rows, scores = table.search(query, 10)
                answers.append(
                    (frozenset(table.keys), [table.keys[int(row)] for row in rows[0]], scores[0])
                )
            except Exception as error:  # noqa: BLE001 - what is looked for
                errors.append(repr(error))

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            try:
                table_loader(Gallery.open(gallery.path)).build(
                    ("faiss", "exact", "IVF8,SQ8")[turn % 3]
                )
            except Exception as error:  # noqa: BLE001 - what is looked for
                errors.append(repr(error))
            turn += 1

    threads = [threading.Thread(target=ask) for _ in range(8)] + [threading.Thread(target=swap)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        new = {
            key(f"turn {turn} {n}"): row for n, row in enumerate(clustered(15, 32, seed=20 + turn))
        }
        everything.update({one: kept(row) for one, row in new.items()})
        # What is published is what the record of files names, once it is committed.
        states.add(frozenset(max(states, key=len) | set(new)))
        put(gallery, new)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors, errors[:3]
    assert len(answers) >= 8 and len({state for state, _, _ in answers}) > 1
    for state, found, scores in answers:
        assert state in states
        truth = np.sort([float(query[0] @ everything[one]) for one in state])[::-1][:10]
        near = [float(query[0] @ everything[one]) for one in found]
        assert np.allclose(scores, near, atol=1e-5)
        assert (scores >= truth[-1] - 1e-5).mean() >= 0.9


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 70),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.03, 0.4, 1.0]),
    st.booleans(),
)
def test_search_against_brute_force(
    count: int, k: int, seed: int, share: float, repeated: bool
) -> None:
    random = np.random.default_rng(seed)
    rows = clustered(count, 8, seed)
    if repeated:
        rows = rows[random.integers(0, max(1, count // 3), count)]
    from indexes.store.records import VectorColumn

    keys = sorted(key(n) for n in range(count))
    column = VectorColumn(keys, rows, [""] * count, np.zeros(count, dtype=np.float32))
    table = OpenTable(TABLE, column)
    allowed = random.random(count) < share
    queries = clustered(3, 8, seed + 1)
    truth = np.where(allowed, queries @ rows.T, -np.inf)
    found, scores = table.search(queries, k, allowed)
    wanted = min(k, int(allowed.sum()))
    order = np.argsort(-truth, axis=1, kind="stable")[:, :wanted]
    assert np.allclose(scores, np.take_along_axis(truth, order, 1), atol=1e-6)
    assert allowed[found].all() and found.shape == (3, wanted)


@pytest.mark.parametrize("faiss_there", [True, False])
@pytest.mark.parametrize("queries", [1, 40])
def test_rows_of_its_own_against_brute_force(
    queries: int,
    faiss_there: bool,
    plain: tuple[Path, dict[str, np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few rows are gathered from fp16, many are compared in fp32, with FAISS or without."""
    if not faiss_there:
        monkeypatch.setattr("indexes.search.faiss.installed", lambda: False)
    gallery = copied(plain, tmp_path)
    table_loader(gallery).open("exact")  # now cached
    matrix = table_loader(gallery).open("exact")._matrix
    random = np.random.default_rng(4)
    asked = clustered(queries, 32, 5)
    rows = random.integers(0, len(matrix), (queries, 100))
    found = matrix.scores_of(asked, rows)
    assert matrix._cache is not None
    assert (matrix._wide is not None) == (queries == 40)
    every = matrix.rows(np.arange(len(matrix)))
    truth = np.einsum("nd,nmd->nm", asked, every[rows])
    assert np.abs(found - truth).max() < 1e-6


@given(st.integers(0, 99), st.integers(0, 255), st.integers(1, 255))
def test_a_hash_sees_every_change_of_a_byte(row: int, byte: int, change: int) -> None:
    halves = np.random.default_rng(0).normal(size=(100, 128)).astype(np.float16)
    before = row_hashes(halves)
    halves.view(np.uint8)[row, byte] ^= change
    assert np.flatnonzero(row_hashes(halves) != before).tolist() == [row]


def test_a_header_of_another_layout_is_not_read(
    plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    gallery = copied(plain, tmp_path)
    table_loader(gallery).open()
    (folder,) = table_loader(gallery).folder.glob("raw-*")
    header = json.loads((folder / "header.json").read_text())
    header["document"]["layout"] = 99
    (folder / "header.json").write_text(json.dumps(header))
    with pytest.raises(DamagedCache):
        read_row_cache(folder)
