"""FashionIQ (CVPR 2021): a garment and two sentences of change, in three categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.protocol import Protocol, ProtocolOption
from eval.protocols.task_parts import build_part
from eval.protocols.value_types import NAME, TEXT, list_of
from eval.tasks import BenchmarkSource, QueryTask, Task, TaskPart, TaskQuery

SOURCE = BenchmarkSource(
    title="FashionIQ (CVPR 2021), validation",
    link="https://github.com/XiaoxiaoGuo/fashion-iq",
    licence="annotations CDLA (as the repository says); pictures of products on Amazon",
    note="pictures by their addresses in hongwang600/fashion-iq-metadata, some of them dead",
)

_CATEGORIES = ("dress", "shirt", "toptee")


def _joined(first: str, second: str) -> str:
    """Join two sentences by "and"; if one is empty, return the other."""
    return " and ".join(sentence for sentence in (first, second) if sentence)


#: How the two annotators' sentences become one query, or two whose vectors are averaged.
CAPTIONS: Mapping[str, Callable[[str, str], tuple[str, ...]]] = {
    "and": lambda first, second: (_joined(first, second),),
    "reversed": lambda first, second: (_joined(second, first),),
    "both": lambda first, second: (_joined(first, second), _joined(second, first)),
    "capitalized": lambda first, second: (_joined(first[:1].upper() + first[1:], second),),
    "first": lambda first, second: (first or second,),
    "second": lambda first, second: (second or first,),
}


def _read_category(
    data: BenchmarkFolder,
    category: str,
    options: Mapping[str, str],
    find: Callable[[str], Path],
) -> tuple[TaskPart, dict[str, Path]]:
    path = data.find(f"captions/cap.{category}.val.json")
    two = list_of(TEXT, 2)
    entries = data.records(path, {"target": NAME, "candidate": NAME, "captions": two})
    data.check_count(f"{category} questions", len(entries))
    list_path = data.find(f"image_splits/split.{category}.val.json")
    listed = data.json(list_path, list_of(NAME))
    data.check_unique("picture", listed, list_path)
    data.check_count(f"{category} pictures of the split", len(listed))
    used = dict.fromkeys(entry[role] for entry in entries for role in ("candidate", "target"))
    data.check_count(f"{category} pictures asked about", len(used))
    missing = [name for name in used if name not in set(listed)]
    if missing:
        raise data.error(f"{path} names the picture {missing[0]}, which is not in {list_path}")
    files = {name: find(name) for name in (listed if options["gallery"] == "split" else used)}
    ids = {name: data.id_of(file) for name, file in files.items()}
    join = CAPTIONS[options["captions"]]
    queries = []
    for number, entry in enumerate(entries):
        first, second = (caption.strip(" .?,") for caption in entry["captions"])
        text, *others = dict.fromkeys(join(first, second))
        queries.append(
            TaskQuery(
                id=str(number),
                image=ids[entry["candidate"]],
                text=text,
                rewordings=tuple(others),
                relevant={ids[entry["target"]]: 1.0},
            )
        )
    present = data.existing_pictures({ids[name]: file for name, file in files.items()})
    return build_part(data, path, category, queries, tuple(ids.values()), present), present


def _read(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    names: dict[str, Path] = {}
    for folder in ("images", "resized_images"):
        if (data.folder / folder).is_dir():
            for file in sorted((data.folder / folder).iterdir()):
                if file.suffix in (".jpg", ".png"):
                    names.setdefault(file.stem, file)

    def find(name: str) -> Path:
        return names.get(name, data.folder / "images" / f"{name}.jpg")

    parts, images = [], {}
    for category in _CATEGORIES:
        part, present = _read_category(data, category, options, find)
        parts.append(part)
        images.update(present)
    return QueryTask(
        data.task_name(f"fashioniq-val-{options['gallery']}-{options['captions']}"),
        data.source,
        images,
        tuple(parts),
        ("R@10", "R@50"),
        notes=tuple(data.notes),
        files=data.files,
    )


PROTOCOLS = (
    Protocol(
        name="fashioniq",
        about="a garment and two sentences of change; mean over dress, shirt and toptee",
        source=SOURCE,
        files=(
            "captions/cap.{dress,shirt,toptee}.val.json",
            "image_splits/split.{dress,shirt,toptee}.val.json",
            "images/ID.jpg or ID.png",
        ),
        reader=_read,
        options=(
            ProtocolOption(
                "gallery",
                "all pictures of the split, as in zero-shot papers, or the union of those asked "
                "about",
                ("split", "union"),
            ),
            ProtocolOption("captions", "how two sentences become one", tuple(CAPTIONS)),
        ),
        expected=Expected(
            {
                f"{category} {what}": count
                for category, counts in (
                    ("dress", (2017, 3817, 2628)),
                    ("shirt", (2038, 6346, 3089)),
                    ("toptee", (1961, 5373, 2902)),
                )
                for what, count in zip(
                    ("questions", "pictures of the split", "pictures asked about"),
                    counts,
                    strict=True,
                )
            },
            {
                "captions/cap.dress.val.json": (
                    "5e5117d45695df9c3ca91fac3e0bc49e6422ae9c8b3793f0ac9b3ab83adb7de9"
                ),
                "captions/cap.shirt.val.json": (
                    "7b7ca3797b85dddfd83e74cdb4454cb63e3e7c09acef2590155efbacea6d7feb"
                ),
                "captions/cap.toptee.val.json": (
                    "b4e09f428e6c255cc4b4ec46e77908305ab83075d82840c960be81af15cdc5eb"
                ),
                "image_splits/split.dress.val.json": (
                    "21ff91d53c23859da91bfd49f3acc139b7f3a3dc944fc4e4a80194468cf14bab"
                ),
                "image_splits/split.shirt.val.json": (
                    "b82effbf7352a6f828b38c45eb32e53d726bd4d6fd81d6290c81eeb2c68e3234"
                ),
                "image_splits/split.toptee.val.json": (
                    "ee42b2505275dd7a19b11ddb88c9264aab2d77f4e59b075fb1c7c3095d02f412"
                ),
            },
        ),
    ),
)
