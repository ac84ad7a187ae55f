"""Every kind of benchmark, from published files to figures, and with damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support import published

from eval.protocols.data_folder import Expected
from eval.protocols.registry import find_benchmark
from eval.runs.measuring import measure
from eval.runs.run import RANDOM, Run
from eval.runs.run_encoders import run_encoders
from eval.tasks import LabelTask
from indexes.errors import DataError

Build = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("name", "build", "options", "chance"),
    [
        # Of two others one is right, for the two of three pictures that have such a one.
        ("clevr4", published.clevr4, {}, {("color", "P@1"): 1 / 2}),
        ("cub200", published.cub200, {}, {("bird species", "P@1"): (3 * 2 / 4 + 2 * 1 / 4) / 5}),
        # Of two in the index one is right, for the one of two that has such a one.
        ("uned-met", lambda f: published.uned(f, "met", True), {}, {("artwork", "R@1"): 1 / 2}),
        ("genecis", published.genecis, {"tasks": "objects"}, {("focus_object", "R@2"): 2 / 3}),
        ("circo", published.circo, {"answers": "target"}, {("", "R@5"): 5 / 60}),
        ("circo", published.circo, {"parts": "aspects"}, {}),
        # Of 59 without the reference, and of five in the group.
        ("cirr", published.cirr, {}, {("", "R@10"): 10 / 59, ("", "subset recall@1"): 1 / 5}),
        ("fashioniq", published.fashioniq, {}, {("dress", "R@10"): 1.0}),
        ("inquire", published.inquire, {}, {}),
        (
            "inquire-rerank",
            published.inquire_rerank,
            {},
            {("", "MRR@100"): (1 + 1 / 2 + 1 / 3) / 3},
        ),
        # Of six, less the same picture at two other zooms.
        ("sorce", published.sorce, {}, {("hard", "R@1"): 1 / 4}),
    ],
)
def test_from_published_files_to_figures(
    name: str,
    build: Build,
    options: dict[str, str],
    chance: dict[tuple[str, str], float],
    tmp_path: Path,
) -> None:
    task = find_benchmark(name).load(build(tmp_path / "data"), expected=Expected(), **options)
    run = Run.begin(tmp_path / "run", name, options, (task,))
    run_encoders(run, [])
    figures = measure(run)
    metrics = {figure.metric for figure in figures}
    if isinstance(task, LabelTask):
        assert {task.headline, *task.metrics} <= metrics
        assert {figure.row for figure in figures} == set(task.labels)
    else:
        assert set(task.metrics) <= metrics
        assert {figure.row for figure in figures} == {part.name for part in task.parts}
    found = {(f.row, f.metric): f.chance for f in figures if f.system == RANDOM and f.own}
    assert {key: found[key] for key in chance} == pytest.approx(chance)


@pytest.mark.parametrize(
    ("name", "build", "split"),
    [
        ("circo", published.circo, "test"),
        ("cirr", lambda folder: published.cirr(folder, "test1"), "test1"),
    ],
)
def test_held_back_answers_give_no_figures(
    name: str, build: Build, split: str, tmp_path: Path
) -> None:
    task = find_benchmark(name).load(build(tmp_path / "data"), expected=Expected(), split=split)
    run = Run.begin(tmp_path / "run", name, {"split": split}, (task,))
    run_encoders(run, [])
    assert measure(run) == []


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner:
        yield (*path, key)
        if isinstance(one, dict | list):
            yield from _places(one, (*path, key))


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("clevr4", published.clevr4),
        ("uned-met", lambda folder: published.uned(folder, "met", True)),
        ("genecis", published.genecis),
        ("circo", published.circo),
        ("cirr", published.cirr),
        ("fashioniq", published.fashioniq),
    ],
)
def test_any_value_in_a_json_file_is_read_or_named(name: str, build: Build, tmp_path: Path) -> None:
    folder = build(tmp_path)
    random = Random(0)
    told = 0
    for file in sorted(folder.rglob("*.json")):
        text = file.read_text(encoding="utf-8")
        places = list(_places(json.loads(text)))
        for path in random.sample(places, min(12, len(places))):
            content = json.loads(text)
            inner = content
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = random.choice([None, 5, -1.5, "x", "", [], {}, [1], True])
            file.write_text(json.dumps(content), encoding="utf-8")
            try:
                find_benchmark(name).load(
                    folder, expected=Expected(), partial=random.random() < 0.5
                )
            except DataError:
                told += 1
        file.write_text(text, encoding="utf-8")
    assert told > 5


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("movie_posters", published.movie_posters),
        ("deepfashion", published.deepfashion),
        ("synthetic_cars", published.synthetic_cars),
        ("inquire", published.inquire),
        ("inquire-rerank", published.inquire_rerank),
        ("sorce", published.sorce),
    ],
)
def test_a_table_cut_anywhere_is_read_or_named(name: str, build: Build, tmp_path: Path) -> None:
    folder = build(tmp_path)
    random = Random(0)
    told = 0
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.suffix not in (".csv", ".tsv", ".jsonl", ".parquet"):
            continue
        whole = file.read_bytes()
        for _ in range(15):
            file.write_bytes(whole[: random.randrange(len(whole))])
            try:
                find_benchmark(name).load(folder, expected=Expected())
            except DataError:
                told += 1
        file.write_bytes(whole)
    assert told > 5
