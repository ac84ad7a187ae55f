"""Small data sets in the published file formats, with other content."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from eval.protocols.data_folder import Expected
from eval.protocols.registry import find_benchmark
from eval.tasks import QueryTask

#: No counts or checksums are checked, because these are not the published files.
ANY = Expected()


def load(name: str, folder: Path, expected: Expected = ANY, **options: Any) -> QueryTask:
    """Load a task, and check that its queries only name pictures that exist."""
    task = find_benchmark(name).load(folder, expected=expected, **options)
    assert isinstance(task, QueryTask)
    assert all(path.is_file() for path in task.images.values())
    for part in task.parts:
        assert set(part.gallery) <= task.images.keys()
        for query in part.queries:
            named = {*query.relevant, *(query.gallery or ()), *query.exclude, *query.group}
            named |= {query.image} - {""}
            assert named <= task.images.keys()
    return task


def change(path: Path, edit: Any) -> None:
    """Rewrite a JSON file with a function of its content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, edit(content))


def picture(path: Path, size: tuple[int, int] = (8, 6), color: str = "gray") -> Path:
    """Write a picture of one color, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ","
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


CLEVR4: Mapping[str, Mapping[str, object]] = {
    "a.png": {"texture": "metal", "shape": "cube", "color": "red", "count": 2},
    "b.png": {"texture": "metal", "shape": "cone", "color": "blue", "count": 2},
    "c.png": {"texture": "rubber", "shape": "cube", "color": "red", "count": 1},
}


def labels(folder: Path) -> Path:
    """Three pictures with one label column."""
    rows = [("a.png", "red"), ("b.png", "red"), ("c.png", "blue")]
    write_csv(folder / "labels.csv", ("file", "color"), rows)
    for name, color in rows:
        picture(folder / "images" / name, color=color)
    return folder


def triplets(folder: Path) -> Path:
    """Three pictures in one triplet."""
    columns = ("pair", "condition", "query", "positive", "negative")
    write_csv(folder / "triplets.csv", columns, [("x", "color", "a.png", "b.png", "c.png")])
    for name in ("a.png", "b.png", "c.png"):
        picture(folder / "images" / name)
    return folder


def clevr4(folder: Path) -> Path:
    """Three pictures under four labels."""
    write_json(folder / "clevr_4_annots.json", CLEVR4)
    for name in CLEVR4:
        picture(folder / "images" / name)
    return folder


def cub200(folder: Path) -> Path:
    """Three species: the first is not in the test half, the last has a word in lower case."""
    for species, stem, count in (
        ("100.Brown_Auk", "Brown_Auk", 2),
        ("101.White_Auk", "White_Auk", 3),
        ("102.Red_eyed_Tit", "Red_Eyed_Tit", 2),
    ):
        for number in range(1, count + 1):
            name = f"{stem}_{number:04}_{number * 77:06}.jpg"
            picture(folder / "CUB_200_2011" / "images" / species / name)
    return folder


def uned(folder: Path, domain: str, indexed: bool) -> Path:
    """Four pictures in two folders with the same file names, one of them of two classes."""
    queries: list[dict[str, Any]] = [
        {"path": f"{domain}/a/1.jpg", "class_id": 3},
        {"path": f"{domain}/b/1.jpg", "class_id": [3, 5]},
    ]
    others: list[dict[str, Any]] = [
        {"path": f"{domain}/a/2.jpg", "class_id": 5},
        {"path": f"{domain}/b/2.jpg", "class_id": 7},
    ]
    for entry in queries + others:
        picture(folder / "images" / entry["path"])
    lists = folder / "info_files" / domain
    write_json(lists / "test.json", queries if indexed else queries + others)
    if indexed:
        write_json(lists / "index.json", others)
    return folder


def cars196(folder: Path) -> Path:
    """Two pictures of each of two car models, in the list that UnED has of CARS196."""
    rows = [{"path": f"cars/{n}.jpg", "class_id": 3 + n % 2} for n in range(4)]
    for row in rows:
        picture(folder / "images" / str(row["path"]))
    write_json(folder / "info_files" / "cars" / "test.json", rows)
    return folder


def movie_posters(folder: Path) -> Path:
    rows = [("tt1", "Drama", "USA"), ("tt2", "Drama", "N/A"), ("tt3", "N/A", "USA")]
    write_csv(folder / "movie_poseter_metadata.tsv", ("imdbID", "Genre", "Country"), rows, "\t")
    for number, row in enumerate(rows):
        # The archive has a folder for each year.
        picture(folder / "images" / str(1980 + number) / f"{row[0]}.jpg")
    return folder


def deepfashion(folder: Path) -> Path:
    columns = ("file_names", "clothing_category", "texture", "fabric", "fit")
    rows = [
        ("Red_Dress-img_00000001.jpg", 41, "1 0 0 ", "0 1 ", "1 0 0 "),
        ("Off-img_Tee-img_00000002.jpg", 16, "0 0 1 ", "0 1 ", "0 1 0 "),
    ]
    write_csv(folder / "deepfashon_metadata.csv", columns, rows)
    picture(folder / "img" / "Red_Dress" / "img_00000001.jpg")
    picture(folder / "images" / "Off-img_Tee-img_00000002.jpg")
    return folder


def synthetic_cars(folder: Path, last: int = 1001) -> Path:
    """Frames 2, 10 and 1001; by name 10 comes first, and frames above 1000 are not used."""
    colors = [f"{part}_{axis}" for part in ("color", "bg_color") for axis in ("hue", "sat", "val")]
    rows = [
        (2, "suv", 0.5, 1, 1, 0, 0, 0),
        (10, "van", 0, 0, 1, 0.5, 1, 1),
        (last, "van", 0, 0, 1, 0.5, 1, 1),
    ]
    write_csv(folder / "cars.csv", ("frame", "model", *colors), rows)
    for frame in (2, 10, last):
        picture(folder / "cars" / f"{frame}.png")
    return folder


def _vg(image: int, *box: float) -> dict[str, Any]:
    return {"image_id": image, "instance_bbox": list(box)}


def _coco(image: int) -> dict[str, Any]:
    return {"val_image_id": image}


def genecis(folder: Path, target_inside: bool = False) -> Path:
    """One template of each task, and two equal ones of ``focus_object``."""
    for number in range(1, 6):
        picture(folder / ("VG_100K" if number < 4 else "VG_100K_2") / f"{number}.jpg", (100, 60))
        picture(folder / "val2017" / f"{number:012}.jpg", (20, 10))
    parts = {
        "reference": _vg(1, 50, 30, 20, 10),
        "target": _vg(4, 10, 5, 20, 10),
        "gallery": [_vg(5, 0, 0, 100, 60), _vg(4, 10, 5, 30, 10)],
        "condition": "color",
    }
    whole = {
        "reference": _coco(1),
        "target": _coco(2),
        "gallery": [_coco(3), _coco(4)],
        "condition": "sky",
    }
    inside = {**whole, "gallery": [_coco(3), _coco(2)]}
    for task, templates in (
        ("focus_attribute", [parts]),
        ("change_attribute", [parts]),
        ("focus_object", [whole, whole]),
        ("change_object", [inside if target_inside else whole]),
    ):
        write_json(folder / "genecis" / f"{task}.json", templates)
    return folder


def circo(folder: Path) -> Path:
    """Two queries with answers and two without, in a gallery of 60."""
    pictures = [{"id": n, "file_name": f"{n:012}.jpg"} for n in range(1, 61)]
    root = folder / "COCO2017_unlabeled"
    write_json(root / "annotations" / "image_info_unlabeled2017.json", {"images": pictures})
    for entry in pictures:
        (root / "unlabeled2017").mkdir(exist_ok=True)
        picture(root / "unlabeled2017" / str(entry["file_name"]))
    common = {"shared_concept": "a dog", "relative_caption": "is brown"}
    known = {"target_img_id": 3, "gt_img_ids": [3, 4], "semantic_aspects": ["addition"]}
    other = {
        "target_img_id": 9,
        "gt_img_ids": [9],
        "semantic_aspects": ["addition", "viewpoint"],
    }
    write_json(
        folder / "annotations" / "val.json",
        [
            {"id": 0, "reference_img_id": 1, **common, **known},
            {"id": 1, "reference_img_id": 2, **common, **other},
        ],
    )
    write_json(
        folder / "annotations" / "test.json",
        [{"id": n, "reference_img_id": n + 5, **common} for n in (0, 1)],
    )
    return folder


def cirr(folder: Path, split: str = "val") -> Path:
    """One query with a group of six, in a gallery of 60."""
    below = "dev" if split == "val" else split
    names = [f"{below}-{n}-0-img0" for n in range(60)]
    entry: dict[str, Any] = {
        "pairid": 12060,
        "reference": names[0],
        "caption": "show three bottles",
        "img_set": {"id": 1, "members": names[3:0:-1] + names[4:6] + names[:1]},
    }
    if split == "val":
        entry |= {"target_hard": names[2], "target_soft": {names[2]: 1.0}}
    write_json(folder / "captions" / f"cap.rc2.{split}.json", [entry])
    write_json(
        folder / "image_splits" / f"split.rc2.{split}.json",
        {name: f"./{below}/{name}.png" for name in names},
    )
    for name in names:
        picture(folder / below / f"{name}.png")
    return folder


def fashioniq(folder: Path) -> Path:
    """One query in each category; the second sentence of shirts is empty."""
    for category in ("dress", "shirt", "toptee"):
        names = [f"{category}{n}" for n in range(4)]
        captions = ["is red.", "" if category == "shirt" else "has long sleeves"]
        entry = {"target": names[1], "candidate": names[0], "captions": captions}
        write_json(folder / "captions" / f"cap.{category}.val.json", [entry])
        write_json(folder / "image_splits" / f"split.{category}.val.json", names)
        for name in names:
            picture(folder / "images" / f"{name}.{'png' if category == 'dress' else 'jpg'}")
    return folder


def inquire(folder: Path) -> Path:
    columns = ("", "query_id", "query_text", "supercategory", "category", "iconic_group")
    rows = [(0, 7, "a sick plant", "Context", "Health", "Plants")]
    write_csv(folder / "inquire" / "inquire_queries_test.csv", columns, rows)
    answers = [(7, n, f"train/0001_Plant/{n}.jpg") for n in (1, 2)]
    named = ("query_id", "image_id", "image_path")
    write_csv(folder / "inquire" / "inquire_annotations.csv", named, answers)
    for species in ("0001_Plant", "0002_Bird"):
        for number in (1, 2, 3):
            picture(folder / "inat24" / "train" / species / f"{number}.jpg")
    return folder


def inquire_rerank(folder: Path) -> Path:
    """Two queries with three candidates each; the second has no right answer."""
    import pyarrow
    from pyarrow import parquet

    rows = []
    for query, numbers, right in (("a sick plant", (1, 2, 3), {2}), ("a bird", (3, 4, 5), set())):
        for number in numbers:
            file = picture(folder / "made" / f"{number}.jpg", (8 + number, 6))
            image = {"bytes": file.read_bytes(), "path": file.name}
            rows.append(
                {
                    "query": query,
                    "inat24_image_id": number,
                    "relevant": int(number in right),
                    "image": image,
                }
            )
    path = folder / "data" / "test-00000-of-00001.parquet"
    path.parent.mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return folder


def sorce(folder: Path) -> Path:
    names = ("a.jpg", "b.jpg")
    lines = [json.dumps({"image": name, "caption": f"a thing in {name}"}) for name in names]
    folder.mkdir(exist_ok=True)
    (folder / "dataset.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for zoom in ("zoom_3x", "zoom_2x", "full_res"):
        for name in names:
            picture(folder / zoom / name)
    return folder


#: Every built-in benchmark to what writes a folder in its format.
BUILDERS: Mapping[str, Callable[[Path], Path]] = {
    "labels": labels,
    "triplets": triplets,
    "clevr4": clevr4,
    "cub200": cub200,
    "cub200-indirect": cub200,
    "cars196": cars196,
    "synthetic_cars": partial(synthetic_cars, last=11),
    "movie_posters": movie_posters,
    "deepfashion": deepfashion,
    **{
        f"uned-{domain}": partial(uned, domain=domain, indexed=indexed)
        for domain, indexed in (
            ("cars", False),
            ("sop", False),
            ("inshop", True),
            ("inat", False),
            ("met", True),
            ("gldv2", True),
            ("food2k", False),
            ("rp2k", False),
        )
    },
    "genecis": genecis,
    "circo": circo,
    "cirr": cirr,
    "fashioniq": fashioniq,
    "inquire": inquire,
    "inquire-rerank": inquire_rerank,
    "sorce": sorce,
}
