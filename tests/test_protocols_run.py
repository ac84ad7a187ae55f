"""Every kind of benchmark, from its published files to its figures: asked, stored, measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import published
import pytest

from eval.protocols.published import Expected
from eval.protocols.registry import protocol_of
from eval.runs.asking import ask
from eval.runs.measuring import measure
from eval.runs.run import RANDOM, Run
from eval.tasks import LabelTask

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
    task = protocol_of(name).load(build(tmp_path / "data"), expected=Expected(), **options)
    run = Run.begin(tmp_path / "run", name, options, (task,))
    ask(run, [])
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
    task = protocol_of(name).load(build(tmp_path / "data"), expected=Expected(), split=split)
    run = Run.begin(tmp_path / "run", name, {"split": split}, (task,))
    ask(run, [])
    assert measure(run) == []
