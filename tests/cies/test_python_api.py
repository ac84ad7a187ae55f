"""The Python interface: galleries, hits and encoders in programs and notebooks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv, parquet

import cies
from ingest.encoders.methods.dior import DiorEncoder


@pytest.fixture(scope="module")
def place(world: Path, tmp_path_factory: pytest.TempPathFactory, builtin: DiorEncoder) -> Path:
    """A gallery of 20 pictures under two conditions, with two user columns."""
    folder = tmp_path_factory.mktemp("face")
    listing = folder / "shop.csv"
    names = sorted((world / "images").iterdir())[:20]
    rows = [f"{name},{index % 3},brand{index % 2}" for index, name in enumerate(names)]
    listing.write_text("\n".join(["file,size_number,brand", *rows]) + "\n")
    cies.ingest(cies.create(folder / "gallery"), [listing], ["color", "shape"])
    return folder / "gallery"


def test_a_gallery_has_a_length_and_a_description(place: Path) -> None:
    g = cies.open(place)
    assert g.conditions == ["color", "shape"]
    assert len(g) == 20
    assert repr(g) == f"<gallery {place}: 20 pictures; conditions: color, shape>"


def test_vectors_have_keys_paths_and_the_matrix(place: Path) -> None:
    g = cies.open(place)
    column = g.vectors("colour")
    assert column.vectors.dtype == np.float32 and column.vectors.shape[0] == len(column) == 20
    assert np.allclose(np.linalg.norm(column.vectors, axis=1), 1, atol=1e-5)
    hits = g.search(column.paths[4], condition="color", k=19)
    scores = dict(zip(column.paths, column.vectors @ column.vectors[4], strict=True))
    assert len(hits) == 19
    for hit in hits:
        assert hit.score == pytest.approx(scores[hit.path], abs=1e-5)


def test_hits_are_a_sequence_and_tables(place: Path) -> None:
    g = cies.open(place)
    hits = g.search(g.vectors("color").keys[0], condition="color", k=5)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert hits[-1] in hits and hits[0] == next(iter(hits)) and len(hits[1:3]) == 2
    table = hits.to_arrow()
    assert table.num_rows == 5
    assert {"rank", "key", "path", "score", "percentile", "word"} <= set(table.column_names)
    for row, hit in zip(table.to_pylist(), hits, strict=True):
        assert row.items() >= {"rank": hit.rank, "score": hit.score, "path": hit.path}.items()


def test_hits_are_a_data_frame(place: Path) -> None:
    pytest.importorskip("pandas")
    g = cies.open(place)
    hits = g.search(g.vectors("color").keys[0], condition="color", k=5)
    frame = hits.to_pandas()
    assert list(frame["key"]) == [hit.key for hit in hits]
    assert frame["score"].dtype == np.float64


def test_to_pandas_without_pandas_is_one_sentence(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = cies.open(place)
    hits = g.search(g.vectors("color").keys[0], condition="color", k=2)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(cies.UsageError, match=r"pip install pandas.*to_arrow"):
        hits.to_pandas()


def test_a_name_that_is_not_utf8_is_escaped_in_a_table() -> None:
    from query.hits import Hit, Hits, Query

    hit = Hit(1, "k", os.fsdecode(b"/caf\xe9.jpg"), 0.5, 50.0, "red", 1.0)
    hits = Hits(Query("q", "color", "", False, "", 0.0), (hit,))
    assert hits.to_arrow().column("path").to_pylist() == ["/caf\\xe9.jpg"]


def test_a_notebook_shows_pictures_inside_and_no_script(place: Path) -> None:
    from query.hits import Hit, Hits, Query

    g = cies.open(place)
    hits = g.search(g.vectors("color").keys[0], condition="color", k=3)
    shown = hits._repr_html_()
    assert shown.count('src="data:image/jpeg;base64,') == 3
    assert "<script" not in shown and "http" not in shown
    evil = '"><script>alert(1)</script>'
    hit = Hit(1, "k", evil, 0.5, 50.0, evil, 1.0)
    broken = Hits(Query(evil, evil, "", False, evil, 0.0), (hit,) * 60)._repr_html_()
    assert "<script" not in broken and "not readable now" in broken and "10 more" in broken


def test_export_has_words_and_columns_of_the_picture_and_of_the_user(
    place: Path, tmp_path: Path
) -> None:
    from query.explore.export import export

    g = cies.open(place)
    column = g.vectors("color")
    row_of = {key: row for row, key in enumerate(column.keys)}
    assert export(g, "color", tmp_path / "c.parquet") == 20
    table = parquet.read_table(tmp_path / "c.parquet")
    assert table.column_names[:5] == ["key", "path", "vector", "word", "word_probability"]
    assert {"width", "height", "format", "taken_at", "brand"} <= set(table.column_names)
    for row in table.to_pylist():
        at = row_of[row["key"]]
        assert row["path"] == column.paths[at] and row["word"] == column.words[at]
        assert np.allclose(row["vector"], column.vectors[at], atol=1e-6)
        assert (row["width"], row["height"]) == Image.open(row["path"]).size
        number = int(Path(row["path"]).stem)
        assert row["brand"] == f"brand{sorted(map(stem, column.paths)).index(number) % 2}"
    assert export(g, "color", tmp_path / "c.csv") == 20
    plain = csv.read_csv(tmp_path / "c.csv")
    assert plain.column("key").to_pylist() == table.column("key").to_pylist()
    assert "vector" not in plain.column_names and "brand" in plain.column_names
    assert export(g, "color", tmp_path / "c.npy") == 20
    matrix = np.load(tmp_path / "c.npy", mmap_mode="r")
    keys = (tmp_path / "c.keys.txt").read_text().split()
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix, np.stack([column.vectors[row_of[key]] for key in keys]))
    assert sorted(p.name for p in tmp_path.glob("c.*")) == [
        "c.csv",
        "c.keys.txt",
        "c.npy",
        "c.parquet",
    ]


def stem(path: str) -> int:
    return int(Path(path).stem)


def test_export_of_copies_and_of_many_batches(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from query.explore.export import export

    folder = tmp_path / "p"
    folder.mkdir()
    for index, name in enumerate(("b.jpg", "a.jpg", "c.jpg")):
        source = world / "images" / f"0000{index // 2 + 1}.jpg"
        (folder / name).write_bytes(source.read_bytes())
    cies.ingest(cies.create(tmp_path / "g"), [folder], ["color"])
    monkeypatch.setattr("indexes.store.gallery._ROWS", 1)
    g = cies.open(tmp_path / "g")
    assert export(g, "color", tmp_path / "e.parquet") == 2
    paths = parquet.read_table(tmp_path / "e.parquet").column("path").to_pylist()
    assert sorted(Path(path).name for path in paths) == ["a.jpg", "c.jpg"]
    assert export(g, "color", tmp_path / "e.npy") == 2
    assert np.load(tmp_path / "e.npy").shape == (2, g.vectors("color").vectors.shape[1])
    (folder / "c.jpg").unlink()
    cies.ingest(cies.create(tmp_path / "g"), [folder], [])
    assert export(cies.open(tmp_path / "g"), "color", tmp_path / "e.parquet") == 1


def test_an_export_that_fails_leaves_the_old_file(place: Path, tmp_path: Path) -> None:
    from query.explore.export import export

    g = cies.open(place)
    (tmp_path / "old.parquet").mkdir()
    with pytest.raises(cies.CiesError, match=r"old.parquet is a folder; name a file in it"):
        export(g, "color", tmp_path / "old.parquet")
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(cies.UsageError, match=r"must end in \.parquet, \.csv or \.npy"):
        export(g, "color", tmp_path / "c.xlsx")


def test_an_encoder_takes_one_or_many_of_anything(world: Path, builtin: DiorEncoder) -> None:
    encoder = cies.Encoder(builtin)
    files = [str(world / "images" / f"0000{n}.jpg") for n in (1, 2, 3)]
    pictures = [Image.open(file).convert("RGB") for file in files]
    wanted = [cies.Condition.parse("color"), cies.Condition.parse("shape")]
    whole = builtin.encode(pictures, wanted)
    mixed = encoder.encode(
        [files[0], pictures[1], np.asarray(pictures[2])], ["color", "shape"], batch_size=2
    )
    assert mixed.dtype == np.float32 and mixed.shape == (3, 2, encoder.dimension)
    assert np.allclose(mixed, whole, atol=1e-5)
    assert np.allclose(encoder.encode(Path(files[0]), "color"), whole[0, 0], atol=1e-5)
    assert np.allclose(encoder.encode(files, wanted[1]), whole[:, 1], atol=1e-5)
    assert encoder.encode(files[:1], ["color"]).shape == (1, 1, encoder.dimension)
    assert encoder.encode([], ["color"]).shape == (0, 1, encoder.dimension)
    assert repr(encoder) == "<encoder tiny-lvlm by dior: vectors of 192>"


def test_an_encoder_refuses_in_one_sentence(
    builtin: DiorEncoder, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = cies.Encoder(builtin)
    picture = world / "images" / "00001.jpg"
    with pytest.raises(cies.UsageError, match=r"Cannot read nowhere\.jpg"):
        encoder.encode("nowhere.jpg", "color")
    with pytest.raises(cies.UsageError, match=r"float64 \[2, 2\] is not a picture"):
        encoder.encode(np.zeros((2, 2)), "color")
    with pytest.raises(cies.UsageError, match="batch_size must be at least 1"):
        encoder.encode(picture, "color", batch_size=0)
    with pytest.raises(cies.UsageError, match="No condition is named"):
        encoder.encode(picture, [])
    with pytest.raises(cies.ModelError, match="not trained on 'genre'"):
        encoder.encode(picture, "genre")
    encoder.encode(picture, "color", show_progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("code", "banned"),
    [
        ("import cies; dir(cies)", {"torch", "transformers", "lancedb", "numpy", "PIL", "typer"}),
        (
            "import cies; g = cies.open(place); k = g.vectors('color').keys[0]; "
            "h = g.search(k, condition='color', k=3); h.to_arrow(); h._repr_html_(); repr(g)",
            {"torch", "transformers", "faiss", "rich", "typer", "textual_image"},
        ),
    ],
)
def test_heavy_libraries_are_imported_when_used(code: str, banned: set[str], place: Path) -> None:
    told = f"place = {str(place)!r}; {code}\nimport sys, json; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert "cies" in loaded and not loaded & banned
    assert done.stderr == ""


def test_the_public_names_are_typed_and_documented() -> None:
    for name in cies.__all__:
        one = getattr(cies, name)
        assert re.match(r"[A-Z]", one.__doc__ or ""), name
    assert (Path(cies.__file__).parent / "py.typed").is_file()
