"""Loads the tasks of a benchmark: the rendered world, a labelled folder, or one of the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eval.protocols.registry import benchmark_names, find_benchmark
from eval.tasks import Task
from indexes.errors import UsageError
from query.question import similar_names

#: The benchmark of rendered pictures, which needs no data.
WORLD = "world"

#: The benchmarks ``labels`` and ``triplets`` of a user's folder, as far as it has their files.
FOLDER = "folder"

#: Pictures of the world by default.
WORLD_PICTURES = 2000

#: Side of the world's pictures in pixels.
WORLD_SIZE = 256

#: Methods evaluated on the world by default: all but captions, which is for composers.
WORLD_METHODS = ("dior", "generative", "regional", "clip", "indirect", "crl", "clay")

_FOLDER_FILES = {"labels": "labels.csv", "triplets": "triplets.csv"}


def tasks_of(
    name: str,
    data: Path | None,
    options: Mapping[str, str],
    partial: bool,
    seed: int,
    place: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Task, ...]:
    """Return a benchmark's tasks.

    Args:
        name: ``world``, ``folder``, or a benchmark of the registry.
        data: folder of the data; for the world, where to render.
        options: the options of the benchmark; the world has ``pictures``.
        partial: whether a part of the data is accepted.
        seed: the seed of the world's pictures.
        place: where the world is rendered if ``data`` is not given.
        progress: called as pictures are rendered.

    Raises:
        UsageError: if there is no such benchmark, option or value, or no folder is given.
        DataError: if the data are missing or not as published.
    """
    if name == WORLD:
        from eval.world.benchmark import world_tasks

        unknown = set(options) - {"pictures"}
        if unknown:
            raise UsageError(f"world has no option '{min(unknown)}'; it has: pictures.")
        count = options.get("pictures", str(WORLD_PICTURES))
        if not count.isdecimal() or int(count) < 100:
            raise UsageError(f"pictures={count}: give a whole number from 100 on.")
        return world_tasks(data or place, int(count), seed, WORLD_SIZE, progress=progress)
    if name == FOLDER:
        return _folder_tasks(data, options, partial)
    names = benchmark_names()
    if name not in names:
        meant = similar_names(name, [WORLD, FOLDER, *names])
        raise UsageError(
            f"There is no benchmark '{name}'; there are {WORLD}, {FOLDER}, "
            f"{', '.join(names)}{meant}."
        )
    benchmark = find_benchmark(name)
    benchmark.check(options)
    if data is None:
        raise UsageError(
            f"{name} needs its data; name their folder with --data (`cies bench list {name}` says "
            "what it holds and where to get it)."
        )
    given: dict[str, Any] = dict(options)  # all values are texts, and the names are checked
    return (benchmark.load(data, partial=partial, **given),)


def _folder_tasks(data: Path | None, options: Mapping[str, str], partial: bool) -> tuple[Task, ...]:
    """Return the tasks of a user's folder, one for each file that it has."""
    if data is None:
        raise UsageError("folder needs a folder; name one that has a labels.csv with --data.")
    forms = [form for form, file in _FOLDER_FILES.items() if (data / file).is_file()]
    if not forms:
        raise UsageError(
            f"{data} has neither labels.csv nor triplets.csv; name a folder that has one."
        )
    benchmarks = [find_benchmark(form) for form in forms]
    for option in options:
        if not any(option in benchmark.option_names for benchmark in benchmarks):
            names = dict.fromkeys(n for one in benchmarks for n in sorted(one.option_names))
            raise UsageError(
                f"{data}, which has {' and '.join(_FOLDER_FILES[form] for form in forms)}, has no "
                f"option '{option}'; it has: {', '.join(names)}."
            )
    tasks = []
    for benchmark in benchmarks:
        given: dict[str, Any] = {n: v for n, v in options.items() if n in benchmark.option_names}
        tasks.append(benchmark.load(data, partial=partial, **given))
    return tuple(tasks)
