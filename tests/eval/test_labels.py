"""Valid and invalid label files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from support.commands import run
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from eval.labels import match_files, read_labels, read_triplets
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.sources.base import SourceOptions
from ingest.sources.factory import open_sources


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_read_labels(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "l.csv", "file,color,shape\na.jpg,red,\nb.jpg,blue,x\n"))
    assert labels.columns == ("color", "shape")
    assert labels.values["a.jpg"] == {"color": "red", "shape": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,color\na.jpg,red\n", "no column 'file'"),
        ("file\na.jpg\n", "has no label column"),
        ("file,color\na.jpg,red\na.jpg,blue\n", "line 3: a.jpg is labelled twice"),
        ("file,color\na.jpg\n", "line 2: 2 values are expected"),
        ("file,color\na.jpg,red,blue\n", "line 2: 2 values are expected"),
        ("", "is empty; its first line must name file"),
    ],
)
def test_errors_in_label_files_are_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read_labels(write(tmp_path / "l.csv", text))


def test_invalid_label_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_labels(tmp_path / "missing.csv")
    (tmp_path / "b.csv").write_bytes(b"file,color\n\xff\xfe,\x80\n")
    with pytest.raises(UsageError, match="is not text in UTF-8"):
        read_labels(tmp_path / "b.csv")


def test_read_triplets(tmp_path: Path) -> None:
    text = "pair,condition,query,positive,negative\na~b,a,1.jpg,2.jpg,3.jpg\n"
    triplet = read_triplets(write(tmp_path / "t.csv", text))[0]
    assert (triplet.condition, triplet.positive) == ("a", "2.jpg")


def test_match_files() -> None:
    stored = ["x/images/a.jpg", "x/images/b.jpg", "/other/b.jpg"]
    source = Path("labels.csv")
    assert match_files(["a.jpg", "gone.jpg"], stored, source) == {"a.jpg": "x/images/a.jpg"}
    assert match_files(["images/b.jpg"], stored, source) == {"images/b.jpg": "x/images/b.jpg"}
    with pytest.raises(UsageError, match=r"matches x/images/b\.jpg and /other/b\.jpg"):
        match_files(["b.jpg"], stored, source)
    with pytest.raises(UsageError, match="None of the files"):
        match_files(["gone.jpg"], stored, source)


LABELS = {"im0.png": ("red", "round, big"), "im1.png": ("red", ""), "im2.png": ("ü", "x")}
PLAIN = 'file,color,shape\nim0.png,red,"round, big"\nim1.png,red,\nim2.png,ü,x\n'
SEMICOLON = PLAIN.replace(",", ";").replace("round;", "round,")

#: How other programs write the same table.
FORMS = {
    "plain.csv": PLAIN.encode(),
    "semicolon.csv": SEMICOLON.encode(),
    "tab.csv": SEMICOLON.replace(";", "\t").encode(),
    "tab.tsv": SEMICOLON.replace(";", "\t").encode(),
    "bar.csv": SEMICOLON.replace(";", "|").encode(),
    "bom.csv": PLAIN.encode("utf-8-sig"),
    "utf16.csv": SEMICOLON.encode("utf-16"),
    "utf16le.csv": PLAIN.encode("utf-16-le"),
    "utf16be.csv": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "excel.csv": b"sep=;\r\n" + SEMICOLON.replace("\n", "\r\n").encode(),
    "excel16.csv": ("SEP=;\n" + SEMICOLON).encode("utf-16"),
    "excel_odd.csv": b'sep=;\nfile;"a, b, c, d"\nim0.png;red\nim1.png;red\nim2.png;x\n',
    "spaces.csv": SEMICOLON.replace(";", " ; ").encode(),
    "blank.csv": ("\n ,,\n" + PLAIN).encode(),
    "upper.csv": PLAIN.replace("file", "FILE").encode(),
    "other_name.csv": PLAIN.replace("file", "Image Path").encode(),
    "dot.csv": PLAIN.replace("im", "./im").encode(),
    "unnamed.csv": "".join(f"{line},,\n" for line in PLAIN.splitlines()).encode(),
    "lines.jsonl": "".join(
        json.dumps({"file": name, "color": color, "shape": shape or None}) + "\n"
        for name, (color, shape) in LABELS.items()
    ).encode(),
    "columns.parquet": b"",
}


@pytest.mark.parametrize("name", FORMS)
def test_eval_and_ingest_read_the_same_tables(name: str, tmp_path: Path) -> None:
    for number in range(3):
        paint(tmp_path / f"im{number}.png", number)
    table = tmp_path / name
    table.write_bytes(FORMS[name])
    if name == "columns.parquet":
        colors, shapes = zip(*LABELS.values(), strict=True)
        columns = {"file": list(LABELS), "color": colors, "shape": [s or None for s in shapes]}
        parquet.write_table(pa.table(columns), table)
    found = read_labels(table)
    assert list(found.values) == list(LABELS)
    [group] = open_sources([str(table)], SourceOptions(), tmp_path)
    [source] = group.sources
    ingested = {f.path: dict(zip(source.columns, f.values, strict=True)) for f in source.scan()}
    assert list(ingested) == list(LABELS)
    if name == "excel_odd.csv":
        assert found.columns == ("a, b, c, d",) and "a_b_c_d" in ingested["im0.png"]
        return
    for file, (color, shape) in LABELS.items():
        assert found.values[file] == {"color": color, "shape": shape}
        assert (ingested[file]["color"], ingested[file]["shape"]) == (color, shape or None)


@pytest.mark.parametrize("second", ["color", " color", "Color"])
def test_a_label_column_named_twice_is_refused(second: str, tmp_path: Path) -> None:
    text = f"file,color,{second}\na.jpg,red,x\nb.jpg,red,y\n"
    with pytest.raises(UsageError, match="names the column 'color' twice"):
        read_labels(write(tmp_path / "l.csv", text))


def test_two_names_of_one_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.jpg is labelled twice"):
        read_labels(write(tmp_path / "l.csv", "file,color\na.jpg,red\n./a.jpg,red\n"))
    with pytest.raises(UsageError, match=r"a\.jpg and x/a\.jpg, which are the same picture"):
        match_files(["a.jpg", "x/a.jpg"], ["p/x/a.jpg"], Path("l.csv"))


def test_names_written_by_other_systems_match() -> None:
    stored = ["p/x/cafe\u0301.jpg", "p/b\\c.jpg"]
    assert match_files(["x\\caf\u00e9.jpg", "b\\c.jpg"], stored, Path("l.csv")) == {
        "x\\caf\u00e9.jpg": stored[0],
        "b\\c.jpg": stored[1],
    }


def test_absolute_names_match() -> None:
    stored = ["p/x/a.jpg", "a.jpg", "/elsewhere/b.jpg"]
    names = ["/home/me/p/x/a.jpg", "C:\\me\\a.jpg", "/elsewhere/b.jpg"]
    assert match_files(names, stored, Path("l.csv")) == dict(zip(names, stored, strict=True))
    with pytest.raises(UsageError, match="None of the files"):
        match_files(["/home/me/x/a.png", "me/x/a.png"], stored, Path("l.csv"))


def test_half_a_character_is_said(tmp_path: Path) -> None:
    text = '{"file": "a.jpg", "label": "\\ud800"}\n{"file": "b.jpg", "label": "x"}\n'
    with pytest.raises(UsageError, match=r"line 1: column 'label': the text contains half"):
        read_labels(write(tmp_path / "l.jsonl", text))


def test_labels_that_no_two_pictures_share_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        paint(tmp_path / "p" / f"{number}.png", number)
    fill(Gallery.create(tmp_path / "g"), tmp_path / "p", "color", StandIn())
    rows = [(f"{n}.png", f"u{n}", "ab"[n // 2]) for n in range(4)]
    only = "file,id\n" + "".join(f"{file},{own}\n" for file, own, _ in rows)
    both = "file,id,kind\n" + "".join(",".join(row) + "\n" for row in rows)
    write(tmp_path / "unique.csv", only)
    write(tmp_path / "both.csv", both)
    monkeypatch.chdir(tmp_path)
    for form in ((), ("--json",)):
        done = run("eval", "g", "--labels", "unique.csv", *form)
        assert (done.returncode, done.stdout) == (2, "")
        assert "no two pictures of the gallery share a value of id" in done.stderr
        assert "Traceback" not in done.stderr
    done = run("eval", "-g", "g", "--labels", "both.csv", "--json")
    document = json.loads(done.stdout)
    assert document["unmeasured"] == ["id"]
    assert {cell["label"] for cell in document["cells"]} == {"kind"}
    assert "Left out, because no two pictures share a value: id." in done.stderr
