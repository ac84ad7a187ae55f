"""``cies merge``: everything of another gallery that can be compared, nothing twice."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.durable import sound
from support.kinds import fill, png, put, rows
from support.scans import engine, versions
from support.shell import Shell
from support.stand_in import StandIn

from cies import maintain
from indexes.errors import GalleryError, GalleryMismatch, UsageError
from indexes.store.gallery import Gallery
from indexes.store.tables import Table
from indexes.verify import verify
from ingest.conditions import Condition
from ingest.encoders.base import EncoderSpec
from ingest.fill.pipeline import ingest


def key(seed: int) -> str:
    return hashlib.sha256(png(seed)).hexdigest()


def catalog(folder: Path, seeds: range, columns: str = "sku", extra: str = "") -> Path:
    for seed in seeds:
        put(folder / f"{seed:02}.png", png(seed))
    lines = "".join(f"{seed:02}.png,{seed:05}{extra}\n" for seed in seeds)
    return put(folder / "t.csv", f"file,{columns}\n{lines}")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Gallery, Gallery]:
    """Two galleries in different places; pictures 4 and 5 are in both."""
    first = Gallery.create(tmp_path / "a" / "g")
    fill(first, catalog(tmp_path / "a" / "p", range(6)), names="color shape")
    second = Gallery.create(tmp_path / "b" / "g")
    fill(
        second, catalog(tmp_path / "b" / "q", range(4, 10), "sku,price", ",1.5"), names="color size"
    )
    return first, second


def columns_of(gallery: Gallery) -> dict[str, dict[str, bytes]]:
    found = {}
    for table in gallery.conditions():
        column = gallery.column(table)
        found[table.name] = dict(
            zip(column.keys, [row.tobytes() for row in column.vectors], strict=True)
        )
    return found


def test_all_of_another_gallery_is_added(
    two: tuple[Gallery, Gallery], tmp_path: Path, shell: Shell
) -> None:
    first, second = two
    before, theirs = columns_of(first), columns_of(second)
    unchanged = versions(second)
    out, _ = shell.done("merge", second.path, "-g", first.path, "--dry-run", "--json")
    planned = json.loads(out)
    assert columns_of(first) == before
    out, _ = shell.done("merge", second.path, "-g", first.path, "--json")
    document = json.loads(out)
    assert document == {**planned, "done": True}
    assert document["conditions"] == {"color": 4, "size": 6}
    assert document["new_conditions"] == ["size"] and document["left_out"] == {}
    assert (document["files"], document["pictures"], document["columns"]) == (6, 4, ["price"])
    assert document["sources"] == [f"{tmp_path}/b/q/t.csv"]
    assert columns_of(first) == {
        "color": before["color"] | theirs["color"],
        "shape": before["shape"],
        "size": theirs["size"],
    }
    assert first.paths()[key(5)] == [f"{tmp_path}/b/q/05.png", "p/05.png"]
    found = rows(first)
    assert found[f"{tmp_path}/b/q/07.png"]["price"] == 1.5
    assert found["p/01.png"]["price"] is None and found["p/01.png"]["sku"] == "00001"
    assert len(first.images()) == 10
    assert [f.text for f in verify(first.path) if f.damage] == []
    assert versions(second) == unchanged
    # What each gallery lacked is embedded by the next ingest, and nothing else.
    report, passes = fill(first, names="")
    assert passes == 8 and report.failed == [] and len(report.unreachable) == 0
    sound(first)
    hits = engine(first).search(tmp_path / "b" / "q" / "07.png", "shape", k=50)
    assert len(hits) == 9 and all(Path(hit.path).exists() for hit in hits)


def test_a_merge_again_adds_nothing(two: tuple[Gallery, Gallery]) -> None:
    first, second = two
    maintain.merge(first, second.path)
    before = versions(first)
    again = maintain.merge(first, second)
    assert (again.conditions, again.files, again.sources, again.columns) == ({}, 0, [], [])
    assert versions(first) == before
    # What is new there since.
    fill(second, put(second.root / "new" / "x.png", png(50)).parent, names="")
    assert maintain.merge(first, second).conditions == {"color": 1, "size": 1}


def test_a_new_gallery_takes_everything(
    two: tuple[Gallery, Gallery], tmp_path: Path, shell: Shell
) -> None:
    """A backup that grows with each run, also while the gallery is written to."""
    first, _ = two
    with first.writer():
        _, err = shell.done("merge", first.path, "-g", tmp_path / "a" / "backup")
    assert "6 files and 6 pictures are new" in err
    backup = Gallery.open(tmp_path / "a" / "backup")
    assert columns_of(backup) == columns_of(first) and rows(backup) == rows(first)
    assert backup.sources() == first.sources()
    assert fill(backup, names="")[1] == 0
    sound(backup)


def test_an_other_encoder_is_left_out_or_refused(
    two: tuple[Gallery, Gallery], tmp_path: Path, shell: Shell
) -> None:
    first, second = two

    class Other(StandIn):
        @property
        def spec(self) -> EncoderSpec:
            return EncoderSpec("clip", "other", "1", {"dtype": "float32"})

    third = Gallery.create(tmp_path / "c" / "g")
    put(tmp_path / "c" / "p" / "0.png", png(60))
    ingest(third, [tmp_path / "c" / "p"], [Condition.parse("color")], lambda spec: Other())
    before = versions(first)
    err = shell("merge", third.path, "-g", first.path)[2]
    assert "no vectors that can be compared" in err and "clip of other" in err
    assert versions(first) == before
    with pytest.raises(GalleryMismatch):
        maintain.merge(first, third)
    # Of a gallery with both, what can be compared is taken.
    ingest(
        second,
        [],
        [Condition.parse("unconditional")],
        lambda spec: Other() if spec is None or spec.method == "clip" else StandIn(),
        is_new=True,
    )
    found = maintain.merge(first, second)
    assert set(found.conditions) == {"color", "size"} and list(found.left_out) == ["unconditional"]


def test_conflicts_are_said_and_the_own_is_kept(tmp_path: Path) -> None:
    first = Gallery.create(tmp_path / "g")
    fill(first, catalog(tmp_path / "p", range(3), "sku,n", ",1"))
    shutil.copytree(tmp_path / "g", tmp_path / "h")
    second = Gallery.open(tmp_path / "h")
    put(tmp_path / "p" / "00.png", png(70))
    catalog(tmp_path / "p", range(1, 3), "sku,n", ",2")
    fill(second, tmp_path / "p" / "t.csv")
    fill(second, put(tmp_path / "p" / "00.png", png(70)))
    maintain.rename_condition(second, "color", "hue")
    found = maintain.merge(first, second)
    assert any("2 files have other values in the columns" in text for text in found.conflicts)
    assert any("'hue' is called 'color' here" in text for text in found.conflicts)
    assert any("1 files have other content in each" in text for text in found.conflicts)
    assert [table.name for table in first.conditions()] == ["color"]
    assert rows(first)["p/01.png"]["n"] == 1 and first.paths()[key(0)] == ["p/00.png"]
    # The next ingest settles it by the file.
    fill(first, names="")
    fill(first, tmp_path / "p" / "00.png")
    assert first.paths()[key(70)] == ["p/00.png"]


def test_a_column_of_another_type_is_refused_before_anything_is_written(
    two: tuple[Gallery, Gallery], tmp_path: Path
) -> None:
    first, second = two
    fill(first, catalog(tmp_path / "a" / "p", range(6), "sku,price", ",cheap"), names="")
    before = versions(first)
    with pytest.raises(UsageError, match=r"'price' holds string values .* and float values"):
        maintain.merge(first, second)
    assert versions(first) == before
    maintain.rename_column(second, "price", "eur")
    assert maintain.merge(first, second).columns == ["eur"]


def test_damaged_vectors_are_not_taken(two: tuple[Gallery, Gallery]) -> None:
    first, second = two
    table = second.conditions()[0]
    with second.writer() as writer:
        bad = writer._table(table.table).read()
        words = np.array(["forged"] * bad.num_rows)
        bad = bad.set_column(bad.schema.get_field_index("word"), "word", [words])
        writer._table(table.table).upsert(bad)
    with pytest.raises(GalleryError, match=r"damaged; run `cies repair"):
        maintain.merge(first, second)
    assert len(first.paths()) == 6


def test_the_gallery_itself_and_no_gallery(
    two: tuple[Gallery, Gallery], tmp_path: Path, shell: Shell
) -> None:
    first, _ = two
    assert "is the gallery itself" in shell.refused("merge", first.path, "-g", first.path)
    assert "no gallery at" in shell.refused("merge", tmp_path / "none", "-g", first.path)
    assert not (tmp_path / "none").exists()


def test_a_merge_that_was_interrupted_is_continued(
    two: tuple[Gallery, Gallery], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    shutil.copytree(first.path, tmp_path / "a" / "whole")
    whole = Gallery.open(tmp_path / "a" / "whole")
    maintain.merge(whole, second)
    for allowed in range(40):
        writes = 0
        with monkeypatch.context() as patch:
            for name in ("upsert", "delete", "overwrite", "add_missing_columns"):
                original = getattr(Table, name)

                def failing(self, *arguments, original=original, allowed=allowed):  # type: ignore[no-untyped-def]
                    nonlocal writes
                    writes += 1
                    if writes > allowed:
                        raise KeyboardInterrupt
                    return original(self, *arguments)

                patch.setattr(Table, name, failing)
            try:
                maintain.merge(first, second)
            except KeyboardInterrupt:
                assert [f.text for f in verify(first.path) if f.damage] == []
                assert len(engine(first).search(key(1), "color", k=50)) >= 5
                continue
        break
    assert columns_of(first) == columns_of(whole) and rows(first) == rows(whole)
    assert first.sources() == whole.sources()
    statistics = [(g.statistics(t), t.name) for g in (first, whole) for t in g.conditions()]
    assert [s.count for s, _ in statistics[:3] if s] == [10, 6, 6]
