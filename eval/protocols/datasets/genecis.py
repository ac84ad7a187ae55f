"""GeneCIS (CVPR 2023): four conditional tasks whose queries have a small gallery each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.protocol import Protocol, ProtocolOption
from eval.protocols.task_parts import build_part
from eval.protocols.value_types import BOX, LABEL, NUMBER, TEXT, ValueType, list_of, object_with
from eval.tasks import BenchmarkSource, Crop, QueryTask, Task, TaskPart, TaskQuery

SOURCE = BenchmarkSource(
    title="GeneCIS, general conditional image similarity (CVPR 2023)",
    link="https://github.com/facebookresearch/genecis",
    licence="CC BY-NC 4.0; pictures of COCO and Visual Genome under their own terms",
    note="genecis/*.json there; pictures of Visual Genome 1.2 and of COCO val2017 from their sites",
)

_TASKS = ("focus_attribute", "change_attribute", "focus_object", "change_object")
_CHOICES = {
    "all": _TASKS,
    "objects": _TASKS[2:],
    "attributes": _TASKS[:2],
    "focus": (_TASKS[0], _TASKS[2]),
    "change": (_TASKS[1], _TASKS[3]),
    **{task: (task,) for task in _TASKS},
}

#: How far a crop extends beyond the object, in parts of the object's side.
_DILATION = 0.7


def crop_box(
    box: Sequence[float], width: int, height: int, symmetric: bool = False
) -> tuple[int, int, int, int]:
    """Return the part of a picture that an attribute task uses.

    Official: the left edge moves out by 0.7 of the object's width, and the right edge is measured
    from there as 1.7 widths, so that the crop grows only to the left, and likewise only upwards.
    If the left edge is stopped by the picture's, the right one moves out by the same distance.
    All published figures use these crops. Symmetric: 0.7 of the width on both sides. Edges are
    rounded as Pillow does (half to even).

    Args:
        box: left, upper, width, height of the object in pixels.
        width: the width of the picture in pixels.
        height: the height of the picture.
        symmetric: whether to grow on all sides.

    Returns:
        Left, upper, right, lower.
    """
    edges = []
    for start, side, limit in ((box[0], box[2], width), (box[1], box[3], height)):
        first = max(0, start - _DILATION * side)
        last = min(limit, (start if symmetric else first) + (1 + _DILATION) * side)
        edges.append((round(first), round(last)))
    (left, right), (upper, lower) = edges
    return left, upper, right, lower


class _TemplatePictures:
    """Collects the pictures of templates: their files and crops."""

    def __init__(self, data: BenchmarkFolder, symmetric: bool) -> None:
        self._data = data
        self._symmetric = symmetric
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._names: dict[Path, set[str]] = {}
        self._roots: dict[tuple[str, ...], list[Path]] = {}
        self.files: dict[str, Path] = {}
        self.crops: dict[str, Crop] = {}

    def whole(self, entry: Mapping[str, Any]) -> str:
        """Add a whole picture of COCO, and return its id."""
        folders = ("val2017", "coco/val2017", "COCO/val2017")
        file = self._find(f"{entry['val_image_id']:012}.jpg", folders)
        key = self._data.id_of(file)
        self.files[key] = file
        return key

    def part(self, entry: Mapping[str, Any]) -> str:
        """Add a part of a picture of Visual Genome, and return its id."""
        folders = ("VG_100K", "VG_100K_2", "VG_All", "visual_genome")
        file = self._find(f"{entry['image_id']}.jpg", folders)
        box = [float(edge) for edge in entry["instance_bbox"]]
        if min(box[2:]) <= 0:
            raise self._data.error(f"a part of {file} is {entry['instance_bbox']}, which is none")
        key = f"{self._data.id_of(file)}#{','.join(f'{edge:g}' for edge in box)}"
        self.files[key] = file
        if key not in self.crops and file.name in self._listed(file.parent):
            edges = crop_box(box, *self._size(file), symmetric=self._symmetric)
            if edges[0] >= edges[2] or edges[1] >= edges[3]:
                raise self._data.error(f"the part {entry['instance_bbox']} is not within {file}")
            self.crops[key] = Crop(edges, square=True)
        return key

    def _find(self, name: str, folders: tuple[str, ...]) -> Path:
        if folders not in self._roots:
            below = self._data.folder
            self._roots[folders] = [below / name for name in folders if (below / name).is_dir()]
            if not self._roots[folders]:
                raise self._data.error(f"{below} has none of the folders {', '.join(folders)}")
        roots = self._roots[folders]
        return next((r / name for r in roots if name in self._listed(r)), roots[0] / name)

    def _listed(self, folder: Path) -> set[str]:
        if folder not in self._names:
            self._names[folder] = {entry.name for entry in folder.iterdir()}
        return self._names[folder]

    def _size(self, file: Path) -> tuple[int, int]:
        """Return width and height; only the file's header is read."""
        from PIL import Image

        if file not in self._sizes:
            try:
                with Image.open(file) as image:
                    self._sizes[file] = image.size
            except OSError as error:
                raise self._data.error(f"the picture {file} is damaged") from error
        return self._sizes[file]


def _fields(of_part: bool) -> dict[str, ValueType]:
    """Return the fields of a template of an attribute task (of parts) or of an object task."""
    whole = object_with(val_image_id=NUMBER)
    picture = object_with(image_id=LABEL, instance_bbox=BOX) if of_part else whole
    gallery = list_of(picture)
    return {"reference": picture, "target": picture, "gallery": gallery, "condition": TEXT}


def _read_task(data: BenchmarkFolder, task: str, pictures: _TemplatePictures) -> TaskPart:
    path = data.find(f"genecis/{task}.json", f"{task}.json")
    of_part = task.endswith("attribute")
    read = pictures.part if of_part else pictures.whole
    entries = data.records(path, _fields(of_part), f"genecis/{task}.json")
    data.check_count(f"{task} templates", len(entries))
    data.check_count(f"{task} conditions", len({str(entry["condition"]) for entry in entries}))
    queries = []
    inside = []
    for number, entry in enumerate(entries):
        target = read(entry["target"])
        others = [read(picture) for picture in entry["gallery"]]
        if target in others:
            inside.append(number)
            others = [key for key in others if key != target]
        data.check_unique("distractor", others, path)
        queries.append(
            TaskQuery(
                id=str(number),
                image=read(entry["reference"]),
                text=str(entry["condition"]),
                relevant={target: 1.0},
                gallery=(target, *others),
            )
        )
    sizes = {len(entry["gallery"]) + 1 for entry in entries}
    if len(sizes) == 1:
        data.check_count(f"{task} candidates", sizes.pop())
    elif sizes:
        raise data.error(f"{path} has templates of {min(sizes)} and of {max(sizes)} candidates")
    data.check_count(f"{task} templates with the target among the distractors", len(inside), 0)
    if inside:
        data.notes.append(
            f"Of {task}, template {', '.join(map(str, inside))} lists the target among the "
            "distractors; it is ranked once, which gives the same hit rate."
        )
    repeated = len(entries) - len({(q.image, q.text, q.gallery) for q in queries})
    if repeated:
        data.notes.append(
            f"Of {task}, {repeated:,} templates repeat others exactly; they count as published."
        )
    gallery = tuple(sorted({key for query in queries for key in query.gallery or ()}))
    present = data.existing_pictures(
        {key: pictures.files[key] for key in (*gallery, *(query.image for query in queries))}
    )
    return build_part(data, path, task, queries, gallery, present)


def _read(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    symmetric = options["crop"] == "symmetric"
    pictures = _TemplatePictures(data, symmetric)
    parts = tuple(_read_task(data, task, pictures) for task in _CHOICES[options["tasks"]])
    used = {key for part in parts for key in part.gallery}
    used |= {query.image for part in parts for query in part.queries}
    name = "genecis" + ("" if options["tasks"] == "all" else f"-{options['tasks']}")
    return QueryTask(
        data.task_name(name + ("-symmetric" if symmetric and pictures.crops else "")),
        data.source,
        {key: file for key, file in pictures.files.items() if key in used},
        parts,
        ("R@1", "R@2", "R@3"),
        crops={key: cut for key, cut in pictures.crops.items() if key in used},
        notes=tuple(data.notes),
        files=data.files,
        conditions=True,
    )


PROTOCOLS = (
    Protocol(
        name="genecis",
        about="focus on or change an attribute or an object, 10 or 15 candidates each",
        source=SOURCE,
        files=(
            "genecis/{focus,change}_{attribute,object}.json",
            "VG_100K/ID.jpg and VG_100K_2/ID.jpg (attribute tasks)",
            "val2017/ID.jpg (object tasks)",
        ),
        reader=_read,
        options=(
            ProtocolOption(
                "tasks", "which of the four; the headline is their mean", tuple(_CHOICES)
            ),
            ProtocolOption(
                "crop",
                "of attribute tasks: official grows to the left and upwards only, as in every "
                "published figure",
                ("official", "symmetric"),
            ),
        ),
        expected=Expected(
            {
                "focus_object templates": 1960,
                "change_object templates": 1960,
                "focus_object conditions": 97,
                "change_object conditions": 109,
                "focus_object candidates": 15,
                "change_object candidates": 15,
                "change_object templates with the target among the distractors": 1,
            },
            {
                "genecis/change_object.json": (
                    "0a5145984f7d8594c457a3609288ae2acfcdb6b72bd0309220e616300c9beac8"
                ),
                "genecis/focus_object.json": (
                    "ee6de86ffb78ad989986b65f7e74e5627a90c1395a8cdc4aed8da3d92f4c016c"
                ),
            },
        ),
    ),
)
