"""CIRR (ICCV 2021), release rc2: a photograph and a change in words; also in groups of six."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.protocol import Protocol, ProtocolOption
from eval.protocols.task_parts import build_part
from eval.protocols.value_types import NAME, NUMBER, TEXT, list_of, mapping_of, object_with
from eval.tasks import BenchmarkSource, QueryTask, Task, TaskQuery

SOURCE = BenchmarkSource(
    title="CIRR, composed image retrieval on real-life images (ICCV 2021)",
    link="https://github.com/Cuberick-Orion/CIRR",
    licence="annotations MIT; pictures under NLVR2's terms",
    note="annotations in the branch cirr_dataset; pictures by NLVR2's request form",
)

_FIELDS = {
    "pairid": NUMBER,
    "reference": NAME,
    "caption": TEXT,
    "img_set": object_with(members=list_of(NAME)),
}


def _root(folder: Path, inner: str) -> Path:
    """Return the folder that the split's paths, such as ``./dev/NAME.png``, are below."""
    roots = (folder, folder / "images", folder / "img_raw")
    return next((root for root in roots if (root / inner).is_dir()), folder)


def _read(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    split = options["split"]
    test = split == "test1"
    name = f"captions/cap.rc2.{split}.json"
    path = data.find(name, f"cirr/{name}")
    entries = data.records(path, _FIELDS if test else _FIELDS | {"target_hard": NAME}, name)
    data.check_count(f"{split} questions", len(entries))
    list_name = f"image_splits/split.rc2.{split}.json"
    list_path = data.find(list_name, f"cirr/{list_name}")
    listed = data.json(list_path, mapping_of(NAME), list_name)
    data.check_count(f"{split} pictures", len(listed))
    root = _root(data.folder, "dev" if split == "val" else split)
    files = {name: data.path_below(root, inner, list_path) for name, inner in listed.items()}
    ids = {name: data.id_of(file) for name, file in files.items()}
    data.check_unique("file", ids.values(), list_path)
    present = data.existing_pictures({ids[name]: file for name, file in files.items()})

    def key(name: str) -> str:
        if name not in ids:
            raise data.error(f"{path} names the picture {name}, which is not in {list_path}")
        return ids[name]

    queries = []
    for entry in entries:
        members = entry["img_set"]["members"]
        if len(set(members)) != 6 or len(members) != 6:
            raise data.error(f"{path}, pair {entry['pairid']} has no group of six pictures")
        for role in ("reference",) if test else ("reference", "target_hard"):
            if entry[role] not in members:
                raise data.error(
                    f"{path}, pair {entry['pairid']}: its {role} {entry[role]} is not in its group"
                )
        reference = key(entry["reference"])
        queries.append(
            TaskQuery(
                id=str(entry["pairid"]),
                image=reference,
                text=str(entry["caption"]),
                relevant={} if test else {key(entry["target_hard"]): 1.0},
                exclude=(reference,),
                group=tuple(key(member) for member in members if member != entry["reference"]),
            )
        )
    return QueryTask(
        data.task_name(f"cirr-{split}"),
        data.source,
        present,
        (build_part(data, path, "", queries, tuple(ids.values()), present),),
        (
            *(f"R@{k}" for k in (1, 5, 10, 50)),
            *(f"subset recall@{k}" for k in (1, 2, 3)),
        ),
        submission="cirr" if test else "",
        notes=tuple(data.notes),
        files=data.files,
    )


PROTOCOLS = (
    Protocol(
        name="cirr",
        about="a photograph and a change in words, one right answer; also among its group of six",
        source=SOURCE,
        files=(
            "captions/cap.rc2.{val,test1}.json",
            "image_splits/split.rc2.{val,test1}.json",
            "{dev,test1}/NAME.png",
        ),
        reader=_read,
        options=(ProtocolOption("split", "val, or test1 for the server", ("val", "test1")),),
        expected=Expected(
            {
                "val questions": 4181,
                "val pictures": 2297,
                "test1 questions": 4148,
                "test1 pictures": 2315,
            },
            {
                "captions/cap.rc2.val.json": (
                    "a85c3a1aa464f1af7229918e8018d08b8b20ce5dab479ffdf39d61113140f919"
                ),
                "captions/cap.rc2.test1.json": (
                    "26a2b2e7a5c96c903491aefc7d5f237f03d3cca97712e1b6bb3b231db5ff8001"
                ),
                "image_splits/split.rc2.val.json": (
                    "de36f7a7219c8bb06347a67748cfc68405be7dad62853a1e31846c98e491235b"
                ),
                "image_splits/split.rc2.test1.json": (
                    "bf2bb9ed0659c4aae35de72350652b9ab75d36a060211f826bec15c58ec12566"
                ),
            },
        ),
    ),
)
