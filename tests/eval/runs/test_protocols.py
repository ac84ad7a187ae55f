"""Label benchmarks: small files in the published format are read or refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from support import published

from cies.cli.app import app
from eval.protocols.data_folder import Expected
from eval.protocols.datasets.lanz import color_name
from eval.protocols.registry import PROTOCOLS, find_benchmark, listing
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


def test_errors_for_unknown_benchmarks_and_options_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no benchmark 'cub'; there are .*cub200, cub200-indirect"
    ):
        find_benchmark("cub")
    with pytest.raises(UsageError, match=r"clevr4 has no option 'split'; it has: none"):
        find_benchmark("clevr4").load(tmp_path, split="test")


def test_every_benchmark_has_a_description_a_link_and_a_licence() -> None:
    listed = listing(PROTOCOLS.values())["protocols"]
    assert [entry["name"] for entry in listed] == list(PROTOCOLS)
    for entry in listed:
        assert entry["about"] and entry["title"] and entry["link"] and entry["licence"]
        assert entry["files"]
        assert len(entry["about"]) < 100


def test_list_of_all_benchmarks_and_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    app(["bench", "list"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == list(PROTOCOLS)
    app(["bench", "list", "cub200"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "there are 5,924\tpictures" in shown and "data.caltech.edu" in shown
    with pytest.raises(UsageError, match="no benchmark 'nothing'"):
        app(["bench", "list", "nothing"], standalone_mode=False)


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_an_empty_folder_is_refused_with_the_link_to_the_data(name: str, tmp_path: Path) -> None:
    protocol = find_benchmark(name)
    with pytest.raises(DataError) as caught:
        protocol.load(tmp_path)
    assert str(tmp_path) in str(caught.value) and protocol.source.link in str(caught.value)
    with pytest.raises(DataError, match="there is no folder"):
        protocol.load(tmp_path / "gone")


def test_clevr4_has_four_labels(tmp_path: Path) -> None:
    task = labelled(find_benchmark("clevr4").load(published.clevr4(tmp_path), expected=ANY))
    assert list(task.images) == ["images/a.png", "images/b.png", "images/c.png"]
    assert list(task.labels) == ["texture", "shape", "color", "count"]
    assert task.labels["count"] == {
        "images/a.png": ("2",),
        "images/b.png": ("2",),
        "images/c.png": ("1",),
    }
    assert task.name == "clevr4" and list(task.files) == ["clevr_4_annots.json"]


def test_clevr4_with_too_few_values_is_refused(tmp_path: Path) -> None:
    folder = published.clevr4(tmp_path)
    with pytest.raises(DataError, match="has 2 values of texture in place of 10; get the data at"):
        find_benchmark("clevr4").load(folder)
    task = find_benchmark("clevr4").load(folder, partial=True)
    assert task.name == "clevr4-partial"
    assert any("2 values of texture in place of 10" in note for note in task.notes)


def test_a_missing_picture_is_named_or_left_out_with_a_note(tmp_path: Path) -> None:
    folder = published.clevr4(tmp_path)
    (folder / "images" / "b.png").unlink()
    with pytest.raises(DataError, match=r"the picture .*b\.png is missing; get the data at"):
        find_benchmark("clevr4").load(folder, expected=ANY)
    task = labelled(find_benchmark("clevr4").load(folder, expected=ANY, partial=True))
    assert task.name == "clevr4-partial" and len(task.images) == 2
    assert "images/b.png" not in task.labels["color"]
    (folder / "images" / "a.png").unlink()
    (folder / "images" / "c.png").unlink()
    with pytest.raises(DataError, match="has none of the pictures"):
        find_benchmark("clevr4").load(folder, expected=ANY, partial=True)


def test_a_complete_set_is_not_named_partial(tmp_path: Path) -> None:
    folder = published.clevr4(tmp_path)
    assert find_benchmark("clevr4").load(folder, expected=ANY, partial=True).name == "clevr4"


def test_errors_distinguish_a_cut_json_file_from_another_version(tmp_path: Path) -> None:
    folder = published.clevr4(tmp_path)
    file = folder / "clevr_4_annots.json"
    whole = file.read_bytes()
    digest = find_benchmark("clevr4").load(folder, expected=ANY).files["clevr_4_annots.json"]
    right = Expected(sha256={"clevr_4_annots.json": digest})
    find_benchmark("clevr4").load(folder, expected=right)
    file.write_bytes(whole + b"\n")
    with pytest.raises(DataError, match=r"is not the published file \(its SHA-256 begins"):
        find_benchmark("clevr4").load(folder, expected=right)
    assert (
        find_benchmark("clevr4").load(folder, expected=right, partial=True).name.endswith("partial")
    )
    file.write_bytes(whole[:-20])
    for expected in (ANY, right):
        with pytest.raises(DataError, match=r"clevr_4_annots\.json is cut short or damaged"):
            find_benchmark("clevr4").load(folder, expected=expected)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="not text in UTF-8"):
        find_benchmark("clevr4").load(folder, expected=ANY)


def test_the_two_forms_of_cub200_differ_by_species_with_a_word_in_lower_case(
    tmp_path: Path,
) -> None:
    folder = published.cub200(tmp_path)
    all_of_it = labelled(find_benchmark("cub200").load(folder, expected=ANY))
    assert len(all_of_it.images) == 5
    assert set(all_of_it.labels["bird species"].values()) == {("White Auk",), ("Red Eyed Tit",)}
    by_prefix = labelled(find_benchmark("cub200-indirect").load(folder, expected=ANY))
    assert set(by_prefix.labels["bird species"].values()) == {("White Auk",)}
    assert by_prefix.images.keys() < all_of_it.images.keys()
    assert all(key.startswith("CUB_200_2011/images/101.") for key in by_prefix.images)
    with pytest.raises(DataError, match="has 3 species folders in place of 200"):
        find_benchmark("cub200").load(folder)


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


def test_a_labelled_folder_has_a_condition_for_each_column(tmp_path: Path) -> None:
    task = labelled(find_benchmark("labels").load(_labels(tmp_path)))
    assert list(task.labels) == ["main colour", "thing"]
    assert task.labels["main colour"] == {"images/1.png": ("red",), "images/2.png": ("red",)}
    assert task.notes == ("Column 'where' has no value for two pictures; left out.",)
    published.picture(tmp_path / "images" / "more" / "4.png")
    chosen = find_benchmark("labels").load(
        tmp_path, conditions="main_colour=hue", leave_out="thing"
    )
    assert "1 other pictures of the folder are not in labels.csv." in chosen.notes
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
def test_missing_columns_are_named(tmp_path: Path, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        find_benchmark("labels").load(_labels(tmp_path), **options)


def test_labels_that_do_not_match_the_pictures_are_refused(tmp_path: Path) -> None:
    folder = _labels(tmp_path)
    (folder / "images" / "2.png").rename(folder / "images" / "two.png")
    with pytest.raises(DataError, match=r"the picture .*2\.png is missing"):
        find_benchmark("labels").load(folder)
    (folder / "labels.csv").write_text("file,thing\n1.png,cup\n1.png,hat\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"1\.png is labelled twice"):
        find_benchmark("labels").load(folder)


def test_triplets_are_queries_with_two_candidates(tmp_path: Path) -> None:
    folder = _labels(tmp_path)
    columns = ("pair", "condition", "query", "positive", "negative")
    rows = [
        ("a~b", "main_colour", "1.png", "2.png", "3.png"),
        ("a~b", "thing", "1.png", "3.png", "2.png"),
    ]
    published.write_csv(folder / "triplets.csv", columns, rows)
    task = asked(find_benchmark("triplets").load(folder))
    assert [part.name for part in task.parts] == ["a~b: main_colour", "a~b: thing"]
    first = task.parts[0].queries[0]
    assert (first.image, first.text) == ("images/1.png", "main colour")
    assert first.gallery == ("images/2.png", "images/3.png")
    assert first.relevant == {"images/2.png": 1.0}
    rows[1] = ("a~b", "thing", "1.png", "2.png", "2.png")
    published.write_csv(folder / "triplets.csv", columns, rows)
    with pytest.raises(DataError, match="line 3 names one picture twice"):
        find_benchmark("triplets").load(folder)


def test_uned_ranks_the_other_pictures_or_the_index(tmp_path: Path) -> None:
    folder = published.uned(tmp_path / "cars", "cars", indexed=False)
    task = labelled(find_benchmark("uned-cars").load(folder, expected=ANY))
    assert task.queries is None and task.gallery is None
    assert (task.headline, task.metrics) == ("R@1", ("mMP@5",))
    # Equal file names in two folders are two pictures, and a picture may be of two classes.
    assert task.labels["car model"] == {
        "images/cars/a/1.jpg": ("3",),
        "images/cars/b/1.jpg": ("3", "5"),
        "images/cars/a/2.jpg": ("5",),
        "images/cars/b/2.jpg": ("7",),
    }
    folder = published.uned(tmp_path / "met", "met", indexed=True)
    task = labelled(find_benchmark("uned-met").load(folder, expected=ANY))
    assert task.queries == ("images/met/a/1.jpg", "images/met/b/1.jpg")
    assert task.gallery == ("images/met/a/2.jpg", "images/met/b/2.jpg")
    as_dior = labelled(find_benchmark("uned-met").load(folder, expected=ANY, gallery="test"))
    assert as_dior.name == "uned-met-against-test"
    assert as_dior.gallery is None and len(as_dior.images) == 2
    with pytest.raises(DataError, match="has 2 test pictures in place of 1,003"):
        find_benchmark("uned-met").load(folder)
    with pytest.raises(UsageError, match="no gallery 'train'; name one of index, test"):
        find_benchmark("uned-met").load(folder, gallery="train")


def test_invalid_lists_are_refused(tmp_path: Path) -> None:
    folder = published.uned(tmp_path, "met", indexed=True)
    lists = folder / "info_files" / "met"
    protocol = find_benchmark("uned-met")
    for entries, sentence in (
        ([{"path": "met/a/1.jpg", "class_id": 3}] * 2, "has the path met/a/1.jpg twice"),
        ([{"path": "met/a/1.jpg"}], "entry 0 has no 'class_id'"),
        ([{"path": "met/a/1.jpg", "class_id": []}], "entry 0 has no label"),
        ([{"path": "../x.jpg", "class_id": 3}], r"names '\.\./x\.jpg', which is not below"),
        ([{"path": "met/a/1.jpg", "class_id": 99}], "no label of test.json is in index.json"),
        ({"path": "met/a/1.jpg"}, "must be a list of objects"),
    ):
        published.write_json(lists / "test.json", entries)
        with pytest.raises(DataError, match=sentence):
            protocol.load(folder, expected=ANY)


def test_names_beyond_ascii_are_found_as_archives_unpack_them(tmp_path: Path) -> None:
    entries = [{"path": f"rp2k/{name}.jpg", "class_id": 1} for name in ("茶", "café")]
    published.write_json(tmp_path / "info_files" / "rp2k" / "test.json", entries)
    published.picture(tmp_path / "images" / "rp2k" / "#U8336.jpg")
    published.picture(tmp_path / "images" / "rp2k" / "café.jpg")
    task = labelled(find_benchmark("uned-rp2k").load(tmp_path, expected=ANY))
    assert task.images["images/rp2k/茶.jpg"].name == "#U8336.jpg"


def test_cars196_judges_car_models_by_map_at_r(tmp_path: Path) -> None:
    folder = published.uned(tmp_path, "cars", indexed=False)
    task = labelled(find_benchmark("cars196").load(folder, expected=ANY))
    assert (task.headline, task.metrics, list(task.labels)) == ("MAP@R", ("P@1",), ["car model"])
    with pytest.raises(DataError, match="has 4 test pictures in place of 8,131"):
        find_benchmark("cars196").load(folder)


def test_unknown_is_a_label_of_posters_by_default(tmp_path: Path) -> None:
    folder = published.movie_posters(tmp_path)
    task = labelled(find_benchmark("movie_posters").load(folder, expected=ANY))
    assert list(task.labels["movie genre"].values()) == [("Drama",), ("Drama",), ("N/A",)]
    known = labelled(find_benchmark("movie_posters").load(folder, expected=ANY, unknown="left-out"))
    assert known.name == "movie_posters-without-unknown"
    assert len(known.labels["movie genre"]) == 2 and len(known.images) == 3
    assert [path.name for path in known.images.values()] == ["tt1.jpg", "tt2.jpg", "tt3.jpg"]
    with pytest.raises(DataError, match="is not the published file"):
        find_benchmark("movie_posters").load(folder)


def test_one_hot_classes_are_read_from_flat_or_nested_files(tmp_path: Path) -> None:
    folder = published.deepfashion(tmp_path)
    task = labelled(find_benchmark("deepfashion").load(folder, expected=ANY))
    assert {c: list(v.values()) for c, v in task.labels.items()} == {
        "clothing category": [("41",), ("16",)],
        "texture type": [("1",), ("3",)],
        "fabric type": [("2",), ("2",)],
        "fit type": [("1",), ("2",)],
    }
    assert list(task.images) == [
        "img/Red_Dress/img_00000001.jpg",
        "images/Off-img_Tee-img_00000002.jpg",
    ]
    path = folder / "deepfashon_metadata.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("1 0 0 ,0 1 ", "1 0 1 ,0 1 "), encoding="utf-8")
    with pytest.raises(DataError, match="has '1 0 1' in 'texture', which is not one of several"):
        find_benchmark("deepfashion").load(folder, expected=ANY)
    path.write_text(text + "only-img_1.jpg,3\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 4 does not have the 5 values of the first line"):
        find_benchmark("deepfashion").load(folder, expected=ANY)


def test_rendered_cars_are_joined_by_frame_and_have_the_published_colors(tmp_path: Path) -> None:
    folder = published.synthetic_cars(tmp_path)
    task = labelled(find_benchmark("synthetic_cars").load(folder, expected=ANY))
    assert task.labels["car model"] == {"cars/2.png": ("suv",), "cars/10.png": ("van",)}
    # Hue a half turned is red, halved it is 127, 63, 63: nearest to maroon of 128, 0, 0.
    assert task.labels["car color"]["cars/2.png"] == ("maroon",)
    assert task.labels["car color"]["cars/10.png"] == ("gray",)
    assert task.labels["background color"]["cars/2.png"] == ("black",)


@pytest.mark.parametrize("frame", ["nan", "inf", "one", ""])
def test_a_frame_that_is_no_number_is_named(tmp_path: Path, frame: str) -> None:
    path = published.synthetic_cars(tmp_path) / "cars.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("1001,", f"{frame},"))
    with pytest.raises(DataError, match=f"has '{frame}' for a number in 'frame'"):
        find_benchmark("synthetic_cars").load(tmp_path, expected=ANY)


@pytest.mark.parametrize(
    ("hsv", "name"),
    [
        # 105, 105, 105 is a color of CSS 3, and published code names it so.
        ((0.0, 0.0, 210.5 / 255), "dimgray"),
        # 64 is as near to 0 as to 128: of black and gray and all between, the last is teal.
        ((0.0, 0.0, 128.5 / 255), "teal"),
        ((0.0, 0.0, 127.5 / 255), "black"),
    ],
)
def test_colors_at_the_edges_of_the_published_rule(
    hsv: tuple[float, float, float], name: str
) -> None:
    assert color_name(*hsv) == name


def test_the_page_has_every_benchmark_with_its_options_and_counts() -> None:
    page = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name, protocol in PROTOCOLS.items():
        assert f"`{name}`" in page or f"`-{name.removeprefix('uned-')}`" in page, name
        for option in protocol.options:
            assert option.name in page
        assert protocol.source.link.rstrip("/") in page or "docs/" in protocol.source.link, name
        for what, count in protocol.expected.counts.items():
            if not what.startswith("values of") and count > 1:
                assert f"{count:,}" in page, (name, what)


REAL = Path(__file__).parents[4] / "shared" / "data"


@pytest.mark.skipif(not REAL.is_dir(), reason="real labelled pictures are not here")
@pytest.mark.parametrize("name", ["clothes", "emoji", "icons", "produce"])
def test_real_labelled_folders_are_read(name: str) -> None:
    task = labelled(find_benchmark("labels").load(REAL / name))
    assert len(task.images) > 500 and len(task.labels) >= 3
    triplets = asked(find_benchmark("triplets").load(REAL / name))
    # Every triplet stands twice with the roles swapped, so that parts come in pairs of one size.
    sizes = [len(part.queries) for part in triplets.parts]
    assert sizes[::2] == sizes[1::2] and min(sizes) > 50


# -- data as the script of DIOR's published code leaves them ----------------------------------


def _as_the_script_leaves_it(root: Path) -> Path:
    """``datasets/NAME`` without subfolders, ``metadata`` and ``info_files`` beside ``datasets``."""
    made = root / "made"
    sets, metadata = root / "datasets", root / "metadata"
    metadata.mkdir(parents=True)
    for name, make in (
        ("cub200", published.cub200),
        ("movie_posters", published.movie_posters),
        ("deepfashion", published.deepfashion),
        ("synthetic_cars", partial(published.synthetic_cars, last=11)),
    ):
        source = make(made / name)
        (sets / name).mkdir(parents=True)
        for file in sorted(source.rglob("*")):
            if file.suffix in (".tsv", ".csv"):
                file.rename(metadata / file.name)
            elif file.is_file() and not file.parent.name.startswith("100."):
                garment = file.name.startswith("img_")
                new = f"{file.parent.name}-{file.name}" if garment else file.name
                file.rename(sets / name / new)
    rows = (metadata / "cars.csv").read_text(encoding="utf-8").splitlines()
    # pandas' index in place of the frame.
    lines = [rows[0].removeprefix("frame")] + [
        f"{number},{row.partition(',')[2]}" for number, row in enumerate(rows[1:])
    ]
    (metadata / "cars.csv").unlink()
    (metadata / "synthetic_metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    entries = [{"path": f"cars/{n}/{n}.jpg", "class_id": n % 2} for n in range(4)]
    published.write_json(root / "info_files" / "cars" / "test.json", entries)
    published.write_json(root / "info_files" / "rp2k" / "test.json", entries)
    for name in ("cars196", "rp2k"):
        for number in range(4):
            published.picture(sets / name / f"{number}.jpg")
    return root


@pytest.mark.parametrize("level", ["", "datasets", "datasets/{name}"])
def test_data_as_the_published_script_leaves_them(level: str, tmp_path: Path) -> None:
    root = _as_the_script_leaves_it(tmp_path)
    for name, folder, condition, labels in (
        ("cub200", "cub200", "bird species", ["Red Eyed Tit"] * 2 + ["White Auk"] * 3),
        ("movie_posters", "movie_posters", "movie genre", ["Drama", "Drama", "N/A"]),
        ("deepfashion", "deepfashion", "clothing category", ["41", "16"]),
        ("synthetic_cars", "synthetic_cars", "car model", ["suv", "van", "van"]),
        ("cars196", "cars196", "car model", ["0", "1", "0", "1"]),
        ("uned-rp2k", "rp2k", "product", ["0", "1", "0", "1"]),
    ):
        place = root / level.format(name=folder)
        task = labelled(find_benchmark(name).load(place, expected=ANY))
        assert [value for (value,) in task.labels[condition].values()] == labels, name
        assert all(path.is_file() for path in task.images.values())


def test_what_is_missing_is_named_with_where_it_comes_from(tmp_path: Path) -> None:
    root = _as_the_script_leaves_it(tmp_path)
    for path, name, said in (
        ("metadata/movie_poseter_metadata.tsv", "movie_posters", "DIOR_conditional_image"),
        ("metadata/deepfashon_metadata.csv", "deepfashion", "DIOR_conditional_image"),
        ("info_files/cars/test.json", "cars196", "info_files.zip"),
        ("info_files/rp2k/test.json", "uned-rp2k", "info_files.zip"),
    ):
        (root / path).unlink()
        with pytest.raises(DataError, match=f"{Path(path).name} is not in .*{said}"):
            find_benchmark(name).load(root / "datasets", expected=ANY)
    for number in range(2):
        (root / "datasets" / "synthetic_cars" / f"9{number}.png").touch()
    (root / "datasets" / "synthetic_cars" / "2.png").unlink()
    with pytest.raises(DataError, match="3 rows cannot be matched with 4 numbered pictures"):
        find_benchmark("synthetic_cars").load(root, expected=ANY)
