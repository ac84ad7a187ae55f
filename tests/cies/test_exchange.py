"""Vectors of other programs: imported in every form, exported to be read by these programs."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from support.json_docs import documented, wrong
from typer.testing import CliRunner

import cies
from cies.cli.app import app
from indexes.errors import UsageError
from indexes.vectors import unit
from ingest.read.images import read_bytes

COLORS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
COUNT, DIMENSION = 24, 16


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three colors, their vectors as `v.npy`, and tables that name them."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "pics").mkdir()
    random = np.random.default_rng(0)
    vectors = random.normal(size=(COUNT, DIMENSION)).astype(np.float32) * 0.3
    rows = []
    for number in range(COUNT):
        word = list(COLORS)[number % 3]
        pixels = np.full((20, 30, 3), COLORS[word], np.uint8)
        pixels[:5] = random.integers(0, 255, (5, 30, 3))
        Image.fromarray(pixels).save(folder / "pics" / f"{number:02}.png")
        vectors[number, number % 3] += 3
        rows.append((f"pics/{number:02}.png", word, number + 0.5))
    np.save(folder / "v.npy", vectors)
    (folder / "v.txt").write_text("".join(f"{path}\n" for path, _, _ in rows))
    lines = [f"{path},{word},{price}\n" for path, word, price in rows]
    (folder / "v.csv").write_text("file,word,price\n" + "".join(lines))
    return folder


def vectors_of(shop: Path) -> np.ndarray:
    return np.asarray(np.load(shop / "v.npy"))


def rows_of(shop: Path) -> dict[str, list[Any]]:
    paths = (shop / "v.txt").read_text().split()
    return {"path": paths, "price": [n + 0.5 for n in range(COUNT)]}


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def as_npy(shop: Path, folder: Path) -> dict[str, Any]:
    return {"source": shop / "v.npy", "paths": shop / "v.txt"}


def as_npy_with_table(shop: Path, folder: Path) -> dict[str, Any]:
    return {"source": shop / "v.npy", "paths": shop / "v.csv"}


def as_parquet(shop: Path, folder: Path) -> dict[str, Any]:
    columns = {**rows_of(shop), "embedding": list(vectors_of(shop).astype(np.float16))}
    parquet.write_table(pa.table(columns), folder / "v.parquet", row_group_size=7)
    return {"source": folder / "v.parquet", "root": shop}


def as_cells(shop: Path, folder: Path) -> dict[str, Any]:
    """Pictures inside the table, as Hugging Face datasets have them, and lists of any length."""
    cells = [{"bytes": (shop / path).read_bytes(), "path": path} for path in rows_of(shop)["path"]]
    vectors = pa.array(vectors_of(shop).astype(np.float64).tolist(), pa.list_(pa.float64()))
    parquet.write_table(pa.table({"image": cells, "emb": vectors}), folder / "d.parquet")
    return {"source": folder / "d.parquet"}


def as_clip_retrieval(shop: Path, folder: Path) -> dict[str, Any]:
    """Two parts, the tenth after the second."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir()
    paths = [str(shop / path) for path in rows_of(shop)["path"]]
    for part, rows in (("2", slice(0, 10)), ("10", slice(10, None))):
        np.save(folder / "img_emb" / f"img_emb_{part}.npy", vectors_of(shop)[rows])
        table = pa.table({"image_path": paths[rows], "caption": ["a"] * len(paths[rows])})
        parquet.write_table(table, folder / "metadata" / f"metadata_{part}.parquet")
    return {"source": folder}


def as_lance(shop: Path, folder: Path) -> dict[str, Any]:
    vectors = vectors_of(shop)
    parts = [
        pa.table({name: values[rows] for name, values in rows_of(shop).items()}).append_column(
            "vector", pa.array(list(vectors[rows]))
        )
        for rows in (slice(0, 9), slice(9, None))
    ]
    database = lancedb.connect(str(folder / "db"))
    table = database.create_table("items", parts[0])
    table.add(parts[1])
    database.create_table("others", pa.table({"n": [1]}))
    return {"source": folder / "db", "table": "items", "root": shop}


def as_lance_folder(shop: Path, folder: Path) -> dict[str, Any]:
    given = as_lance(shop, folder)
    return {"source": folder / "db" / "items.lance", "root": given["root"]}


@pytest.mark.parametrize(
    "form",
    [
        as_npy,
        as_npy_with_table,
        as_parquet,
        as_cells,
        as_clip_retrieval,
        as_lance,
        as_lance_folder,
    ],
    ids=lambda form: form.__name__,
)
def test_imported_vectors_are_searched_as_they_are(form: Any, shop: Path, tmp_path: Path) -> None:
    report = cies.import_vectors(tmp_path / "g", condition="color", **form(shop, tmp_path))
    assert (report.stored, report.failed, report.dimension) == (COUNT, [], DIMENSION)
    g = cies.open(tmp_path / "g")
    key_of = {read_bytes(shop / path).key: n for n, path in enumerate(rows_of(shop)["path"])}
    expected = unit(vectors_of(shop))
    column = g.vectors("color")
    assert np.allclose(column.vectors, expected[[key_of[key] for key in column.keys]], atol=2e-3)
    query = next(key for key, number in key_of.items() if number == 4)
    hits = g.search(query, "color", k=5)
    cosines = expected @ expected[4]
    cosines[4] = -1
    best = np.argsort(-cosines)[:5]
    assert [key_of[hit.key] for hit in hits] == best.tolist()
    assert np.allclose([hit.score for hit in hits], cosines[best], atol=2e-3)


def test_words_and_columns_come_along(shop: Path, tmp_path: Path) -> None:
    cies.import_vectors(tmp_path / "g", shop / "v.npy", "color", "clip", paths=shop / "v.csv")
    g = cies.open(tmp_path / "g")
    assert g.columns == {"price": "float"}
    assert {facet.word: len(facet) for facet in g.facets("color")} == dict.fromkeys(COLORS, 8)
    hits = g.search(shop / "pics" / "00.png", "color", where="price < 9", k=20)
    assert len(hits) == 8 and all(hit.columns["price"] < 9 for hit in hits)
    assert hits[0].word == "red"


def test_a_new_picture_needs_a_model_and_is_told_so(shop: Path, tmp_path: Path) -> None:
    cies.import_vectors(tmp_path / "g", shop / "v.npy", "color", "clip", paths=shop / "v.txt")
    g = cies.open(tmp_path / "g")
    Image.new("RGB", (9, 9)).save(tmp_path / "new.png")
    with pytest.raises(UsageError, match=r"vectors of clip were imported.*picture of the gallery"):
        g.search(tmp_path / "new.png", "color")
    with pytest.raises(UsageError, match="vectors of clip were imported"):
        g.search_text("red", "color")
    with pytest.raises(UsageError, match="no model of its own; import vectors"):
        cies.ingest(g, [shop / "pics"], ["color"], method="imported")


class Mean:
    """An encoder of the user's own: the mean color."""

    dimension = 3

    def encode(self, images: Any, conditions: Any) -> np.ndarray:
        rows = [np.asarray(image, np.float32).mean(axis=(0, 1)) + 1 for image in images]
        return np.repeat(np.array(rows)[:, None], len(conditions), axis=1)


def test_an_import_goes_on_and_replaces_and_ingest_leaves_it_alone(
    shop: Path, tmp_path: Path
) -> None:
    place = tmp_path / "g"
    given = {"condition": "color", "name": "clip", "paths": tmp_path / "some.txt"}
    lines = [f"{shop / line}\n" for line in rows_of(shop)["path"]]
    (tmp_path / "some.txt").write_text("".join([*lines[:4], "gone.png\n", lines[0]]))
    np.save(tmp_path / "some.npy", vectors_of(shop)[:6])
    report = cies.import_vectors(place, tmp_path / "some.npy", **given)
    assert (report.stored, report.repeated, len(report.failed)) == (4, 1, 1)
    changed = vectors_of(shop)[::-1].copy()
    np.save(tmp_path / "some.npy", changed)
    (tmp_path / "some.txt").write_text("".join(lines))
    assert cies.import_vectors(place, tmp_path / "some.npy", **given).stored == COUNT
    g = cies.open(place)
    assert len(g) == COUNT and g.conditions == ["color"]
    assert np.allclose(
        g.stored("color").vectors[
            g.stored("color").keys.index(read_bytes(shop / "pics/00.png").key)
        ],
        unit(changed)[0],
        atol=1e-3,
    )
    Image.new("RGB", (30, 30), (9, 9, 99)).save(tmp_path / "extra.png")
    report = cies.ingest(g, [shop / "pics", tmp_path / "extra.png"], ["shape"], model=Mean())
    assert report.embedded == COUNT + 1 and report.conditions == ["shape"]
    assert (
        len(g.vectors("color")) == COUNT
        and len(cies.open(place, model=Mean()).vectors("shape")) == COUNT + 1
    )
    assert not [finding for finding in g.verify() if finding.damage]


def hostile(folder: Path) -> dict[str, bytes]:
    """Files that are no matrix of usable vectors, by name."""
    good = np.ones((2, 3), np.float32)

    def npy(array: np.ndarray) -> bytes:
        np.save(folder / "x.npy", array, allow_pickle=True)
        return (folder / "x.npy").read_bytes()

    whole = npy(good)
    nan, zero = good.copy(), good.copy()
    nan[1, 2], zero[1] = np.nan, 0
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 999999), }"
    huge = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"
    return {
        "Python objects": npy(np.array([[{}], [1]], dtype=object)),
        "cannot be read as a matrix": pickle.dumps(good),
        "cannot be read as a matrix ": whole[: len(whole) - 4],
        "cannot be read as a matrix  ": huge,
        "cannot be read as a matrix   ": b"",
        "holds 2 numbers of type float32": npy(good[0, :2]),
        "of type int64": npy(np.ones((2, 3), np.int64)),
        "of type <U1": npy(np.array([["a"], ["b"]])),
        "holds no vectors": npy(good[:0]),
        "vectors of 0 numbers": npy(good[:, :0]),
        "1 of the 2 vectors of .* are zero or not finite, the first in row 1": npy(nan),
        "1 of the 2 vectors .*, the first in row 1": npy(zero),
        "1 of the 2 vectors .*, the first in row 0": npy(np.array([[1e300, 1], [1, 1]])),
        "has 3 vectors and 2 pictures": npy(np.ones((3, 3), np.float32)),
    }


def test_what_is_no_matrix_is_one_sentence_and_makes_no_gallery(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a.png\nb.png\n")
    for message, data in hostile(tmp_path).items():
        (tmp_path / "v.npy").write_bytes(data)
        with pytest.raises(UsageError, match=message.strip()) as caught:
            cies.import_vectors(tmp_path / "g", tmp_path / "v.npy", paths=tmp_path / "p.txt")
        assert str(caught.value).count(". ") == 0 and len(str(caught.value)) < 400
        assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"path": ["a", "b"], "v": [[1.0, 2.0], [1.0]]},
            "vector of 1 numbers in column 'v' of row 1",
        ),
        ({"path": ["a", "b"], "v": [[1.0, 2.0], None]}, "no vector in column 'v' of row 1"),
        ({"path": ["a"], "v": [[1.0, None]]}, "zero or not finite"),
        ({"path": ["a"], "v": [["x"]]}, "none does; name it with --vector-column"),
        ({"path": ["a"], "v": [[1.0]], "w": [[1.0]]}, "2 could; name it with --vector-column"),
        ({"n": [1], "vector": [[1.0]]}, "name it with --image-column"),
    ],
)
def test_tables_without_usable_vectors_are_one_sentence(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "v.parquet")
    with pytest.raises(UsageError, match=message):
        cies.import_vectors(tmp_path / "g", tmp_path / "v.parquet")
    data = (tmp_path / "v.parquet").read_bytes()
    (tmp_path / "v.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match="cannot be read"):
        cies.import_vectors(tmp_path / "g", tmp_path / "v.parquet")
    assert not (tmp_path / "g").exists()


def test_the_document_is_as_the_page_says(shop: Path, tmp_path: Path) -> None:
    lines = (shop / "v.txt").read_text().replace("pics/03.png", "pics/gone.png")
    (shop / "w.txt").write_text(lines)
    given = ["--paths", shop / "w.txt", "--name", "clip", "-g", tmp_path / "g", "--json"]
    document = json.loads(run("import", shop / "v.npy", *given))
    assert wrong(document, documented("cies import --json")) == []
    assert (document["stored"], len(document["failed"])) == (COUNT - 1, 1)


def test_another_length_of_the_same_name_is_refused(shop: Path, tmp_path: Path) -> None:
    given = {"condition": "color", "name": "clip", "paths": shop / "v.txt"}
    cies.import_vectors(tmp_path / "g", shop / "v.npy", **given)
    np.save(tmp_path / "w.npy", vectors_of(shop)[:, :5])
    with pytest.raises(UsageError, match="with 16 numbers under 'color', and these have 5"):
        cies.import_vectors(tmp_path / "g", tmp_path / "w.npy", **given)
    given["name"] = "short"
    cies.import_vectors(tmp_path / "g", tmp_path / "w.npy", **given)
    g = cies.open(tmp_path / "g", method="imported:short")
    assert g.vectors("color").vectors.shape == (COUNT, 5)


@pytest.fixture(scope="module")
def gallery(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("imported") / "g"
    cies.import_vectors(place, shop / "v.npy", "color", "clip", paths=shop / "v.csv")
    return place


def test_what_clip_retrieval_reads_comes_back_the_same(gallery: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run("export", "-g", gallery, "-c", "color", "--clip-retrieval", "-o", folder)
    matrix = np.load(folder / "img_emb" / "img_emb_0.npy")
    table = parquet.read_table(folder / "metadata" / "metadata_0.parquet")
    column = cies.open(gallery).vectors("color")
    at = [column.paths.index(path) for path in table.column("image_path").to_pylist()]
    assert np.array_equal(matrix, column.vectors[at])
    assert table.column("caption").to_pylist() == [column.words[n] for n in at]
    cies.import_vectors(tmp_path / "again", folder, "color", word_column="caption")
    again = cies.open(tmp_path / "again").vectors("color")
    assert again.keys == column.keys and again.words == column.words
    assert np.array_equal(again.vectors, column.vectors)
    refused = CliRunner().invoke(
        app, ["export", "-g", str(gallery), "-c", "color", "--clip-retrieval", "-o", str(folder)]
    )
    assert isinstance(refused.exception, UsageError)


def test_the_atlas_has_places_and_neighbours_by_row(gallery: Path, tmp_path: Path) -> None:
    run(
        "export",
        "-g",
        gallery,
        "-c",
        "color",
        "--atlas",
        "--thumbnails",
        "-o",
        tmp_path / "a.parquet",
    )
    table = parquet.read_table(tmp_path / "a.parquet")
    vectors = np.array(table.column("vector").to_pylist())
    centred = vectors - vectors.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    places = np.array([table.column("x").to_pylist(), table.column("y").to_pylist()]).T
    for found, expected in zip(places.T, axes @ centred.T, strict=True):  # moved and scaled
        assert abs(np.corrcoef(found, expected)[0, 1]) > 0.9999
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    for row, found in enumerate(table.column("neighbors").to_pylist()):
        assert len(found["ids"]) == 15 and row not in found["ids"]
        assert np.allclose(1 - np.sort(cosines[row])[::-1][:15], found["distances"], atol=1e-5)
        assert np.allclose(1 - cosines[row, found["ids"]], found["distances"], atol=1e-5)
    assert all(cell["bytes"].startswith(b"\xff\xd8") for cell in table.column("image").to_pylist())
    run("export", "-g", gallery, "-c", "color", "--atlas", "-o", tmp_path / "a.parquet")  # its own


def test_datasets_sees_a_column_of_pictures(gallery: Path, tmp_path: Path) -> None:
    run("export", "-g", gallery, "-c", "color", "--datasets", "-o", tmp_path / "d.parquet")
    schema = parquet.read_schema(tmp_path / "d.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}}
    datasets = pytest.importorskip("datasets")
    made = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "d.parquet"), cache_dir=str(tmp_path), split="train"
    )
    assert made[0]["image"].size == (30, 20) and len(made[0]["vector"]) == DIMENSION


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--atlas", "--datasets", "-o", "a.parquet"], "give only one of --atlas and --datasets"),
        (["--atlas", "-o", "a.csv"], "--atlas writes a Parquet file"),
        (["--thumbnails", "-o", "a.parquet"], "--thumbnails belongs to"),
        (["--datasets", "-o", "none/a.parquet"], "its folder does not exist"),
    ],
)
def test_forms_that_cannot_be_written_are_one_sentence(
    arguments: list[str], message: str, gallery: Path
) -> None:
    done = CliRunner().invoke(app, ["export", "-g", str(gallery), "-c", "color", *arguments])
    assert isinstance(done.exception, UsageError) and message in str(done.exception)


def test_duckdb_and_polars_read_exports_and_the_gallery(gallery: Path, tmp_path: Path) -> None:
    """The recipes of docs/exchange.md."""
    duckdb = pytest.importorskip("duckdb")
    polars = pytest.importorskip("polars")
    run("export", "-g", gallery, "-c", "color", "-o", tmp_path / "color.parquet")
    g = cies.open(gallery)
    column = g.vectors("color")
    found = duckdb.sql(
        "select word, count(*) n, avg(price) price from "
        f"'{tmp_path}/color.parquet' group by word order by word"
    ).fetchall()
    assert found == [("blue", 8, 13.0), ("green", 8, 12.0), ("red", 8, 11.0)]
    nearest = duckdb.sql(
        f"select path from '{tmp_path}/color.parquet' order by list_dot_product(vector::float[], "
        f"(select vector::float[] from '{tmp_path}/color.parquet' where key = '{column.keys[3]}'))"
        " desc limit 4"
    ).fetchall()
    hits = g.search(column.keys[3], "color", k=3)
    assert [path for (path,) in nearest][1:] == [hit.path for hit in hits]
    attributes = g.attributes()
    assert duckdb.sql("select count(*) from attributes where price < 9").fetchall() == [(9,)]
    frame = polars.from_arrow(attributes)
    assert frame.filter(polars.col("price") < 9).height == 9
    assert polars.from_arrow(hits.to_arrow())["path"].to_list() == [hit.path for hit in hits]
