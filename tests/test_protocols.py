"""Benchmarks that judge by labels: small files of the published form, read and refused."""

from __future__ import annotations

from pathlib import Path

import published
import pytest

from cies.cli import app
from eval.protocols.published import Expected
from eval.protocols.registry import PROTOCOLS, listing, protocol_of
from eval.tasks import LabelTask, QueryTask, Task
from indexes.errors import DataError, UsageError

#: Nothing is checked against the published counts, because these are not the published files.
ANY = Expected()


def labelled(task: Task) -> LabelTask:
    assert isinstance(task, LabelTask)
    assert all(path.is_file() for path in task.images.values())
    for values in task.labels.values():
        assert values.keys() <= task.images.keys()
    return task


def asked(task: Task) -> QueryTask:
    assert isinstance(task, QueryTask)
    assert all(path.is_file() for path in task.images.values())
    return task


def test_an_unknown_benchmark_or_option_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no benchmark 'cub'; there are .*cub200, cub200-indirect"
    ):
        protocol_of("cub")
    with pytest.raises(UsageError, match=r"clevr4 has no option 'split'; it has: none"):
        protocol_of("clevr4").load(tmp_path, split="test")


def test_every_benchmark_says_what_it_is_where_it_is_and_on_what_terms() -> None:
    listed = listing(PROTOCOLS.values())["protocols"]
    assert [entry["name"] for entry in listed] == list(PROTOCOLS)
    for entry in listed:
        assert entry["about"] and entry["title"] and entry["link"] and entry["licence"]
        assert entry["files"]
        assert len(entry["about"]) < 100


def test_the_list_names_all_and_one_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    app(["bench", "list"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == list(PROTOCOLS)
    app(["bench", "list", "cub200"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "there are 5,924\tpictures" in shown and "data.caltech.edu" in shown
    with pytest.raises(UsageError, match="no benchmark 'nothing'"):
        app(["bench", "list", "nothing"], standalone_mode=False)


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_an_empty_folder_is_refused_with_what_is_missing_and_where_it_is(
    name: str, tmp_path: Path
) -> None:
    protocol = protocol_of(name)
    with pytest.raises(DataError) as caught:
        protocol.load(tmp_path)
    assert str(tmp_path) in str(caught.value) and protocol.source.link in str(caught.value)
    with pytest.raises(DataError, match="there is no folder"):
        protocol.load(tmp_path / "gone")


def test_clevr4_gives_four_labels_of_one_set(tmp_path: Path) -> None:
    task = labelled(protocol_of("clevr4").load(published.clevr4(tmp_path), expected=ANY))
    assert list(task.images) == ["images/a.png", "images/b.png", "images/c.png"]
    assert list(task.labels) == ["texture", "shape", "color", "count"]
    assert task.labels["count"] == {
        "images/a.png": ("2",),
        "images/b.png": ("2",),
        "images/c.png": ("1",),
    }
    assert task.name == "clevr4" and list(task.files) == ["clevr_4_annots.json"]


def test_clevr4_with_too_few_values_is_not_clevr4(tmp_path: Path) -> None:
    folder = published.clevr4(tmp_path)
    with pytest.raises(DataError, match="has 2 values of texture in place of 10; get the data at"):
        protocol_of("clevr4").load(folder)
    task = protocol_of("clevr4").load(folder, partial=True)
    assert task.name == "clevr4-partial"
    assert any("2 values of texture in place of 10" in note for note in task.notes)


def test_a_missing_picture_is_named_or_left_out_and_told(tmp_path: Path) -> None:
    folder = published.clevr4(tmp_path)
    (folder / "images" / "b.png").unlink()
    with pytest.raises(DataError, match=r"the picture .*b\.png is missing; get the data at"):
        protocol_of("clevr4").load(folder, expected=ANY)
    task = labelled(protocol_of("clevr4").load(folder, expected=ANY, partial=True))
    assert task.name == "clevr4-partial" and len(task.images) == 2
    assert "images/b.png" not in task.labels["color"]
    (folder / "images" / "a.png").unlink()
    (folder / "images" / "c.png").unlink()
    with pytest.raises(DataError, match="has none of the pictures"):
        protocol_of("clevr4").load(folder, expected=ANY, partial=True)


def test_a_complete_set_is_not_called_partial_though_a_subset_would_do(tmp_path: Path) -> None:
    folder = published.clevr4(tmp_path)
    assert protocol_of("clevr4").load(folder, expected=ANY, partial=True).name == "clevr4"


def test_a_json_file_cut_short_is_told_from_another_version(tmp_path: Path) -> None:
    folder = published.clevr4(tmp_path)
    file = folder / "clevr_4_annots.json"
    whole = file.read_bytes()
    digest = protocol_of("clevr4").load(folder, expected=ANY).files["clevr_4_annots.json"]
    right = Expected(sha256={"clevr_4_annots.json": digest})
    protocol_of("clevr4").load(folder, expected=right)
    file.write_bytes(whole + b"\n")
    with pytest.raises(DataError, match=r"is not the published file \(its SHA-256 begins"):
        protocol_of("clevr4").load(folder, expected=right)
    assert protocol_of("clevr4").load(folder, expected=right, partial=True).name.endswith("partial")
    file.write_bytes(whole[:-20])
    for expected in (ANY, right):
        with pytest.raises(DataError, match=r"clevr_4_annots\.json is cut short or damaged"):
            protocol_of("clevr4").load(folder, expected=expected)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="not text in UTF-8"):
        protocol_of("clevr4").load(folder, expected=ANY)


def test_the_two_forms_of_cub200_differ_by_species_with_a_word_in_lower_case(
    tmp_path: Path,
) -> None:
    folder = published.cub200(tmp_path)
    all_of_it = labelled(protocol_of("cub200").load(folder, expected=ANY))
    assert len(all_of_it.images) == 5
    assert set(all_of_it.labels["bird species"].values()) == {("White Auk",), ("Red Eyed Tit",)}
    by_prefix = labelled(protocol_of("cub200-indirect").load(folder, expected=ANY))
    assert set(by_prefix.labels["bird species"].values()) == {("White Auk",)}
    assert by_prefix.images.keys() < all_of_it.images.keys()
    assert all(key.startswith("CUB_200_2011/images/101.") for key in by_prefix.images)
    with pytest.raises(DataError, match="has 3 species folders in place of 200"):
        protocol_of("cub200").load(folder)


def _labels(folder: Path) -> Path:
    published.write_csv(
        folder / "labels.csv",
        ("file", "main_colour", "thing", "where"),
        [
            ("1.png", "red", "cup", "x/1"),
            ("2.png", "red", "cup", "x/2"),
            ("3.png", "", "hat", "x/3"),
        ],
    )
    for name in ("1.png", "2.png", "3.png"):
        published.picture(folder / "images" / name)
    return folder


def test_a_labelled_folder_is_asked_by_its_columns(tmp_path: Path) -> None:
    task = labelled(protocol_of("labels").load(_labels(tmp_path)))
    assert list(task.labels) == ["main colour", "thing"]
    assert task.labels["main colour"] == {"images/1.png": ("red",), "images/2.png": ("red",)}
    assert task.notes == ("Column 'where' has no value for two pictures; left out.",)
    chosen = protocol_of("labels").load(tmp_path, conditions="main_colour=hue", leave_out="thing")
    assert list(labelled(chosen).labels) == ["hue"]
    assert labelled(chosen).views["images/3.png"] == "hat"
    assert chosen.name.endswith("-labels-without-thing")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"conditions": "size"}, "no column 'size' to judge by"),
        ({"conditions": "where"}, "no value of 'where' for two pictures"),
        ({"leave_out": "size"}, "no column 'size' to leave out"),
    ],
)
def test_columns_that_are_not_there_are_told(
    tmp_path: Path, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        protocol_of("labels").load(_labels(tmp_path), **options)


def test_labels_that_do_not_match_the_pictures_are_refused(tmp_path: Path) -> None:
    folder = _labels(tmp_path)
    (folder / "images" / "2.png").rename(folder / "images" / "two.png")
    with pytest.raises(DataError, match=r"the picture .*2\.png is missing"):
        protocol_of("labels").load(folder)
    (folder / "labels.csv").write_text("file,thing\n1.png,cup\n1.png,hat\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"1\.png is labelled twice"):
        protocol_of("labels").load(folder)


def test_triplets_are_questions_with_two_candidates(tmp_path: Path) -> None:
    folder = _labels(tmp_path)
    columns = ("pair", "condition", "query", "positive", "negative")
    rows = [
        ("a~b", "main_colour", "1.png", "2.png", "3.png"),
        ("a~b", "thing", "1.png", "3.png", "2.png"),
    ]
    published.write_csv(folder / "triplets.csv", columns, rows)
    task = asked(protocol_of("triplets").load(folder))
    assert [part.name for part in task.parts] == ["a~b: main_colour", "a~b: thing"]
    first = task.parts[0].queries[0]
    assert (first.image, first.text) == ("images/1.png", "main colour")
    assert first.gallery == ("images/2.png", "images/3.png")
    assert first.relevant == {"images/2.png": 1.0}
    rows[1] = ("a~b", "thing", "1.png", "2.png", "2.png")
    published.write_csv(folder / "triplets.csv", columns, rows)
    with pytest.raises(DataError, match="line 3 names one picture twice"):
        protocol_of("triplets").load(folder)
