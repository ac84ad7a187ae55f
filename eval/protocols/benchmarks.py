"""Benchmarks by name: those of the registry, a labelled folder as a whole, and the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eval.protocols.registry import PROTOCOLS, protocol_of
from eval.tasks import Task
from indexes.errors import UsageError

#: The benchmark that needs no data.
WORLD = "world"

#: Both forms of a folder of one's own at once.
FOLDER = "folder"

#: Pictures of the world by default.
WORLD_PICTURES = 2000

#: Their side in pixels.
WORLD_SIZE = 256

#: Methods asked by default of the world: all but captions, which is no method of its own.
WORLD_METHODS = ("dior", "generative", "regional", "clip", "indirect", "crl", "clay")

Progress = Callable[[int, int], None]


def tasks_of(
    name: str,
    data: Path | None,
    options: Mapping[str, str],
    partial: bool,
    seed: int,
    place: Path,
    progress: Progress = lambda done, total: None,
) -> tuple[Task, ...]:
    """A benchmark's tasks.

    Args:
        name: ``world``, ``folder``, or one of the registry.
        data: the folder of the data; of the world, where to render.
        options: of the protocol; of the world ``pictures``.
        partial: whether a part of the data will do.
        seed: of the world's pictures.
        place: where the world is rendered if no folder is given.
        progress: told of the rendering.

    Raises:
        UsageError: if there is no such benchmark, option or value, or no folder is given.
        DataError: if the data are missing or not as published.
    """
    if name == WORLD:
        from eval.world.benchmark import world_tasks

        unknown = set(options) - {"pictures"}
        if unknown:
            raise UsageError(f"world has no option '{min(unknown)}'; it has: pictures.")
        count = _number(options.get("pictures", str(WORLD_PICTURES)))
        return world_tasks(data or place, count, seed, WORLD_SIZE, progress=progress)
    if name != FOLDER and name not in PROTOCOLS:
        raise UsageError(
            f"There is no benchmark '{name}'; there are {WORLD}, {FOLDER}, {', '.join(PROTOCOLS)}."
        )
    if name != FOLDER:
        protocol_of(name).check(options)
    if data is None:
        raise UsageError(
            f"{name} needs its data; name their folder with --data (`cies bench list {name}` says "
            "what it holds and where to get it)."
            if name != FOLDER
            else "folder needs a folder; name one that has a labels.csv with --data."
        )
    if name != FOLDER:
        given: dict[str, Any] = dict(options)  # its values are texts, and its names were checked
        return (protocol_of(name).load(data, partial=partial, **given),)
    files = {"labels": "labels.csv", "triplets": "triplets.csv"}
    found = [form for form, file in files.items() if (data / file).is_file()]
    if not found:
        raise UsageError(
            f"{data} has neither labels.csv nor triplets.csv; name a folder that has one."
        )
    protocols = [protocol_of(form) for form in found]
    known = [{option.name for option in protocol.options} for protocol in protocols]
    for option in options:
        if not any(option in names for names in known):
            there = ", ".join(dict.fromkeys(one for names in known for one in sorted(names)))
            raise UsageError(
                f"{data}, which has {' and '.join(files[form] for form in found)}, has no option "
                f"'{option}'; it has: {there}."
            )
    tasks = []
    for protocol, names in zip(protocols, known, strict=True):
        mine: dict[str, Any] = {n: value for n, value in options.items() if n in names}
        tasks.append(protocol.load(data, partial=partial, **mine))
    return tuple(tasks)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 100:
        raise UsageError(f"pictures={text}: give a whole number from 100 on.")
    return int(text)
