"""GeneCIS (CVPR 2023): four conditional tasks, each question with a small gallery of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.protocols.kinds import BOX, LABEL, NUMBER, TEXT, Kind, having, several
from eval.protocols.protocol import Option, Protocol
from eval.protocols.published import Expected, Published
from eval.protocols.questions import asked_in
from eval.tasks import Cut, Part, Query, QueryTask, Source, Task

SOURCE = Source(
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

#: How far a crop reaches beyond the object, in parts of the object's side.
_DILATION = 0.7


def crop_box(
    box: Sequence[float], width: int, height: int, symmetric: bool = False
) -> tuple[int, int, int, int]:
    """The part of a picture that an attribute task means.

    Official: the left edge moves out by 0.7 of the object's width, and the right edge is measured
    from there as 1.7 widths, so that the crop grows only to the left, and likewise only upwards.
    Where the left edge is stopped by the picture's, the right one moves out by as much. All
    published figures have it. Symmetric: 0.7 of the width on both sides. Edges are rounded as
    Pillow does (half to even).

    Args:
        box: left, upper, width, height of the object in pixels.
        width: of the picture in pixels.
        height: of the picture.
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


class _Pictures:
    """Pictures met in the templates: files, and the parts of them that are meant."""

    def __init__(self, data: Published, symmetric: bool) -> None:
        self._data = data
        self._symmetric = symmetric
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._names: dict[Path, set[str]] = {}
        self._roots: dict[tuple[str, ...], list[Path]] = {}
        self.files: dict[str, Path] = {}
        self.cuts: dict[str, Cut] = {}

    def whole(self, entry: Mapping[str, Any]) -> str:
        """Id of a whole picture of COCO."""
        places = ("val2017", "coco/val2017", "COCO/val2017")
        file = self._find(f"{entry['val_image_id']:012}.jpg", places)
        key = self._data.id_of(file)
        self.files[key] = file
        return key

    def part(self, entry: Mapping[str, Any]) -> str:
        """Id of a part of a picture of Visual Genome."""
        places = ("VG_100K", "VG_100K_2", "VG_All", "visual_genome")
        file = self._find(f"{entry['image_id']}.jpg", places)
        box = [float(edge) for edge in entry["instance_bbox"]]
        if min(box[2:]) <= 0:
            raise self._data.wrong(f"a part of {file} is {entry['instance_bbox']}, which is none")
        key = f"{self._data.id_of(file)}#{','.join(f'{edge:g}' for edge in box)}"
        self.files[key] = file
        if key not in self.cuts and file.name in self._listed(file.parent):
            edges = crop_box(box, *self._size(file), symmetric=self._symmetric)
            if edges[0] >= edges[2] or edges[1] >= edges[3]:
                raise self._data.wrong(f"the part {entry['instance_bbox']} is not within {file}")
            self.cuts[key] = Cut(edges, square=True)
        return key

    def _find(self, name: str, places: tuple[str, ...]) -> Path:
        if places not in self._roots:
            folders = [self._data.folder / place for place in places]
            there = [folder for folder in folders if folder.is_dir()]
            if not there:
                raise self._data.wrong(
                    f"{self._data.folder} has none of the folders {', '.join(places)}"
                )
            self._roots[places] = there
        roots = self._roots[places]
        return next((r / name for r in roots if name in self._listed(r)), roots[0] / name)

    def _listed(self, folder: Path) -> set[str]:
        if folder not in self._names:
            self._names[folder] = {entry.name for entry in folder.iterdir()}
        return self._names[folder]

    def _size(self, file: Path) -> tuple[int, int]:
        """Width and height, from the file's head alone."""
        from PIL import Image

        if file not in self._sizes:
            try:
                with Image.open(file) as image:
                    self._sizes[file] = image.size
            except OSError as error:
                raise self._data.wrong(f"the picture {file} is damaged") from error
        return self._sizes[file]


def _fields(of_part: bool) -> dict[str, Kind]:
    """What a template of an attribute task or of an object task has."""
    whole = having(val_image_id=NUMBER)
    picture = having(image_id=LABEL, instance_bbox=BOX) if of_part else whole
    several_of = several(picture)
    return {"reference": picture, "target": picture, "gallery": several_of, "condition": TEXT}


def _read_task(data: Published, task: str, pictures: _Pictures) -> Part:
    path = data.find(f"genecis/{task}.json", f"{task}.json")
    of_part = task.endswith("attribute")
    read = pictures.part if of_part else pictures.whole
    entries = data.records(path, _fields(of_part), f"genecis/{task}.json")
    data.count(f"{task} templates", len(entries))
    data.count(f"{task} conditions", len({str(entry["condition"]) for entry in entries}))
    queries = []
    inside = []
    for number, entry in enumerate(entries):
        target = read(entry["target"])
        others = [read(picture) for picture in entry["gallery"]]
        if target in others:
            inside.append(number)
            others = [key for key in others if key != target]
        data.unique("distractor", others, path)
        queries.append(
            Query(
                id=str(number),
                image=read(entry["reference"]),
                text=str(entry["condition"]),
                relevant={target: 1.0},
                gallery=(target, *others),
            )
        )
    sizes = {len(entry["gallery"]) + 1 for entry in entries}
    if len(sizes) == 1:
        data.count(f"{task} candidates", sizes.pop())
    elif sizes:
        raise data.wrong(f"{path} has templates of {min(sizes)} and of {max(sizes)} candidates")
    data.count(f"{task} templates with the target among the distractors", len(inside), 0)
    if inside:
        data.notes.append(
            f"Of {task}, template {', '.join(map(str, inside))} lists the target among the "
            "distractors; it is ranked once, which gives the same hit rate."
        )
    again = len(entries) - len({(q.image, q.text, q.gallery) for q in queries})
    if again:
        data.notes.append(
            f"Of {task}, {again:,} templates repeat others word for word; they count as published."
        )
    gallery = tuple(sorted({key for query in queries for key in query.gallery or ()}))
    there = data.pictures(
        {key: pictures.files[key] for key in (*gallery, *(query.image for query in queries))}
    )
    return asked_in(data, path, task, queries, gallery, there)


def _read(data: Published, options: Mapping[str, str]) -> Task:
    symmetric = options["crop"] == "symmetric"
    pictures = _Pictures(data, symmetric)
    parts = tuple(_read_task(data, task, pictures) for task in _CHOICES[options["tasks"]])
    used = {key for part in parts for key in part.gallery}
    used |= {query.image for part in parts for query in part.queries}
    name = "genecis" + ("" if options["tasks"] == "all" else f"-{options['tasks']}")
    return QueryTask(
        data.name(name + ("-symmetric" if symmetric and pictures.cuts else "")),
        data.source,
        {key: file for key, file in pictures.files.items() if key in used},
        parts,
        ("R@1", "R@2", "R@3"),
        cuts={key: cut for key, cut in pictures.cuts.items() if key in used},
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
            Option("tasks", "which of the four; the headline is their mean", tuple(_CHOICES)),
            Option(
                "crop",
                "of attribute tasks: official grows to the left and upwards only, as every "
                "published figure has it",
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
