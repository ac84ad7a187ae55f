"""SORCE-1K: find a picture by words about a small thing in it, at three zooms."""

from __future__ import annotations

import json
from collections.abc import Mapping

from eval.protocols.kinds import NAME, TEXT, having
from eval.protocols.protocol import Option, Protocol
from eval.protocols.published import Expected, Published
from eval.protocols.questions import asked_in
from eval.tasks import Query, QueryTask, Source, Task

SOURCE = Source(
    title="SORCE, small object retrieval in complex environments (arXiv 2505.24441)",
    link="https://huggingface.co/datasets/lcxrocks/sorce-1k",
    licence="README says Apache-2.0; there is no licence file",
)

#: Level to its folder.
LEVELS = {"easy": "zoom_3x", "medium": "zoom_2x", "hard": "full_res"}

_PAIR = having(image=NAME, caption=TEXT)


def _read(data: Published, options: Mapping[str, str]) -> Task:
    path = data.find("dataset.jsonl")
    pairs = []
    for number, line in enumerate(data.read(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            pair = json.loads(line)
        except json.JSONDecodeError as error:
            raise data.wrong(f"{path}, line {number} is cut short or damaged") from error
        if not _PAIR.fits(pair):
            raise data.wrong(f"{path}, line {number} must be {_PAIR.words}")
        pairs.append((pair["image"], pair["caption"]))
    data.count("pairs", len(pairs))
    images = dict.fromkeys(image for image, _ in pairs)
    files = {
        (level, image): data.place(data.folder / folder, image, path)
        for level, folder in LEVELS.items()
        for image in images
    }
    data.count("pictures", len(files))
    ids = {place: data.id_of(file) for place, file in files.items()}
    there = data.pictures({ids[place]: file for place, file in files.items()})
    chosen = tuple(LEVELS) if options["level"] == "all" else (options["level"],)
    parts = []
    for level in chosen:
        queries = [
            Query(
                id=str(number),
                image="",
                text=caption,
                relevant={ids[level, image]: 1.0},
                exclude=tuple(ids[other, image] for other in LEVELS if other != level),
            )
            for number, (image, caption) in enumerate(pairs)
        ]
        parts.append(asked_in(data, path, level, queries, tuple(ids.values()), there))
    return QueryTask(
        data.name("sorce" + ("" if options["level"] == "all" else f"-{options['level']}")),
        data.source,
        there,
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
        options=(Option("level", "which zoom is asked for", ("all", *LEVELS)),),
        expected=Expected({"pairs": 1023, "pictures": 3069}),
    ),
)
