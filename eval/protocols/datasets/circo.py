"""CIRCO (ICCV 2023): a picture and a change in words, several right answers in COCO unlabeled."""

from __future__ import annotations

from collections.abc import Mapping

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.protocol import Protocol, ProtocolOption
from eval.protocols.task_parts import build_part
from eval.protocols.value_types import NAME, NUMBER, TEXT, list_of, object_with
from eval.tasks import BenchmarkSource, QueryTask, Task, TaskQuery

SOURCE = BenchmarkSource(
    title="CIRCO (Zero-Shot Composed Image Retrieval with Textual Inversion, ICCV 2023)",
    link="https://github.com/miccunifi/CIRCO",
    licence="annotations CC BY-NC 4.0; pictures under Flickr's terms",
    note="pictures and image_info of COCO 2017 unlabeled from cocodataset.org",
)

#: Semantic aspects of questions, in the official order.
ASPECTS = (
    "cardinality",
    "addition",
    "negation",
    "direct_addressing",
    "compare_change",
    "comparative_statement",
    "statement_with_conjunction",
    "spatial_relations_background",
    "viewpoint",
)

_RANKS = (5, 10, 25, 50)

#: How MagicLens's code states what reference and right answers have in common.
_CONCEPT = "find {shared_concept} but {relative_caption}"
_FIELDS = {"id": NUMBER, "reference_img_id": NUMBER, "relative_caption": TEXT}
_VAL_FIELDS = {
    **_FIELDS,
    "target_img_id": NUMBER,
    "gt_img_ids": list_of(NUMBER),
    "semantic_aspects": list_of(TEXT),
}


def _read(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    split, answers = options["split"], options["answers"]
    test = split == "test"
    if test and (answers != "all" or options["parts"] != "one"):
        raise data.error("the answers of the test split are held back, so it has one part only")
    path = data.find(f"annotations/{split}.json")
    fields = _FIELDS if test else _VAL_FIELDS
    if options["concept"] == "told":
        fields = {**fields, "shared_concept": TEXT}
    entries = data.records(path, fields)
    data.check_count(f"{split} questions", len(entries))
    info = data.find("COCO2017_unlabeled/annotations/image_info_unlabeled2017.json")
    picture = object_with(id=NUMBER, file_name=NAME)
    images = data.json(info, object_with(images=list_of(picture)))["images"]
    root = data.folder / "COCO2017_unlabeled" / "unlabeled2017"
    files = {image["id"]: data.path_below(root, image["file_name"], info) for image in images}
    data.check_unique("picture", (image["id"] for image in images), info)
    data.check_count("pictures", len(files))
    ids = {number: data.id_of(file) for number, file in files.items()}

    def key(number: int) -> str:
        if number not in ids:
            raise data.error(f"{path} names the picture {number}, which is not in {info}")
        return ids[number]

    queries: dict[str, list[TaskQuery]] = {}
    removed = options["reference"] == "removed"
    with_concept = options["concept"] == "told"
    for entry in entries:
        if not test and entry["target_img_id"] not in entry["gt_img_ids"]:
            raise data.error(f"{path}, question {entry['id']}: its target is not a right answer")
        # The test split has no answers.
        right = (
            [] if test else entry["gt_img_ids"] if answers == "all" else [entry["target_img_id"]]
        )
        data.check_unique("right answer", right, path)
        reference = key(entry["reference_img_id"])
        query = TaskQuery(
            id=str(entry["id"]),
            image=reference,
            text=_CONCEPT.format(**entry) if with_concept else str(entry["relative_caption"]),
            relevant={key(number): 1.0 for number in right},
            exclude=(reference,) if removed else (),
        )
        for part in entry["semantic_aspects"] if options["parts"] == "aspects" else ("",):
            queries.setdefault(part, []).append(query)
    present = data.existing_pictures({key(number): file for number, file in files.items()})
    known = ASPECTS if options["parts"] == "aspects" else ("",)
    unknown = [part for part in queries if part not in known]
    if unknown:
        raise data.error(f"{path} has the aspect '{unknown[0]}', which CIRCO has not")
    gallery = tuple(ids.values())
    parts = [name for name in known if name in queries]
    metric = "mAP" if answers == "all" else "R"
    name = f"circo-{split}" + ("-target" if answers == "target" else "")
    name += "-aspects" if options["parts"] == "aspects" else ""
    name += "-concept" if with_concept else ""
    return QueryTask(
        data.task_name(name + ("-without-reference" if removed else "")),
        data.source,
        present,
        tuple(build_part(data, path, part, queries[part], gallery, present) for part in parts),
        ("mAP@10",) if options["parts"] == "aspects" else tuple(f"{metric}@{k}" for k in _RANKS),
        submission="circo" if test else "",
        notes=tuple(data.notes),
        files=data.files,
    )


PROTOCOLS = (
    Protocol(
        name="circo",
        about="a picture and a change in words, several right answers among 123,403 pictures",
        source=SOURCE,
        files=(
            "annotations/{val,test}.json",
            "COCO2017_unlabeled/annotations/image_info_unlabeled2017.json",
            "COCO2017_unlabeled/unlabeled2017/ID.jpg",
        ),
        reader=_read,
        options=(
            ProtocolOption("split", "val, or test for the server", ("val", "test")),
            ProtocolOption(
                "answers",
                "all right answers (mAP@k), or the one target that the words describe (R@k)",
                ("all", "target"),
            ),
            ProtocolOption(
                "parts", "one figure, or one for each aspect (mAP@10)", ("one", "aspects")
            ),
            ProtocolOption(
                "reference",
                "kept among the candidates, as in SEARLE and CIReVL, or removed",
                ("kept", "removed"),
            ),
            ProtocolOption(
                "concept",
                "untold as in most papers, or told: 'find CONCEPT but CHANGE', as in MagicLens",
                ("untold", "told"),
            ),
        ),
        expected=Expected(
            {"val questions": 220, "test questions": 800, "pictures": 123_403},
            {
                "annotations/val.json": (
                    "6b31a1dbc3c85627501d9a250f87708f24a27d74d6a65360b6ddd2537a154d04"
                ),
                "annotations/test.json": (
                    "2f7c37e89220c990b6b0525d6f3ed63d3fc02e03ce336aa42a3b822841b14886"
                ),
            },
        ),
    ),
)
