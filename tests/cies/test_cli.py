"""The command line as a user types it, correctly and wrongly."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from support.commands import run
from support.shell import Shell

import cies
from eval.world.factors import FACTORS


@pytest.fixture(scope="module")
def gallery(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of the rendered world, ingested by the command line."""
    place = tmp_path_factory.mktemp("cli") / "gallery"
    done = run("ingest", world / "images", "-g", place, "-c", "color", "-c", "shape")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "tiny-lvlm, the built-in LVLM" in done.stderr
    assert "60 pictures embedded" in done.stderr
    return place


def test_search_json(gallery: Path, world: Path) -> None:
    image = world / "images" / "00001.jpg"
    done = run("search", image, "-g", gallery, "-c", "color", "-k", 5, "--json")
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["query"]["in_gallery"] is True
    hits = document["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5]
    assert {"rank", "key", "path", "score", "percentile", "word"} <= set(hits[0])
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True) and -1 <= scores[-1] <= scores[0] <= 1
    assert all(Path(hit["path"]).is_file() for hit in hits)
    assert str(image) not in [hit["path"] for hit in hits]


def test_hits_and_scores_equal_plain_arithmetic(gallery: Path, world: Path) -> None:
    engine = cies.open(gallery)
    column = engine.vectors("color")
    hits = engine.search(world / "images" / "00002.jpg", "color", k=59)
    own = column.keys.index(hits.query.key)
    cosines = column.vectors @ column.vectors[own]
    order = [i for i in np.argsort(-cosines, kind="stable") if i != own]
    assert [hit.key for hit in hits] == [column.keys[i] for i in order]
    pairs = (column.vectors @ column.vectors.T)[np.triu_indices(60, 1)]
    for hit in hits:
        assert hit.percentile == pytest.approx(100 * (pairs < hit.score).mean(), abs=0.1)


def test_a_new_picture_gets_the_vector_it_would_have_in_the_gallery(
    gallery: Path, world: Path, tmp_path: Path
) -> None:
    # Other bytes, same pixels: a new picture, so the model embeds it.
    source = world / "images" / "00003.jpg"
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(source.read_bytes() + b"\0")
    done = run("search", copy, "-g", gallery, "-c", "colour", "-k", 1, "--json")
    document = json.loads(done.stdout)
    assert document["query"]["in_gallery"] is False
    assert document["hits"][0]["path"] == str(source)
    assert document["hits"][0]["score"] > 0.9999


def test_forms_of_output(gallery: Path, world: Path) -> None:
    image = world / "images" / "00001.jpg"
    common = ("search", image, "-g", gallery, "-c", "shape", "-k", 3)
    paths = run(*common, "-q").stdout.splitlines()
    lines = [json.loads(line) for line in run(*common, "--jsonl").stdout.splitlines()]
    table = [line.split("\t") for line in run(*common).stdout.splitlines()]
    assert paths == [line["path"] for line in lines] == [row[-1] for row in table[1:]]
    assert table[0] == ["rank", "score", "percentile", "word", "path"]
    both = run(*common, "-q", "--json")
    assert both.returncode == 2 and "exclude one another" in both.stderr


def test_gallery_picture_by_stored_path_and_key_needs_no_file(gallery: Path, world: Path) -> None:
    engine = cies.open(gallery)
    by_file = engine.search(world / "images" / "00005.jpg", "color", k=3)
    by_key = engine.search(by_file.query.key, "color", k=3)
    assert by_file.hits == by_key.hits


class Page(HTMLParser):
    """The tags, pictures and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.addresses.append(value or "")
                if tag == "img":
                    self.pictures.append(value or "")


def test_html_is_self_contained(gallery: Path, world: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.html"
    image = world / "images" / "00001.jpg"
    done = run("search", image, "-g", gallery, "-c", "color", "-k", 4, "--html", sheet)
    assert done.returncode == 0
    page = Page()
    page.feed(sheet.read_text(encoding="utf-8"))
    assert len(page.pictures) == 5  # the query and four hits
    for address in page.pictures:
        head, data = address.split(",", 1)
        assert head == "data:image/jpeg;base64"
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) <= 176
    # Whatever the page names is inside it, or a file of this machine that a reader may open.
    links = [address for address in page.addresses if not address.startswith("data:")]
    assert links and all((sheet.parent / unquote(address)).is_file() for address in links)
    assert "script" not in page.tags


def test_names_cannot_break_the_page() -> None:
    from cies.html.contact_sheet import SheetRow, render_page
    from query.hits import Hit, Hits, Query

    evil = '"><script>alert(1)</script>'
    hit = Hit(1, "k", evil, 0.5, 50.0, evil, 1.0)
    query = Query(evil, evil, "", False, evil, 1.0)
    page = Page()
    page.feed(render_page(evil, evil, evil, [SheetRow(evil, evil, Hits(query, (hit,)))]))
    assert "script" not in page.tags


def test_status_and_conditions(gallery: Path) -> None:
    status = json.loads(run("status", "-g", gallery, "--json").stdout)
    assert (status["pictures"], status["failed"]) == (60, [])
    assert [c["name"] for c in status["conditions"]] == ["color", "shape"]
    assert {c["missing"] for c in status["conditions"]} == {0}
    listed = json.loads(run("conditions", "-g", gallery, "--json").stdout)
    assert listed["conditions"] == status["conditions"]
    assert "color" in run("status", "-g", gallery).stdout


def test_export(gallery: Path, tmp_path: Path) -> None:
    target = tmp_path / "color.parquet"
    assert run("export", "-g", gallery, "-c", "color", "-o", target).returncode == 0
    table = parquet.read_table(target)
    assert table.column_names[:5] == ["key", "path", "vector", "word", "word_probability"]
    column = cies.open(gallery).vectors("color")
    table = table.sort_by("key")
    vectors = np.array(table.column("vector").to_pylist(), dtype=np.float32)
    assert np.array_equal(vectors, column.vectors)
    assert table.column("word").to_pylist() == column.words
    wrong = run("export", "-g", gallery, "-c", "color", "-o", tmp_path / "color.txt")
    assert wrong.returncode == 2 and ".parquet" in wrong.stderr


def test_eval(gallery: Path, world: Path) -> None:
    labels = world / "labels.csv"
    document = json.loads(run("eval", gallery, "--labels", labels, "--json").stdout)
    cells = {(c["condition"], c["label"]): c for c in document["cells"]}
    assert len(cells) == 2 * len(FACTORS)
    assert [pair for pair, cell in cells.items() if cell["own"]] == [
        ("color", "color"),
        ("shape", "shape"),
    ]
    for cell in cells.values():
        assert set(cell["metrics"]) == {
            "P@1",
            "precision@10",
            "recall@10",
            "MAP@R",
            "balanced MAP@R",
        }
    shown = run("eval", gallery, "--labels", labels)
    assert shown.returncode == 0
    assert _rows_in_full(shown.stdout) == [["color", "color"], ["shape", "shape"]]
    everything = run("eval", gallery, "--labels", labels, "--pairs").stdout
    assert _rows_in_full(everything) == [list(pair) for pair in cells]


def test_eval_prints_every_pair_if_no_label_has_a_conditions_name(
    gallery: Path, world: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    with (world / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    lines = ["file,tint", *(f"{row['file']},{row['color']}" for row in rows)]
    labels.write_text("\n".join(lines), encoding="utf-8")
    shown = run("eval", gallery, "--labels", labels).stdout
    assert _rows_in_full(shown) == [["color", "tint"], ["shape", "tint"]]


def _rows_in_full(shown: str) -> list[list[str]]:
    """Condition and label of each row of the table with all figures."""
    rows = [line.split("\t") for line in shown.splitlines()]
    start = next(number for number, row in enumerate(rows) if "chance MAP@R" in row)
    return [row[:2] for row in rows[start + 1 :]]


def test_models_lists_the_built_in_ones() -> None:
    document = json.loads(run("models", "--json").stdout)
    assert document["builtin"][0]["name"] == "tiny-lvlm"
    assert "colour" in document["builtin"][0]["conditions"]["color"]
    assert [m["name"] for m in document["hub"] if m["recommended"]] or not document["machine"]
    assert document["families"]["qwen2_5_vl"]["mode"] == "packed"
    assert document["families"]["paligemma"]["mode"] == "plain"
    assert "paligemma\tplain" in run("models").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("search {image} -g nowhere -c color", 4, "There is no gallery at .*cies ingest"),
        ("search {image} -g {gallery} -c genre", 2, r"no condition 'genre' \(it has: color, shape"),
        ("search no.jpg -g {gallery} -c color", 2, "Cannot read the query no.jpg: there is no"),
        ("search {text} -g {gallery} -c color", 2, "Cannot read the query .*: not a picture"),
        ("search {image} -g {gallery} -c color -k 0", 2, "-k must be at least 1"),
        ("search -g {gallery} -c color", 2, "Give either a picture or --text"),
        ("search {image} --text red -g {gallery} -c color", 2, "Give either a picture or --text"),
        ("search {image} -g {gallery} -c color --index magic", 2, "no index 'magic'"),
        ("ingest nowhere -g new -c color", 2, "no file or folder nowhere"),
        ("ingest {images} -g new -c {genre}", 5, "not trained on 'movie genre'.*--model.*--force"),
        ("ingest {images} -g new -c color --method magic", 2, "no method 'magic'"),
        (
            "ingest {images} -g new -c color --dtype int4",
            2,
            "no --dtype 'int4'; choose one of auto",
        ),
        ("bench embed --dtype int4", 2, "no --dtype 'int4'"),
        ("bench embed --conditions 1,99", 2, "numbers from 1 to 16"),
        ("export -g {gallery} -c color -o nowhere/x.parquet", 2, "its folder does not exist"),
        ("export -g {gallery} -c color -c shape -o x.parquet", 2, "takes one condition"),
        ("search {image} -g {gallery} -c color --copy-to {images}/00001.jpg", 1, "--copy-to"),
        ("ingest {images} -g new -c color --model ./none", 5, "no such folder"),
        ("ingest {images} -g {gallery} --model other/model", 5, "other/model"),
        (
            "ingest {images} -g {gallery} --model tiny-lvlm --prompt shortly",
            4,
            "built with prompt describe, not shortly",
        ),
        ("ingest {images} -g {world} -c color", 4, "holds other files"),
        ("eval {gallery} --labels no.csv", 2, "no such file"),
        ("search", 2, "Give either a picture or --text"),
        ("search {image} -g {gallery}", 2, "or a change by --modify"),
        ("facets -g {gallery} -c genre", 2, r"no condition 'genre' \(it has: color, shape"),
        ("gallery -g {gallery} --html {world}", 2, "holds other files; name a new folder"),
        ("outliers -g {gallery} -c color -k 0", 2, "-k must be at least 1"),
        ("dupes -g {gallery} --threshold 98", 2, "a cosine above 0 and at most 1, not 98"),
        ("nonsense", 2, "No such command"),
    ],
)
def test_every_error_is_one_sentence_with_a_way_out(
    arguments: str,
    code: int,
    message: str,
    gallery: Path,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    places = {
        "image": str(world / "images" / "00001.jpg"),
        "images": str(world / "images"),
        "text": str(tmp_path / "text.jpg"),
        "gallery": str(gallery),
        "world": str(world),
        "genre": "movie genre",
    }
    handler = signal.getsignal(signal.SIGINT)
    try:
        words = [part.format(**places) for part in arguments.split()]
        found, out, err = Shell(monkeypatch, capsys)(*words)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert found == code, err
    assert re.search(message, err)
    assert "Traceback" not in err
    assert out == ""


def test_a_refused_condition_leaves_no_half_made_table(world: Path, tmp_path: Path) -> None:
    place = tmp_path / "g"
    refused = run("ingest", world / "images", "-g", place, "-c", "movie genre")
    assert refused.returncode == 5
    assert json.loads(run("conditions", "-g", place, "--json").stdout)["conditions"] == []
    done = run("ingest", world / "images" / "00001.jpg", "-g", place, "--model", "tiny-lvlm")
    assert "background, size, count, style" in done.stderr  # by default all conditions of the model


def test_strict_and_failed(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.jpg").write_bytes((world / "images" / "00001.jpg").read_bytes())
    (folder / "bad.jpg").write_text("no picture")
    common = ("ingest", folder, "-g", tmp_path / "g", "-c", "color")
    done = run(*common)
    assert done.returncode == 0
    assert "bad.jpg': not a picture in a format we read" in done.stderr
    assert run(*common, "--strict").returncode == 3
    assert "bad.jpg\tnot_an_image" in run("status", "-g", tmp_path / "g", "--failed").stdout


def test_gallery_is_found_in_the_folder_above(world: Path, tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    picture = inner / "one.jpg"
    picture.write_bytes((world / "images" / "00001.jpg").read_bytes())
    run("ingest", inner, "-g", tmp_path / ".cies", "-c", "color")
    status = json.loads(run("status", "--json", cwd=inner).stdout)
    assert status["gallery"] == str(tmp_path / ".cies")
    other = {**os.environ, "CIES_GALLERY": str(tmp_path / "none")}
    assert run("status", "--json", cwd=inner, env=other).returncode == 4
    # Gallery and pictures move together, and nothing is embedded again.
    moved = tmp_path.parent / (tmp_path.name + "-moved")
    tmp_path.rename(moved)
    try:
        done = run("ingest", "a", "--json", cwd=moved)
        assert json.loads(done.stdout)["unchanged"] == 1
    finally:
        moved.rename(tmp_path)


def test_the_default_gallery_is_in_the_users_folder(world: Path, tmp_path: Path) -> None:
    picture = world / "images" / "00001.jpg"
    assert run("ingest", picture, "-c", "color", cwd=tmp_path).returncode == 0
    assert (tmp_path / "user-data" / "cies" / "gallery" / "manifest.lance").is_dir()


def test_interrupt_keeps_the_work_and_says_how_to_continue(world: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cies", "ingest", str(world / "images")]
    command += ["-g", str(tmp_path / "g"), "-c", "color"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not (tmp_path / "g" / "manifest.lance").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in told
    assert run(*command[3:]).returncode == 0
    assert json.loads(run("status", "-g", tmp_path / "g", "--json").stdout)["pictures"] == 60


def test_python_api(world: Path, tmp_path: Path) -> None:
    gallery = cies.create(tmp_path / "g")
    report = cies.ingest(gallery, [world / "images"], ["color"])
    assert report.embedded == 60
    engine = cies.open(tmp_path / "g")
    image = Image.open(world / "images" / "00001.jpg")
    hits = engine.search(image, condition="color", k=3)
    # A picture in memory is not recognised as one of the gallery, so it finds itself.
    assert hits[0].path.endswith("00001.jpg") and hits[0].score > 0.999
    assert len(hits[:2]) == 2
    encoder = cies.load_encoder()
    vectors = encoder.encode([image.convert("RGB")], [cies.Condition.parse("color")])
    assert vectors.shape == (1, 1, encoder.dimension)


def test_demo(tmp_path: Path) -> None:
    done = run("demo", "--folder", tmp_path / "demo", "-n", 24)
    assert done.returncode == 0, done.stderr
    page = Page()
    page.feed((tmp_path / "demo" / "index.html").read_text(encoding="utf-8"))
    assert len(page.pictures) == 1 + 6 * 10
    assert "MAP@R" in done.stdout
