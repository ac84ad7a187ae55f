"""Query benchmarks: small files in the published format are read or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import published
from support.published import change, load

from eval.protocols.data_folder import Expected
from eval.protocols.datasets.genecis import crop_box
from eval.protocols.registry import find_benchmark
from eval.tasks import Crop
from indexes.errors import DataError

# GeneCIS


def test_genecis_has_four_parts_with_small_galleries(tmp_path: Path) -> None:
    task = load("genecis", published.genecis(tmp_path))
    assert task.name == "genecis" and task.metrics == ("R@1", "R@2", "R@3")
    assert [part.name for part in task.parts] == [
        "focus_attribute",
        "change_attribute",
        "focus_object",
        "change_object",
    ]
    asked = task.parts[2].queries[0]
    coco = [f"val2017/{number:012}.jpg" for number in range(1, 6)]
    assert (asked.image, asked.text, asked.relevant) == (coco[0], "sky", {coco[1]: 1.0})
    assert asked.gallery == (coco[1], coco[2], coco[3])
    assert coco[0] not in task.crops
    assert any("focus_object, 1 templates repeat others" in note for note in task.notes)


def test_crops_of_one_picture_are_separate_candidates(tmp_path: Path) -> None:
    task = load("genecis", published.genecis(tmp_path), tasks="attributes")
    asked = task.parts[0].queries[0]
    assert task.name == "genecis-attributes"
    assert asked.gallery == (
        "VG_100K_2/4.jpg#10,5,20,10",
        "VG_100K_2/5.jpg#0,0,100,60",
        "VG_100K_2/4.jpg#10,5,30,10",
    )
    assert task.images[asked.gallery[0]] == task.images[asked.gallery[2]]
    # x 50 - 0.7 * 20 = 36, then 1.7 * 20 from there; stopped at 0 the right edge moves out.
    assert task.crops[asked.image] == Crop((36, 23, 70, 40), square=True)
    assert task.crops[asked.gallery[0]] == Crop((0, 0, 34, 17), square=True)
    symmetric = load("genecis", tmp_path, tasks="attributes", crop="symmetric")
    assert symmetric.name == "genecis-attributes-symmetric"
    assert symmetric.crops[asked.image] == Crop((36, 23, 84, 47), square=True)
    assert symmetric.crops[asked.gallery[1]] == Crop((0, 0, 100, 60), square=True)


def test_the_official_crop_rounds_edges_like_pillow(tmp_path: Path) -> None:
    path = published.picture(tmp_path / "x.png", (333, 250))
    with Image.open(path) as image:
        for x, y, w, h in [(3, 4, 5, 5), (100.5, 7, 33, 21), (200, 150, 133, 100), (1, 1, 1, 1)]:
            left, top = max(0, x - 0.7 * w), max(0, y - 0.7 * h)
            right, bottom = min(333, left + (1 + 0.7) * w), min(250, top + (1 + 0.7) * h)
            asked = image.crop((left, top, right, bottom))  # type: ignore[arg-type]
            box = crop_box((x, y, w, h), 333, 250)
            assert (box[2] - box[0], box[3] - box[1]) == asked.size
            assert image.crop(box).tobytes() == asked.tobytes()


def test_a_target_among_the_distractors_is_refused_unless_published(
    tmp_path: Path,
) -> None:
    folder = published.genecis(tmp_path, target_inside=True)
    key = "change_object templates with the target among the distractors"
    with pytest.raises(DataError, match=f"has 1 {key} in place of 0; get the data at"):
        load("genecis", folder, tasks="objects")
    task = load("genecis", folder, Expected({key: 1}), tasks="objects")
    assert task.name == "genecis-objects"
    assert any("template 0 lists the target among" in note for note in task.notes)
    asked = task.parts[1].queries[0]
    assert asked.gallery == ("val2017/000000000002.jpg", "val2017/000000000003.jpg")


def test_genecis_with_fewer_templates_is_partial(tmp_path: Path) -> None:
    folder = published.genecis(tmp_path)
    with pytest.raises(DataError, match=r"focus_object\.json is not the published file"):
        find_benchmark("genecis").load(folder, tasks="focus_object")
    partial = find_benchmark("genecis").load(folder, tasks="focus_object", partial=True)
    assert partial.name == "genecis-focus_object-partial"


def test_queries_without_their_pictures_are_left_out_of_a_partial_task(tmp_path: Path) -> None:
    folder = published.genecis(tmp_path)
    (folder / "val2017" / "000000000003.jpg").unlink()
    with pytest.raises(DataError, match=r"000000000003\.jpg is missing"):
        load("genecis", folder, tasks="focus_object")
    task = load("genecis", folder, tasks="focus_object", partial=True)
    assert len(task.parts[0].queries) == 2  # a distractor less
    assert len(task.parts[0].queries[0].gallery or ()) == 2
    (folder / "val2017" / "000000000002.jpg").unlink()
    with pytest.raises(DataError, match="no question whose pictures exist"):
        load("genecis", folder, tasks="focus_object", partial=True)


@pytest.mark.parametrize(
    ("task", "edit", "sentence"),
    [
        (
            "focus_object",
            lambda t: [{**t[0], "gallery": 3}],
            "entry 0: 'gallery' is 3 in place of a list of objects",
        ),
        (
            "focus_object",
            lambda t: [{**t[0], "reference": {}}],
            "entry 0: 'reference' is {} in place of an object with 'val_image_id'",
        ),
        (
            "focus_object",
            lambda t: [t[0], {**t[0], "gallery": t[0]["gallery"][:1]}],
            "templates of 2 and of 3 candidates",
        ),
        (
            "focus_object",
            lambda t: [{**t[0], "gallery": t[0]["gallery"][:1] * 2}],
            "has the distractor .* twice",
        ),
        (
            "focus_object",
            lambda t: [{**t[0], "reference": t[0]["target"]}],
            "is its own answer",
        ),
        (
            "focus_attribute",
            lambda t: [{**t[0], "target": {"image_id": 1, "instance_bbox": [1, 2, 0, 4]}}],
            "which is none",
        ),
        (
            "focus_attribute",
            lambda t: [{**t[0], "target": {"image_id": 1, "instance_bbox": [900, 2, 9, 4]}}],
            "is not within",
        ),
    ],
)
def test_invalid_templates_are_refused(tmp_path: Path, task: str, edit: Any, sentence: str) -> None:
    folder = published.genecis(tmp_path)
    change(folder / "genecis" / f"{task}.json", edit)
    with pytest.raises(DataError, match=sentence):
        load("genecis", folder, tasks=task)


# CIRCO


def test_circo_has_several_answers_in_one_gallery(tmp_path: Path) -> None:
    folder = published.circo(tmp_path)
    task = load("circo", folder)
    assert (task.name, task.metrics[:2], task.submission) == ("circo-val", ("mAP@5", "mAP@10"), "")
    (part,) = task.parts
    assert len(part.gallery) == 60
    below = "COCO2017_unlabeled/unlabeled2017"
    asked = part.queries[0]
    assert asked.image == f"{below}/000000000001.jpg" and asked.image in part.gallery
    assert asked.text == "is brown" and asked.exclude == ()
    assert asked.relevant == {f"{below}/{n:012}.jpg": 1.0 for n in (3, 4)}
    target = load("circo", folder, answers="target", reference="removed")
    assert target.name == "circo-val-target-without-reference"
    assert target.metrics == ("R@5", "R@10", "R@25", "R@50")
    assert target.parts[0].queries[0].relevant == {f"{below}/000000000003.jpg": 1.0}
    assert target.parts[0].queries[0].exclude == (asked.image,)
    aspects = load("circo", folder, parts="aspects")
    assert [(p.name, len(p.queries)) for p in aspects.parts] == [("addition", 2), ("viewpoint", 1)]
    assert aspects.metrics == ("mAP@10",)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda v: [v[0], v[0]], "has the question 0 twice"),
        (lambda v: [{**v[0], "gt_img_ids": [3, 3]}], "has the right answer 3 twice"),
        (lambda v: [{**v[0], "gt_img_ids": [4]}], "its target is not a right answer"),
        (lambda v: [{**v[0], "gt_img_ids": [3, 1]}], "is its own answer"),
        (lambda v: [{**v[0], "reference_img_id": 99}], "picture 99, which is not in"),
        (lambda v: [{**v[0], "semantic_aspects": ["taste"]}], "aspect 'taste'"),
    ],
)
def test_inconsistent_circo_files_are_refused(tmp_path: Path, edit: Any, sentence: str) -> None:
    folder = published.circo(tmp_path)
    change(folder / "annotations" / "val.json", edit)
    with pytest.raises(DataError, match=sentence):
        load("circo", folder, parts="aspects")


def test_circo_with_other_counts_is_refused(tmp_path: Path) -> None:
    folder = published.circo(tmp_path)
    for count, sentence in (
        ({"val questions": 220}, "has 2 val questions in place of 220"),
        ({"pictures": 123_403}, "has 60 pictures in place of 123,403"),
    ):
        with pytest.raises(DataError, match=sentence):
            load("circo", folder, Expected(count))


# CIRR


def test_cirr_leaves_the_reference_out_and_has_groups(tmp_path: Path) -> None:
    task = load("cirr", published.cirr(tmp_path))
    assert task.name == "cirr-val" and "subset recall@1" in task.metrics
    (asked,) = task.parts[0].queries
    assert asked.id == "12060" and asked.image == "dev/dev-0-0-img0.png"
    assert asked.exclude == (asked.image,)
    assert asked.relevant == {"dev/dev-2-0-img0.png": 1.0}
    assert asked.group == tuple(f"dev/dev-{n}-0-img0.png" for n in (3, 2, 1, 4, 5))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda e: {**e, "target_hard": "dev-50-0-img0"}, "target_hard .* is not in its group"),
        (lambda e: {**e, "img_set": {"members": ["a"]}}, "has no group of six pictures"),
        (lambda e: {**e, "img_set": 3}, "'img_set' is 3 in place of an object with 'members'"),
        (lambda e: {**e, "target_hard": e["reference"]}, "is its own answer"),
        (
            lambda e: {
                **e,
                "target_hard": "gone",
                "img_set": {"members": [*e["img_set"]["members"][1:], "gone"]},
            },
            "names the picture gone, which is not in",
        ),
    ],
)
def test_inconsistent_cirr_files_are_refused(tmp_path: Path, edit: Any, sentence: str) -> None:
    folder = published.cirr(tmp_path)
    change(folder / "captions" / "cap.rc2.val.json", lambda entries: [edit(entries[0])])
    with pytest.raises(DataError, match=sentence):
        load("cirr", folder)


# FashionIQ


def test_fashioniq_tasks_are_named_by_gallery_and_captions(tmp_path: Path) -> None:
    folder = published.fashioniq(tmp_path)
    task = load("fashioniq", folder)
    assert task.name == "fashioniq-val-split-and"
    assert [(part.name, len(part.gallery)) for part in task.parts] == [
        ("dress", 4),
        ("shirt", 4),
        ("toptee", 4),
    ]
    assert task.parts[0].queries[0].text == "is red and has long sleeves"
    assert task.parts[1].queries[0].text == "is red"
    # The reference stays in the gallery.
    assert task.parts[0].queries[0].image == "images/dress0.png" in task.parts[0].gallery
    union = load("fashioniq", folder, gallery="union", captions="reversed")
    assert union.name == "fashioniq-val-union-reversed"
    assert union.parts[2].gallery == ("images/toptee0.jpg", "images/toptee1.jpg")
    assert union.parts[0].queries[0].text == "has long sleeves and is red"
    joined = load("fashioniq", folder, captions="capitalized")
    assert joined.parts[0].queries[0].text == "Is red and has long sleeves"


def test_inconsistent_fashioniq_lists_are_refused(tmp_path: Path) -> None:
    folder = published.fashioniq(tmp_path)
    listed = folder / "image_splits" / "split.shirt.val.json"
    change(listed, lambda names: names[2:])
    with pytest.raises(
        DataError, match=r"names the picture shirt0, which is not in .*split\.shirt"
    ):
        load("fashioniq", folder)
    change(listed, lambda names: [*names, names[0]])
    with pytest.raises(DataError, match="has the picture shirt2 twice"):
        load("fashioniq", folder)
    change(folder / "captions" / "cap.dress.val.json", lambda e: [{**e[0], "captions": ["x"]}])
    with pytest.raises(DataError, match=r"entry 0: 'captions' is .* in place of a list of 2 texts"):
        load("fashioniq", folder)


# INQUIRE


def test_inquire_ranks_all_pictures(tmp_path: Path) -> None:
    folder = published.inquire(tmp_path)
    task = load("inquire", folder)
    assert task.name == "inquire-fullrank-test"
    (asked,) = task.parts[0].queries
    assert (asked.image, asked.text) == ("", "a sick plant")
    assert asked.relevant == {f"inat24/train/0001_Plant/{n}.jpg": 1.0 for n in (1, 2)}
    assert len(task.parts[0].gallery) == 6
    (folder / "inat24" / "train" / "0001_Plant" / "2.jpg").unlink()
    with pytest.raises(DataError, match=r"right answer .*2\.jpg is not in the gallery"):
        load("inquire", folder)
    partial = load("inquire", folder, Expected({"pictures": 6}), partial=True)
    assert partial.name.endswith("-partial") and len(partial.parts[0].queries[0].relevant) == 1


def test_inquire_rerank_writes_its_pictures_once(tmp_path: Path) -> None:
    folder = published.inquire_rerank(tmp_path)
    task = load("inquire-rerank", folder)
    (asked,) = task.parts[0].queries
    assert asked.gallery == ("pictures/1.jpg", "pictures/2.jpg", "pictures/3.jpg")
    assert asked.relevant == {"pictures/2.jpg": 1.0}
    assert any("1 questions have no right answer" in note for note in task.notes)
    assert Image.open(folder / "pictures" / "2.jpg").size == (10, 6)
    (folder / "pictures" / "2.jpg").write_bytes(b"mine")
    load("inquire-rerank", folder)
    assert (folder / "pictures" / "2.jpg").read_bytes() == b"mine"
    with pytest.raises(DataError, match="has 3 candidates of a question in place of 100"):
        find_benchmark("inquire-rerank").load(folder)
    table = next((folder / "data").iterdir())
    table.write_bytes(table.read_bytes()[:-40])
    with pytest.raises(DataError, match="is cut short or damaged"):
        load("inquire-rerank", folder)


# SORCE


def test_sorce_never_ranks_the_same_picture_at_another_zoom(tmp_path: Path) -> None:
    folder = published.sorce(tmp_path)
    task = load("sorce", folder)
    assert [part.name for part in task.parts] == ["easy", "medium", "hard"]
    asked = task.parts[1].queries[1]
    assert asked.text == "a thing in b.jpg" and asked.relevant == {"zoom_2x/b.jpg": 1.0}
    assert asked.exclude == ("zoom_3x/b.jpg", "full_res/b.jpg")
    assert len(task.parts[1].gallery) == 6
    assert load("sorce", folder, level="hard").name == "sorce-hard"
    with pytest.raises(DataError, match="has 2 pairs in place of 1,023"):
        find_benchmark("sorce").load(folder)
    (folder / "dataset.jsonl").write_text('{"image": "a.jpg", "caption": "x"}\n{"image": "b.')
    with pytest.raises(DataError, match="line 2 is cut short or damaged"):
        load("sorce", folder)
