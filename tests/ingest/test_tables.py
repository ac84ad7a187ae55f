"""Tables of pictures: their columns, and rows that cannot be used."""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from support.kinds import (
    failures,
    fill,
    png,
    put,
    rows,
)

from indexes.errors import UsageError
from indexes.store.attributes import RESERVED, attributes, column_name, user_columns
from indexes.store.gallery import Gallery

CSV = """file,SKU,Price (EUR),in stock,added,seen,key,score,notes
a.png,007,3.5,true,2024-01-02,2024-01-02T03:04:05+02:00,k1,1,"comma, ""quote"" é"
b.png,008,4,false,2024-01-03,2024-01-02 03:04,k2,2,
"""


def test_csv_columns_are_typed_and_never_collide(gallery: Gallery, tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        put(tmp_path / "p" / f"{name}.png", png(number))
    put(tmp_path / "p" / "t.csv", CSV)
    report, passes = fill(gallery, tmp_path / "p" / "t.csv")
    assert (report.embedded, report.relabelled, passes) == (2, 2, 2)
    assert {name: str(kind) for name, kind in user_columns(gallery).items()} == {
        "sku": "string",
        "price_eur": "double",
        "in_stock": "bool",
        "added": "date32[day]",
        "seen": "timestamp[us]",
        "user_key": "string",
        "user_score": "int64",
        "notes": "string",
    }
    first, second = rows(gallery)["p/a.png"], rows(gallery)["p/b.png"]
    assert first["key"] == hashlib.sha256(png(0)).hexdigest()
    assert (first["sku"], first["price_eur"], first["in_stock"]) == ("007", 3.5, True)
    assert (first["added"], first["seen"]) == (date(2024, 1, 2), datetime(2024, 1, 2, 1, 4, 5))
    assert (first["user_key"], first["user_score"]) == ("k1", 1)
    assert first["notes"] == 'comma, "quote" é' and second["notes"] is None
    # Again: nothing to write. A new price: no embedding.
    assert fill(gallery, tmp_path / "p" / "t.csv")[0].relabelled == 0
    put(tmp_path / "p" / "t.csv", CSV.replace("3.5", "2.5"))
    report, passes = fill(gallery, tmp_path / "p" / "t.csv")
    assert (report.relabelled, report.unchanged, passes) == (1, 2, 0)
    assert rows(gallery)["p/a.png"]["price_eur"] == 2.5


def test_names_of_columns() -> None:
    for name in RESERVED:
        assert column_name(name) == f"user_{name}"
        assert column_name(name) not in RESERVED
    assert column_name("  Größe (cm)") == "größe_cm"
    assert column_name("_rowid") == "rowid"
    assert column_name("2020") == "user_2020"
    assert column_name("!?") == "column"


def test_a_table_with_a_folder_and_another_table(gallery: Gallery, tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / "p" / f"{number}.png", png(number))
    put(tmp_path / "brands.csv", "file,brand\np/0.png,acme\np/1.png,zeta\n")
    put(tmp_path / "prices.jsonl", '{"image": "0.png", "price": 1.5}\n{"image": "2.png"}\n')
    report, passes = fill(gallery, tmp_path / "p", tmp_path / "brands.csv")
    assert (report.found, passes) == (3, 3)
    fill(gallery, tmp_path / "prices.jsonl", root=str(tmp_path / "p"))
    told = {path: (row["brand"], row["price"]) for path, row in rows(gallery).items()}
    assert told == {"p/0.png": ("acme", 1.5), "p/1.png": ("zeta", None), "p/2.png": (None, None)}
    # Both in one run, each with its stored options, change nothing.
    report, passes = fill(gallery)
    assert (report.relabelled, report.unchanged, passes) == (0, 3, 0)


def test_rows_that_cannot_be_used(gallery: Gallery, tmp_path: Path) -> None:
    put(tmp_path / "a.png", png(1))
    put(tmp_path / "text.png", "hello")
    put(tmp_path / "dir.png" / "x.txt", "")
    table = (
        "file,n\n./a.png,1\na.png,1\na.png,2\nnone.png,1\ntext.png,1\n,5\nhttps://e.org/a.jpg,1\n"
        "a.png\ndir.png,1\n../escape.png,1\n\n"
    )
    put(tmp_path / "t.csv", table)
    report, _ = fill(gallery, tmp_path / "t.csv")
    assert report.embedded == 1
    # Of rows that name one file, each is kept.
    assert attributes(gallery).column("n").to_pylist() == [1, 2]
    assert failures(gallery) == {
        "none.png": "vanished",
        "text.png": "not_an_image",
        "t.csv!/line 7": "no_path",
        "t.csv!/line 8": "unsupported",
        "t.csv!/line 9": "bad_row",
        "dir.png": "not_a_file",
        "t.csv!/line 11": "refused",
    }
    # A corrected table leaves no failure behind.
    put(tmp_path / "t.csv", "file,n\na.png,1\n")
    fill(gallery, tmp_path / "t.csv")
    assert failures(gallery) == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "is empty; its first line"),
        ("t.csv", b"name,price\na,1\n", "Which column .*--image-column"),
        ("t.csv", b"file,image\na,b\n", "both file and image could"),
        ("t.csv", b"file,x,x\na,1,2\n", "names the column 'x' twice"),
        ("t.csv", b"file,A b,a-b\na,1,2\n", "would both be called a_b"),
        ("t.csv", b"file,x\na,caf\xe9\n", r"not text in UTF-8 .*save it as UTF-8"),
        ("t.csv", b"file,x\n" + b'"' + b"a" * 200_000, "is not a valid CSV file"),
        ("t.jsonl", b"[1]\nnope\n", "contains no JSON object"),
        ("t.jsonl", b'{"n": 1}\n', "Which column"),
        ("t.parquet", b"PAR1" + b"\0" * 100, "cannot be read .*make it again"),
        ("t.arrow", b"\0" * 100, "cannot be read"),
        ("t.tar", b"no tar" * 1000, "not an uncompressed tar file"),
        ("t.tar.gz", b"\x1f\x8b", "is compressed; unpack it"),
    ],
)
def test_tables_that_cannot_be_used(
    gallery: Gallery, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    put(tmp_path / name, content)
    with pytest.raises(UsageError, match=message):
        fill(gallery, tmp_path / name)
    assert gallery.files() == [] and gallery.sources() == {}


def test_options_of_tables(gallery: Gallery, tmp_path: Path) -> None:
    put(tmp_path / "a.png", png(1))
    put(tmp_path / "t.csv", "where;brand;price;note\na.png;acme;3;x\n")
    table = tmp_path / "t.csv"
    for wrong, message in (
        ({"image_column": "nope"}, "no column 'nope'"),
        ({"image_column": "where", "columns": ("nope",)}, "no column 'nope'"),
        ({"image_column": "where", "columns": ("price:money",)}, "no type 'money'"),
    ):
        with pytest.raises(UsageError, match=message):
            fill(gallery, table, **wrong)
    fill(gallery, table, image_column="where", columns=("brand", "price:float"))
    assert {k: str(v) for k, v in user_columns(gallery).items()} == {
        "brand": "string",
        "price": "double",
    }
    put(tmp_path / "u.csv", "file,price\na.png,cheap\n")
    with pytest.raises(UsageError, match=r"'price' of u\.csv holds string values, and float"):
        fill(gallery, tmp_path / "u.csv")
    fill(gallery, tmp_path / "u.csv", columns=())
    assert rows(gallery)["a.png"]["price"] == 3.0


def test_a_column_without_values_fits_every_type(gallery: Gallery, tmp_path: Path) -> None:
    put(tmp_path / "a.png", png(1))
    put(tmp_path / "full.csv", "file,n\na.png,1\n")
    put(tmp_path / "empty.csv", "file,n,m\na.png,,\n")
    fill(gallery, tmp_path / "full.csv")
    fill(gallery, tmp_path / "empty.csv")
    assert [str(kind) for kind in user_columns(gallery).values()] == ["int64", "string"]


def test_jsonl_types(gallery: Gallery, tmp_path: Path) -> None:
    put(tmp_path / "a.png", png(1))
    put(tmp_path / "b.png", png(2))
    first = {"image": "a.png", "tags": ["x"], "n": 1, "ok": True, "day": "2024-01-02", "id": "7"}
    second = {"image": "b.png", "n": 2.5, "big": 2**70}
    put(tmp_path / "t.jsonl", json.dumps(first) + "\n\n" + json.dumps(second) + "\n")
    fill(gallery, tmp_path / "t.jsonl")
    told = rows(gallery)
    assert told["a.png"]["tags"] == '["x"]' and told["a.png"]["id"] == "7"
    assert (told["a.png"]["n"], told["b.png"]["n"]) == (1.0, 2.5)
    assert (told["a.png"]["ok"], told["a.png"]["day"]) == (True, date(2024, 1, 2))
    assert told["b.png"]["big"] == float(2**70)


def test_a_table_names_files_below_its_root_unless_it_is_trusted(
    gallery: Gallery, tmp_path: Path
) -> None:
    for number, name in enumerate(("in/a.png", "out/b.png", "in_too/c.png")):
        put(tmp_path / name, png(number))
    rows = [
        "a.png",
        "../out/b.png",
        "x/../../in_too/c.png",
        "s3://bucket/d.png",
        "memory://bucket/e.png",
        "file://../out/b.png",
        str(tmp_path / "out" / "b.png"),
    ]
    table = tmp_path / "in" / "t.csv"
    put(table, "file\n" + "".join(f"{row}\n" for row in rows))
    report, _ = fill(gallery, table)
    refused = {record.path: record.reason for record in report.failed}
    assert report.embedded == 2
    assert list(refused) == [f"in/t.csv!/line {line}" for line in (3, 4, 5, 6, 7)]
    assert "--allow-remote" in refused["in/t.csv!/line 5"]
    assert (
        "--root" in refused["in/t.csv!/line 3"] and "--allow-outside" in refused["in/t.csv!/line 3"]
    )
    # With a root above, the same files are inside.
    put(tmp_path / "root.csv", "file\nin/a.png\nout/b.png\nin_too/c.png\n")
    report, _ = fill(gallery, tmp_path / "root.csv")
    assert not report.failed and report.embedded == 1
    report, _ = fill(gallery, table, allow_outside=True)
    assert len(report.failed) == 2


def test_what_was_ingested_before_stays_when_its_row_is_refused(
    gallery: Gallery, tmp_path: Path
) -> None:
    put(tmp_path / "out" / "b.png", png(1))
    put(tmp_path / "in" / "a.png", png(2))
    put(tmp_path / "in" / "t.csv", "file\na.png\n../out/b.png\n")
    fill(gallery, tmp_path / "in" / "t.csv", allow_outside=True)
    # The gallery remembers what was allowed.
    assert fill(gallery)[0].unchanged == 2
    report, _ = fill(gallery, tmp_path / "in" / "t.csv")
    assert report.gone == 0 and [record.status for record in report.failed] == ["refused"]
    assert len(gallery.paths()) == 2


def test_a_cell_of_parquet_names_no_file_outside_its_folder(
    gallery: Gallery, tmp_path: Path
) -> None:
    put(tmp_path / "secret.png", png(1))
    put(tmp_path / "in" / "a.png", png(2))
    pictures = [{"bytes": None, "path": path} for path in ("a.png", "../secret.png")]
    table = tmp_path / "in" / "p.parquet"
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    parquet.write_table(pa.table({"image": pa.array(pictures, kind)}), table)
    fill(gallery, table)
    assert failures(gallery) == {"in/p.parquet!/image/1": "refused"}
