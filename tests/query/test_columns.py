"""What went in with the pictures comes back with the hits: the user's columns, and pages."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from support.json_docs import printed
from support.stand_in_fill import paint

import cies
from ingest.encoders.methods.dior import DiorEncoder

ROWS = [
    "file,sku,price,added",
    "p/0.png,00005,9.5,2024-05-01",
    "p/1.png,00006,3,2024-05-02",
    "p/2.png,00007,,2024-05-03",
    "p/3.png,00008,12,2024-05-04",
    "p/4.png,00009,1,2024-05-05",
    "./p/1.png,00010,4,2024-05-06",
    "p/1.png,00006,3,2024-05-02",
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, builtin: DiorEncoder) -> Path:
    """Five products, one of them in two rows, and a copy of a picture under another number."""
    folder = tmp_path_factory.mktemp("shop")
    for number in range(5):
        paint(folder / "p" / f"{number}.png", number)
    (folder / "p" / "copy.png").write_bytes((folder / "p" / "3.png").read_bytes())
    (folder / "shop.csv").write_text("\n".join([*ROWS, "p/copy.png,00011,8,2024-05-07", ""]))
    cies.ingest(folder / "gallery", [folder / "shop.csv"], ["color"])
    return folder


@pytest.fixture
def g(shop: Path) -> cies.SearchableGallery:
    return cies.open(shop / "gallery")


def named(hits: cies.Hits) -> dict[str, cies.Hit]:
    return {Path(hit.path).name: hit for hit in hits}


def test_hits_carry_the_columns_and_every_row(g: cies.SearchableGallery, shop: Path) -> None:
    assert g.columns == {"sku": "string", "price": "float", "added": "date"}
    hits = named(g.search(shop / "p/0.png", "color"))
    assert hits["2.png"].columns == {"sku": "00007", "price": None, "added": date(2024, 5, 3)}
    assert hits["2.png"].rows == (hits["2.png"].columns,)
    # Two rows name one file, and two files have one content: each row comes back.
    assert [row["sku"] for row in hits["1.png"].rows] == ["00006", "00010"]
    assert [row["price"] for row in hits["1.png"].rows] == [3.0, 4.0]
    assert [row["sku"] for row in hits["3.png"].rows] == ["00008", "00011"]
    shown = named(g.search(shop / "p/0.png", "color", show=["price", "width", "size"]))["2.png"]
    size = (shop / "p/2.png").stat().st_size
    assert (
        shown.columns == {"price": None, "width": 48, "size": size} or shown.columns["size"] == size
    )
    filtered = g.search(shop / "p/0.png", "color", where="sku = '00010'")
    assert [hit.rows for hit in filtered] == [
        ({"sku": "00010", "price": 4.0, "added": date(2024, 5, 6)},)
    ]


def test_a_picture_is_found_by_a_value(g: cies.SearchableGallery, shop: Path) -> None:
    want = g.search(shop / "p/1.png", "color").hits
    for value in ("sku=00006", "sku=00010", "price=3.0", "price=4"):
        hits = g.search(by=value, condition="color")
        assert hits.hits == want and hits.query.by == value and hits.query.in_gallery
    both = g.search(by=["sku=00005", "sku=00006"], condition="color")
    assert len(both) == 3 and len(both.query.keys) == 2
    for wrong, message in (
        ("sku=5", "No picture of the gallery has '5' in the column 'sku'"),
        ("price=cheap", "'price' has values of type float"),
        ("skuu=5", r"no column 'skuu' for --by \(did you mean 'sku'\?\)"),
        ("sku", "write --by sku=00005"),
    ):
        with pytest.raises(cies.UsageError, match=message):
            g.search(by=wrong, condition="color")


def test_the_order_of_a_column(g: cies.SearchableGallery, shop: Path) -> None:
    def order(sort: str) -> list[str]:
        return [Path(hit.path).name for hit in g.search(shop / "p/0.png", "color", sort=sort)]

    assert order("price") == ["4.png", "1.png", "3.png", "2.png"]
    assert order("-price") == ["3.png", "1.png", "4.png", "2.png"]
    assert order("-added") == ["4.png", "3.png", "2.png", "1.png"]
    with pytest.raises(cies.UsageError, match=r"no column 'prize' for --sort \(did you mean 'pri"):
        order("prize")
    with pytest.raises(
        cies.UsageError, match="no column 'x' for --show; the columns are added, price"
    ):
        g.search(shop / "p/0.png", "color", show="x")


@pytest.mark.parametrize("more", [{}, {"where": "price IS NOT NULL"}, {"group_duplicates": True}])
def test_pages_repeat_and_miss_nothing(
    g: cies.SearchableGallery, shop: Path, more: dict[str, object]
) -> None:
    query = shop / "p/0.png"
    whole = g.search(query, "color", k=10, **more)  # type: ignore[arg-type]
    pages: list[cies.Hit] = []
    for offset in range(0, 6, 2):
        page = g.search(query, "color", k=2, offset=offset, **more)  # type: ignore[arg-type]
        assert [hit.rank for hit in page] == list(range(offset + 1, offset + 1 + len(page)))
        pages.extend(page)
    assert pages == list(whole)
    with pytest.raises(cies.UsageError, match="--offset must be at least 0"):
        g.search(query, "color", offset=-1)


def test_pages_are_the_same_whatever_the_index(tmp_path: Path) -> None:
    from support.growing import add, key

    from indexes.store.gallery import Gallery

    gallery = Gallery.create(tmp_path / "many")
    add(gallery, range(3000))
    g = cies.open(gallery.path, index="pq")
    pages = [h.key for at in range(0, 60, 10) for h in g.search(key(1), "color", offset=at)]
    exact = cies.open(gallery.path, index="exact").search(key(1), "color", 60)
    assert pages == [hit.key for hit in exact]


def test_tables_have_the_columns(g: cies.SearchableGallery, shop: Path, tmp_path: Path) -> None:
    hits = g.search(shop / "p/0.png", "color")
    table = hits.to_arrow()
    assert table.column("sku").to_pylist() == [hit.columns["sku"] for hit in hits]
    assert str(table.schema.field("added").type) == "date32[day]"
    assert [[row["sku"] for row in rows] for rows in table.column("rows").to_pylist()] == [
        [row["sku"] for row in hit.rows] for hit in hits
    ]
    pandas = pytest.importorskip("pandas")
    assert isinstance(hits.to_pandas(), pandas.DataFrame)
    # An export has each row, with the vector of its picture.
    from pyarrow import parquet

    assert g.export("color", tmp_path / "color.parquet") == 7
    rows = parquet.read_table(tmp_path / "color.parquet").to_pylist()
    assert sorted(row["sku"] for row in rows) == [f"{n:05d}" for n in range(5, 12)]
    vectors = {row["sku"]: row["vector"] for row in rows}
    assert vectors["00006"] == vectors["00010"] != vectors["00005"]


def test_the_command(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    search = ["search", "p/0.png", "-g", "gallery", "-c", "color"]

    def told(*words: str) -> str:
        return printed(capsys, *search, *words)

    document = json.loads(told("--json", "--show", "sku,added", "--sort", "-sku"))
    assert [hit["columns"]["sku"] for hit in document["hits"]] == [
        "00009",
        "00008",
        "00007",
        "00006",
    ]
    assert document["hits"][-1]["rows"][1] == {"sku": "00010", "added": "2024-05-06"}
    table = told("--show", "sku,price")
    assert "sku" in table and "00006, 00010" in table and "3.0, 4.0" in table
    assert "sku" not in told()
    first = [json.loads(line) for line in told("--jsonl", "--offset", "0", "-k", "2").splitlines()]
    then = [json.loads(line) for line in told("--jsonl", "--offset", "2", "-k", "2").splitlines()]
    assert [hit["rank"] for hit in [*first, *then]] == [1, 2, 3, 4]
    words = ["search", "--by", "sku=00005", "-g", "gallery", "-c", "color", "--json"]
    by = json.loads(printed(capsys, *words))
    assert [h["key"] for h in by["hits"]] == [h["key"] for h in [*first, *then]]
    page = shop / "sheet.html"
    told("--html", str(page), "--show", "sku")
    assert "00006, 00010" in page.read_text()


def test_a_row_that_is_taken_out_of_the_table_is_gone(
    shop: Path, tmp_path: Path, builtin: DiorEncoder
) -> None:
    paint(tmp_path / "a.png", 3)
    table, gallery = tmp_path / "t.csv", tmp_path / "gallery"
    for text, want in (
        ("a.png,x\na.png,y\na.png,z\n", ["x", "y", "z"]),
        ("a.png,x\na.png,z\n", ["x", "z"]),
        ("a.png,z\n", ["z"]),
        ("a.png,w\na.png,z\n", ["w", "z"]),
    ):
        table.write_text("file,sku\n" + text)
        cies.ingest(gallery, [table], ["color"])
        assert cies.open(gallery).attributes().column("sku").to_pylist() == want


def test_a_path_that_is_not_there_is_said(tmp_path: Path, builtin: DiorEncoder) -> None:
    for number in range(4):
        paint(tmp_path / "p" / f"{number}.png", number)
    (tmp_path / "p" / "copy.png").write_bytes((tmp_path / "p" / "1.png").read_bytes())
    cies.ingest(tmp_path / "gallery", [tmp_path / "p"], ["color"])
    g = cies.open(tmp_path / "gallery")
    assert not g.search(tmp_path / "p/0.png", "color").notes
    (tmp_path / "p" / "1.png").unlink()
    hits = g.search(tmp_path / "p/0.png", "color")
    assert "copy.png" in named(hits) and not hits.notes
    (tmp_path / "p" / "copy.png").unlink()
    assert any("1 of these files is not there" in n for n in g.search(key_of(hits), "color").notes)


def key_of(hits: cies.Hits) -> str:
    """The key of the picture that is still there and was the query."""
    return hits.query.key
