"""``cies remove`` and ``cies prune --where``: what is removed, and what is given back."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.durable import sound
from support.kinds import fill, png, put, rows
from support.scans import engine, gone, versions
from support.shell import Shell

from cies import maintain
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.tables import Table
from indexes.verify import verify

PICTURES = 12


def key(seed: int) -> str:
    return hashlib.sha256(png(seed)).hexdigest()


@pytest.fixture
def shop(tmp_path: Path) -> Gallery:
    """A dozen products in a catalog; the file of the first is there twice."""
    lines = "".join(f"{n:02}.png,{n:05},{n}.5\n" for n in range(PICTURES))
    put(tmp_path / "p" / "catalog.csv", "file,sku,price\n" + lines)
    for number in range(PICTURES):
        put(tmp_path / "p" / f"{number:02}.png", png(number))
    shutil.copy(tmp_path / "p" / "00.png", tmp_path / "p" / "twin.png")
    gallery = Gallery.create(tmp_path / "g")
    fill(gallery, tmp_path / "p", tmp_path / "p" / "catalog.csv", names="color shape")
    return gallery


def test_pictures_are_removed_by_key_path_folder_and_filter(shop: Gallery, shell: Shell) -> None:
    _, err = shell.done("remove", "p/01.png", key(2))
    assert "2 of 13 files, 2 of 12 pictures" in err and "Still in p: 2." in err
    assert Path("p/01.png").is_file()
    assert not {key(1), key(2)} & set(shop.paths())
    sound(shop)
    # A picture with another file stays until that is removed as well.
    shell.done("remove", Path("p/00.png").absolute())
    assert shop.paths()[key(0)] == ["p/twin.png"]
    _, err = shell.done("remove", "--where", "price BETWEEN 3 AND 6 AND sku <> '00004'")
    assert {row["sku"] for row in rows(shop).values()} == {
        None, "00004", *(f"{n:05}" for n in range(6, 12))
    }  # fmt: skip
    out, _ = shell.done("remove", "p", "--json")
    document = json.loads(out)
    assert (len(document["paths"]), document["files"], document["done"]) == (8, 8, True)
    assert document["share"] == 1
    assert shop.files() == [] and shop.images() == [] and shop.read_keys() == set()
    assert [f.text for f in verify(shop.path)] == []
    # Everything comes back with the next ingest, because the files are still there.
    assert fill(shop, names="")[0].embedded == 12
    sound(shop)


def test_names_and_filter_together_remove_what_both_mean(shop: Gallery, shell: Shell) -> None:
    shell.done("remove", "p/03.png", "p/04.png", "--where", "price > 4")
    assert key(3) in shop.paths() and key(4) not in shop.paths()
    # A key whose filter excludes it is kept.
    shell.done("remove", key(5), "--where", "price > 90")
    assert key(5) in shop.paths()


def test_a_dry_run_changes_nothing(shop: Gallery, shell: Shell) -> None:
    before = versions(shop)
    out, _ = shell.done("remove", "p/03.png", "--dry-run", "--json")
    assert json.loads(out) == {
        "schema_version": 1,
        "gallery": "g",
        "done": False,
        "paths": ["p/03.png"],
        "keys": [key(3)],
        "files": 13,
        "pictures": 12,
        "share": round(1 / 12, 6),
    }
    assert "Nothing was changed" in shell.done("remove", "p/03.png", "--dry-run")[1]
    assert versions(shop) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Nothing was named to remove"),
        (["p/nothing.png"], "has no picture or file 'p/nothing.png'"),
        (["0" * 64], "has no picture or file"),
        (["p/01.png", "nowhere"], "'nowhere'"),
        (["--where", "skuu = 3"], "no column 'skuu'"),
        (["--where", "sku = "], "Cannot filter"),
    ],
)
def test_what_cannot_be_removed_is_said(
    words: list[str], sentence: str, shop: Gallery, shell: Shell
) -> None:
    before = versions(shop)
    assert sentence in shell.refused("remove", *words)
    assert versions(shop) == before


def test_a_filter_that_matches_nothing(shop: Gallery, shell: Shell) -> None:
    before = versions(shop)
    assert "Nothing to remove" in shell.done("remove", "--where", "sku = 'none'")[1]
    assert versions(shop) == before


def test_thousands_of_keys_at_once(gallery: Gallery, tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path / "many" / f"{number:02}.png", png(number))
    fill(gallery, tmp_path / "many")
    known = sorted(gallery.paths())
    removed = maintain.remove(gallery, known[:30])
    assert removed.keys == known[:30] and sorted(gallery.paths()) == known[30:]
    with pytest.raises(UsageError, match=r"no picture or file .* and 27 more"):
        maintain.remove(gallery, known[:30])


def test_a_search_that_is_running_still_finds_what_it_has_read(shop: Gallery) -> None:
    before = engine(shop)
    hits = before.search(Path("p/05.png"), "color", k=50)
    maintain.remove(shop, "p/06.png")
    assert key(6) in {hit.key for hit in hits}
    after = engine(shop).search(Path("p/05.png"), "color", k=50)
    assert {hit.key for hit in hits} - {hit.key for hit in after} == {key(6)}


def test_space_is_given_back(
    gallery: Gallery, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the pictures are removed; an hour later half of the bytes are free."""
    for number in range(400):
        put(tmp_path / "p" / f"{number:03}.png", png(number))
    place = Gallery.create(tmp_path / "g")
    monkeypatch.setattr("support.stand_in.StandIn.dimension", property(lambda self: 512))
    monkeypatch.setattr(
        "support.stand_in.StandIn.vector",
        lambda self, image, phrase: np.eye(512, dtype="f4")[hash(image.tobytes()) % 512],
    )
    fill(place, tmp_path / "p", names="color shape")

    def size() -> int:
        return sum(path.stat().st_size for path in place.path.rglob("*") if path.is_file())

    with monkeypatch.context() as later:
        later.setattr("indexes.store.tables.RETENTION_SECONDS", 0.0)
        maintain.prune(place)
        before = size()
    shell.done("remove", "--where", "path < 'p/200'")
    _, err = shell.done("remove", "p/399.png")
    assert "kept for an hour" in err and size() > before
    with monkeypatch.context() as later:
        later.setattr("indexes.store.tables.RETENTION_SECONDS", 0.0)
        _, err = shell.done("prune")
        assert "MB less" in err
    after = size()
    print("bytes", before, after)
    assert after < 0.6 * before
    sound(place)
    assert len(place.paths()) == 199


# -- prune -------------------------------------------------------------------------------------


def test_prune_by_a_filter(shop: Gallery, shell: Shell) -> None:
    for number in (3, 4, 5):
        Path(f"p/{number:02}.png").unlink()
    fill(shop, names="")
    assert len(gone(shop)) == 3
    out, _ = shell.done("prune", "--where", "sku = '00004'", "--json")
    assert json.loads(out)["keys"] == [key(4)]
    assert set(gone(shop)) == {"p/03.png", "p/05.png"}
    # A filter that matches existing files prunes none of them.
    assert "Nothing to forget" in shell.done("prune", "--where", "price > 6")[1]
    # When a file went missing is a column.
    assert "Nothing to forget" in shell.done("prune", "--where", "gone_at < '2020'")[1]
    assert "Forgotten" in shell.done("prune", "--yes", "--where", "gone_at > '2020'")[1]
    assert not gone(shop) and len(shop.paths()) == 9
    sound(shop)


def test_prune_counts_pictures_and_not_paths(shop: Gallery, shell: Shell) -> None:
    """A folder of copies is deleted: no picture is lost, and no confirmation is asked for."""
    shutil.copytree("p", "copy")
    fill(shop, "copy", names="")
    shutil.rmtree("copy")
    Path("copy").mkdir()
    put(Path("copy") / "new.png", png(100))
    fill(shop, "copy", names="")
    assert len(gone(shop)) == 13
    out, _ = shell.done("prune", "--json")
    document = json.loads(out)
    assert (len(document["paths"]), document["keys"], document["share"]) == (13, [], 0)
    assert not gone(shop) and len(shop.paths()) == 13
    sound(shop)


def test_prune_asks_before_it_loses_a_tenth(shop: Gallery, shell: Shell) -> None:
    for number in (3, 4):
        Path(f"p/{number:02}.png").unlink()
    fill(shop, names="")
    err = shell.refused("prune")
    assert "gone: 'p/03.png'" in err
    assert "2 of 12 pictures would be lost, which is 17% of the gallery" in err and "--yes" in err
    shell.done("prune", "--yes")
    assert len(shop.paths()) == 10


def test_python_does_the_same(shop: Gallery) -> None:
    with pytest.raises(UsageError, match="Nothing was named"):
        maintain.remove(shop)
    planned = maintain.remove(shop, where="price > 9", dry_run=True)
    assert maintain.remove(shop, where="price > 9") == planned
    assert planned.keys == sorted(key(n) for n in (9, 10, 11)) and planned.returning == {"p": 3}
    Path("p/03.png").unlink()
    fill(shop, names="")
    assert maintain.prune(shop, where="sku = '00003'", dry_run=True).keys == [key(3)]
    with pytest.raises(UsageError, match="--yes"):
        maintain.remove(shop, [key(n) for n in range(4, 9)])
        maintain.prune(shop)
    assert maintain.prune(shop, yes=True).keys == [key(3)]


def test_a_removal_that_was_interrupted_damages_nothing_and_is_continued(
    shop: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every write of a removal: nothing is damaged, and the picture is gone or whole."""
    for allowed in range(12):
        writes = 0

        with monkeypatch.context() as patch:
            for name in ("upsert", "delete"):
                original = getattr(Table, name)

                def failing(self, *arguments, original=original, allowed=allowed):  # type: ignore[no-untyped-def]
                    nonlocal writes
                    writes += 1
                    if writes > allowed:
                        raise KeyboardInterrupt
                    return original(self, *arguments)

                patch.setattr(Table, name, failing)
            try:
                maintain.remove(shop, "p/07.png")
            except KeyboardInterrupt:
                interrupted = True
            else:
                interrupted = False
        fresh = Gallery.open(shop.path)
        assert [f.text for f in verify(shop.path) if f.damage] == []
        found = key(7) in fresh.paths()
        assert found == (allowed == 0)
        if found:
            assert all(key(7) in fresh.keys(table) for table in fresh.conditions())
        if not interrupted:
            break
    else:
        raise AssertionError("the removal never came to its end")
    assert "p/07.png" not in {record.path for record in shop.files()}
    assert key(7) not in shop.read_keys()
