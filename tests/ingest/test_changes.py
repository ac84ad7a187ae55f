"""Conditions and columns are renamed and removed; a table's dropped column is dropped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.durable import sound
from support.kinds import fill, png, put, rows
from support.scans import engine, versions
from support.shell import Shell

from cies import maintain
from indexes.errors import UnknownCondition, UsageError
from indexes.store.attributes import attributes, user_columns
from indexes.store.gallery import Gallery
from indexes.verify import verify

CSV = "file,sku,price,brand\n" + "".join(f"{n}.png,{n:05},{n}.5,acme\n" for n in range(6))


@pytest.fixture
def shop(tmp_path: Path) -> Gallery:
    """Six products in a catalog, under two conditions."""
    for number in range(6):
        put(tmp_path / "p" / f"{number}.png", png(number))
    gallery = Gallery.create(tmp_path / "g")
    fill(gallery, put(tmp_path / "p" / "catalog.csv", CSV), names="color shape")
    return gallery


def names(gallery: Gallery) -> list[str]:
    return [table.name for table in gallery.conditions()]


# -- conditions --------------------------------------------------------------------------------


def test_a_condition_is_renamed(shop: Gallery, shell: Shell) -> None:
    before = engine(shop).search(Path("p/1.png"), "color")
    shell.done("conditions", "edit", "color", "--words", "red,blue")
    _, err = shell.done("conditions", "rename", "colour", "hue of the thing")
    assert "'color' is 'hue of the thing' now, with its words" in err
    assert names(shop) == ["hue of the thing", "shape"]
    assert list(shop.words()) == ["hue of the thing"]
    after = engine(shop).search(Path("p/1.png"), "hue of the thing")
    assert [(h.key, h.score) for h in after] == [(h.key, h.score) for h in before]
    out, _ = shell.done("conditions", "--json")
    assert [c["name"] for c in json.loads(out)["conditions"]] == ["hue of the thing", "shape"]
    with pytest.raises(UnknownCondition, match="it has: hue of the thing, shape"):
        engine(shop).search(Path("p/1.png"), "color")
    # New pictures are embedded as before, and the old name is no second condition.
    put(Path("p/7.png"), png(7))
    report, passes = fill(shop, "p/7.png", names="color")
    assert passes == 1 and names(shop) == ["hue of the thing", "shape"]
    assert report.notes == ["condition 'color' is called 'hue of the thing' in this gallery"]
    sound(shop)
    # And back again.
    shell.done("conditions", "-g", "g", "rename", "hue of the thing", "color")
    assert names(shop) == ["color", "shape"]
    assert fill(shop, names="color")[1] == 0


def test_a_condition_is_removed_and_comes_back_for_an_hour(shop: Gallery, shell: Shell) -> None:
    before = engine(shop).search(Path("p/1.png"), "color")
    running = engine(shop)
    running.search(Path("p/1.png"), "shape")
    _, err = shell.done("conditions", "remove", "color")
    assert "6 vectors" in err and "for an hour" in err
    assert names(shop) == ["shape"]
    with pytest.raises(UnknownCondition):
        engine(shop).search(Path("p/1.png"), "color")
    running.search(Path("p/2.png"), "shape")
    sound(shop)
    # A picture that is removed meanwhile does not come back.
    shell.done("remove", "p/5.png")
    Path("p/5.png").unlink()
    assert fill(shop, names="color")[1] == 0
    assert names(shop) == ["shape", "color"]
    after = engine(shop).search(Path("p/1.png"), "color")
    removed = {hit.key for hit in before} - {hit.key for hit in after}
    assert len(after) == 4 and len(removed) == 1
    sound(shop)


def test_the_space_of_a_condition_is_given_back(
    shop: Gallery, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = shop.conditions()[0].table
    shell.done("conditions", "remove", "color")
    assert (shop.path / f"{table}.lance").is_dir()
    with monkeypatch.context() as later:
        later.setattr("indexes.store.tables.RETENTION_SECONDS", 0.0)
        shell.done("prune")
    left = [path for path in shop.path.rglob("*") if table in path.name]
    assert sum(path.stat().st_size for path in left) < 200
    assert [f.text for f in verify(shop.path)] == []
    # After that it is embedded again.
    assert fill(shop, names="color")[1] == 6
    sound(shop)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["remove", "mood"], "has no condition 'mood' (it has: color, shape)"),
        (["remove", "color", "-m", "clip"], "no vectors made by clip"),
        (["rename", "mood", "x"], "has no condition 'mood'"),
        (["rename", "color", "Shape"], "has a condition 'shape' already"),
        (["rename", "color", ""], "A condition is empty"),
        (["rename", "color", "unconditional"], "fixed meaning"),
    ],
)
def test_what_cannot_be_changed_is_said(
    words: list[str], sentence: str, shop: Gallery, shell: Shell
) -> None:
    before = versions(shop)
    assert sentence in shell.refused("conditions", *words)
    assert versions(shop) == before


def test_a_dry_run_changes_no_condition(shop: Gallery, shell: Shell) -> None:
    before = versions(shop)
    out, _ = shell.done("conditions", "remove", "color", "--dry-run", "--json")
    assert json.loads(out)["vectors"] == 6 and json.loads(out)["done"] is False
    shell.done("conditions", "rename", "color", "hue", "--dry-run")
    assert versions(shop) == before and names(shop) == ["color", "shape"]


def test_the_vectors_that_others_are_subtracted_from_stay(tmp_path: Path) -> None:
    put(tmp_path / "p" / "0.png", png(0))
    gallery = Gallery.create(tmp_path / "g", "residual")
    fill(gallery, tmp_path / "p", names="color unconditional")
    with pytest.raises(UsageError, match="residual"):
        maintain.remove_condition(gallery, "unconditional")
    assert maintain.remove_condition(gallery, "color").name == "color"


# -- columns -----------------------------------------------------------------------------------


def test_columns_are_listed(shop: Gallery, shell: Shell) -> None:
    out, _ = shell.done("columns", "list")
    assert out.splitlines() == [
        "column\ttype\tvalues",
        "brand\tstring\t6",
        "price\tfloat\t6",
        "sku\tstring\t6",
    ]
    assert shell.done("columns")[0] == out
    assert json.loads(shell.done("columns", "--json")[0])["columns"][1] == {
        "name": "price",
        "type": "float",
        "values": 6,
    }


def test_a_renamed_column_stays_renamed(shop: Gallery, shell: Shell) -> None:
    shell.done("columns", "rename", "price", "Cost (EUR)")
    assert set(user_columns(shop)) == {"sku", "cost_eur", "brand"}
    assert rows(shop)["p/3.png"]["cost_eur"] == 3.5
    # The catalog still calls it price.
    put(Path("p/catalog.csv"), CSV.replace("3.5", "30"))
    report, passes = fill(shop, names="")
    assert (report.relabelled, passes) == (1, 0)
    assert rows(shop)["p/3.png"]["cost_eur"] == 30
    fill(shop, "p/catalog.csv", names="", columns=("sku", "price:float", "brand"))
    shell.done("columns", "rename", "cost_eur", "eur")
    fill(shop, names="")
    assert set(user_columns(shop)) == {"sku", "eur", "brand"}
    shell.done("columns", "rename", "eur", "price")
    assert fill(shop, names="")[0].relabelled == 0
    assert set(user_columns(shop)) == {"sku", "price", "brand"} and shop.column_changes() == {}


def test_a_removed_column_stays_removed_until_it_is_named(shop: Gallery, shell: Shell) -> None:
    before = rows(shop)
    shell.done("columns", "remove", "price", "BRAND")
    assert set(user_columns(shop)) == {"sku"}
    assert set(user_columns(Gallery.open(shop.path))) == {"sku"}
    assert rows(shop)["p/3.png"]["sku"] == before["p/3.png"]["sku"]
    assert fill(shop, names="")[0].relabelled == 0 and set(user_columns(shop)) == {"sku"}
    fill(shop, "p/catalog.csv", names="", columns=("sku", "price:float"))
    assert set(user_columns(shop)) == {"sku", "price"}
    # The next ingest without arguments, as the nightly one, does not bring it back.
    shell.done("columns", "remove", "price")
    fill(shop, names="")
    assert set(user_columns(shop)) == {"sku"}
    assert [f.text for f in verify(shop.path)] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["remove", "prise"], "Did you mean 'price'?"),
        (["remove", "path"], "no column 'path' of yours"),
        (["rename", "price", "sku"], "has a column 'sku' already"),
        (["rename", "nothing", "x"], "it has: brand, price, sku"),
    ],
)
def test_which_column_cannot_be_changed_is_said(
    words: list[str], sentence: str, shop: Gallery, shell: Shell
) -> None:
    before = versions(shop)
    assert sentence in shell.refused("columns", *words)
    assert versions(shop) == before


def test_a_dry_run_changes_no_column(shop: Gallery, shell: Shell) -> None:
    before = versions(shop)
    out, _ = shell.done("columns", "remove", "price", "--dry-run", "--json")
    assert json.loads(out)["removed"] == ["price"]
    shell.done("columns", "rename", "price", "cost", "--dry-run")
    assert versions(shop) == before


def test_two_columns_of_one_name_are_refused(shop: Gallery, shell: Shell) -> None:
    shell.done("columns", "rename", "price", "cost")
    put(Path("p/catalog.csv"), "file,price,cost\n0.png,1,2\n")
    with pytest.raises(UsageError, match=r"'price' and 'cost' of p/catalog.csv would both"):
        fill(shop, names="")


def test_a_column_that_the_table_lost_is_dropped_and_said(shop: Gallery) -> None:
    put(Path("p/catalog.csv"), CSV.replace("price", "cost"))
    report, passes = fill(shop, names="")
    assert passes == 0 and report.relabelled == 6
    assert report.notes == [
        "column 'price' is not taken from p/catalog.csv any more, and was dropped from 6 files"
    ]
    assert set(user_columns(shop)) == {"sku", "cost", "brand"}
    assert rows(shop)["p/3.png"]["cost"] == 3.5
    assert fill(shop, names="")[0].notes == []


def test_only_the_rows_of_the_table_lose_the_column(shop: Gallery, tmp_path: Path) -> None:
    """Another table has the column too, or lists other files with it."""
    put(tmp_path / "q" / "x.png", png(50))
    other = put(tmp_path / "other.csv", "file,price\nq/x.png,7\np/0.png,8\n")
    fill(shop, other, names="")
    put(Path("p/catalog.csv"), "file,sku\n" + "".join(f"{n}.png,{n:05}\n" for n in range(5)))
    report, _ = fill(shop, "p/catalog.csv", names="")
    # brand is nowhere else; price is also in the other table, and is kept.
    assert [note.partition(" is not")[0] for note in report.notes] == ["column 'brand'"]
    assert rows(shop)["p/0.png"]["price"] == 8 and rows(shop)["q/x.png"]["price"] == 7
    assert rows(shop)["p/1.png"]["brand"] is None
    # The file of the deleted row is gone and keeps what it had.
    assert report.gone == 1 and "brand" in user_columns(shop)


def test_a_gallery_of_an_earlier_version_loses_a_column_too(shop: Gallery) -> None:
    with shop.writer() as writer:
        writer.put_source("p/catalog.csv", shop.sources()["p/catalog.csv"])
    assert shop.source_columns() == {}
    put(Path("p/catalog.csv"), CSV.replace("price", "cost"))
    assert len(fill(shop, names="")[0].notes) == 1
    assert set(user_columns(shop)) == {"sku", "cost", "brand"}


def test_a_table_that_is_not_there_loses_nothing(shop: Gallery) -> None:
    fill(shop, put(Path("q/x.png"), png(50)).parent, names="")
    Path("p").rename("away")
    report, _ = fill(shop, names="")
    assert [one.name for one in report.unreachable] == ["p/catalog.csv"]
    assert set(user_columns(shop)) == {"sku", "price", "brand"} and report.notes == []


def test_rows_that_name_one_picture_together(shop: Gallery, shell: Shell) -> None:
    """Renaming, removing and filters mean every row of the table."""
    put(Path("p/catalog.csv"), CSV + "3.png,00103,7.5,other\n")
    fill(shop, names="")

    def listed(column: str) -> list[object]:
        found = attributes(shop).to_pylist()
        return sorted(row[column] for row in found if row["path"] == "p/3.png")

    assert listed("price") == [3.5, 7.5]
    shell.done("columns", "rename", "price", "cost")
    shell.done("columns", "remove", "brand")
    assert listed("cost") == [3.5, 7.5] and listed("sku") == ["00003", "00103"]
    assert fill(shop, names="")[0].relabelled == 0
    assert [column.name for column in maintain.columns(shop)] == ["cost", "sku"]
    # One of its two rows is no reason to remove a picture.
    assert "Nothing to remove" in shell.done("remove", "--where", "sku = '00103'")[1]
    assert "1 of 6 pictures" in shell.done("remove", "--where", "sku LIKE '%03'")[1]
