"""SORCE-1K: text queries about a small thing in a picture, at three zooms."""

from __future__ import annotations

import json
from collections.abc import Mapping

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.protocol import Protocol, ProtocolOption
from eval.protocols.task_parts import build_part
from eval.protocols.value_types import NAME, TEXT, object_with
from eval.tasks import BenchmarkSource, QueryTask, Task, TaskQuery

SOURCE = BenchmarkSource(
    title="SORCE, small object retrieval in complex environments (arXiv 2505.24441)",
    link="https://huggingface.co/datasets/lcxrocks/sorce-1k",
    licence="README says Apache-2.0; there is no licence file",
)

#: Level to its folder.
LEVELS = {"easy": "zoom_3x", "medium": "zoom_2x", "hard": "full_res"}

_PAIR = object_with(image=NAME, caption=TEXT)


def _read(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    path = data.find("dataset.jsonl")
    pairs = []
    for number, line in enumerate(data.read(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            pair = json.loads(line)
        except json.JSONDecodeError as error:
            raise data.error(f"{path}, line {number} is cut short or damaged") from error
        if not _PAIR.matches(pair):
            raise data.error(f"{path}, line {number} must be {_PAIR.singular}")
        pairs.append((pair["image"], pair["caption"]))
    data.check_count("pairs", len(pairs))
    images = dict.fromkeys(image for image, _ in pairs)
    files = {
        (level, image): data.path_below(data.folder / folder, image, path)
        for level, folder in LEVELS.items()
        for image in images
    }
    data.check_count("pictures", len(files))
    ids = {key: data.id_of(file) for key, file in files.items()}
    present = data.existing_pictures({ids[key]: file for key, file in files.items()})
    chosen = tuple(LEVELS) if options["level"] == "all" else (options["level"],)
    parts = []
    for level in chosen:
        queries = [
            TaskQuery(
                id=str(number),
                image="",
                text=caption,
                relevant={ids[level, image]: 1.0},
                exclude=tuple(ids[other, image] for other in LEVELS if other != level),
            )
            for number, (image, caption) in enumerate(pairs)
        ]
        parts.append(build_part(data, path, level, queries, tuple(ids.values()), present))
    return QueryTask(
        data.task_name("sorce" + ("" if options["level"] == "all" else f"-{options['level']}")),
        data.source,
        present,
        tuple(parts),
        ("R@1", "R@5", "R@10"),
        notes=tuple(data.notes),
        files=data.files,
    )


PROTOCOLS = (
    Protocol(
        name="sorce",
        about="words about a small thing, 1,023 pictures at three zooms, all 3,069 ranked",
        source=SOURCE,
        files=("dataset.jsonl", "zoom_3x/IMAGE, zoom_2x/IMAGE and full_res/IMAGE"),
        reader=_read,
        options=(ProtocolOption("level", "which zoom is asked for", ("all", *LEVELS)),),
        expected=Expected({"pairs": 1023, "pictures": 3069}),
    ),
)
