"""Valid and invalid label files."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.labels import match_files, read_labels, read_triplets
from indexes.errors import UsageError


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
    with pytest.raises(UsageError, match="not a CSV file in UTF-8"):
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
