"""The contract that every registered benchmark fulfils, and benchmarks of other packages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from support import published

from eval.benchmarks import tasks_of
from eval.protocols import registry
from eval.protocols.protocol import Protocol
from eval.protocols.registry import PROTOCOLS, all_benchmarks, benchmark_names, find_benchmark
from eval.runs.measuring import measure
from eval.runs.run import RANDOM, Run
from eval.runs.run_encoders import run_encoders
from eval.runs.task_files import task_digest, task_from_json, task_to_json
from eval.tasks import LabelTask, Task
from indexes.errors import CiesError, DataError, UsageError

#: A benchmark of another package, by an entry point that refers to this module.
PLUGIN = replace(PROTOCOLS["labels"], name="plugin")
MISNAMED = replace(PLUGIN, name="other")
NOT_A_PROTOCOL = "a text"

NAMES = [*PROTOCOLS, PLUGIN.name]


def add_entry_points(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    points = [EntryPoint(name, value, registry.GROUP) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    add_entry_points(monkeypatch, plugin=f"{__name__}:PLUGIN")


def built(name: str, folder: Path) -> Task:
    build = published.BUILDERS["labels" if name == PLUGIN.name else name]
    return find_benchmark(name).load(build(folder), expected=published.ANY)


def right_answers(task: Task) -> Iterator[tuple[str, set[str], set[str]]]:
    """Yield each query, its candidates and its right answers."""
    if isinstance(task, LabelTask):
        for labels in task.labels.values():
            candidates = {key for key in task.gallery or task.images if labels.get(key)}
            for query in task.queries or task.images:
                if labels.get(query):
                    others = candidates - {query}
                    yield (
                        query,
                        others,
                        {key for key in others if set(labels[key]) & set(labels[query])},
                    )
        return
    for part in task.parts:
        for query in part.queries:
            gallery = part.gallery if query.gallery is None else query.gallery
            yield query.id, set(gallery) - set(query.exclude), set(query.relevant)


def test_every_benchmark_has_a_small_folder() -> None:
    assert published.BUILDERS.keys() == PROTOCOLS.keys()


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_has_queries_answers_and_chance(name: str, tmp_path: Path) -> None:
    assert name in benchmark_names()
    task = built(name, tmp_path / "data")
    assert task.source.title and task.source.link and task.source.licence
    assert all(path.is_file() for path in task.images.values())
    queries = list(right_answers(task))
    assert queries and any(right for _, _, right in queries)
    assert all(right <= candidates for _, candidates, right in queries)
    # The task survives its file in a run folder.
    again = task_from_json(task_to_json(task))
    assert task_digest(again) == task_digest(task)

    run = Run.begin(tmp_path / "run", name, {}, (task,))
    run_encoders(run, [])
    figures = [f for f in measure(run) if f.system == RANDOM and f.own]
    headline = task.headline if isinstance(task, LabelTask) else task.metrics[0]
    chance = [f.chance for f in figures if f.metric == headline]
    assert chance and np.isfinite(chance).all() and min(chance) > 0 and max(chance) <= 1
    # Intervals are computed in float32.
    assert all(f.low - 1e-6 <= f.value <= f.high + 1e-6 for f in figures)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", NAMES)
def test_unknown_files_and_options_are_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing of a benchmark")
    published.picture(tmp_path / "photo.jpg")
    benchmark = find_benchmark(name)
    with pytest.raises(DataError) as caught:
        benchmark.load(tmp_path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{name}: ") and benchmark.source.link in sentence
    assert sentence.endswith(".") and "\n" not in sentence and str(tmp_path) in sentence
    with pytest.raises(UsageError, match=f"{name} has no option 'nonsense'; it has: "):
        benchmark.load(tmp_path, nonsense="x")


@pytest.mark.usefixtures("plugin")
def test_a_benchmark_of_another_package_runs_by_name(tmp_path: Path) -> None:
    (task,) = tasks_of(
        "plugin", published.labels(tmp_path), {"conditions": "color=hue"}, False, 0, tmp_path
    )
    assert isinstance(task, LabelTask) and list(task.labels) == ["hue"]
    assert all_benchmarks(pytest.fail)[-1] is PLUGIN
    with pytest.raises(UsageError, match=r"no benchmark 'nothing'; there are .*, sorce, plugin"):
        find_benchmark("nothing")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_package:PROTOCOL", "No module named 'no_such_package'"),
        (f"{__name__}:NOT_A_PROTOCOL", "is not an eval.protocols.protocol.Protocol"),
        (f"{__name__}:MISNAMED", "has the name other"),
    ],
)
def test_a_broken_package_is_named(
    value: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_entry_points(monkeypatch, broken=value)
    # Built-in benchmarks do not import it.
    assert isinstance(find_benchmark("circo"), Protocol)
    with pytest.raises(CiesError, match="The benchmark broken of the package") as caught:
        tasks_of("broken", tmp_path, {}, False, 0, tmp_path)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    # The others are still listed.
    warnings: list[str] = []
    assert all_benchmarks(warnings.append) == list(PROTOCOLS.values())
    assert len(warnings) == 1 and reason in warnings[0]
