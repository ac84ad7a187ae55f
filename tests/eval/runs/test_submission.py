"""Submissions of held-back splits are written from a run and checked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import published
from support.published import change, load

from cies.cli.app import app
from eval.protocols.submission import check_submission, write_submission
from eval.runs.baselines import RandomVectors
from eval.runs.run import Run
from eval.runs.run_encoders import run_encoders
from eval.tasks import QueryTask
from indexes.errors import DataError, UsageError


def ranked(task: QueryTask) -> dict[str, list[str]]:
    """Return one order of the whole gallery for every question."""
    return {query.id: list(task.parts[0].gallery) for query in task.parts[0].queries}


def test_circo_submission_has_50_numbers_for_each_question(tmp_path: Path) -> None:
    task = load("circo", published.circo(tmp_path), split="test")
    assert task.parts[0].queries[0].relevant == {}
    (path,) = write_submission(task, ranked(task), tmp_path / "out")
    document = json.loads(path.read_text())
    assert path.name == "circo-test.json" and list(document) == ["0", "1"]
    assert document["1"] == list(range(1, 51))
    assert check_submission(path, task) == "CIRCO test, 2 questions of 50 pictures"
    with pytest.raises(DataError, match="lacks 798 of 800 questions, such as 10"):
        check_submission(path)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda d: {**d, "1": d["1"][:49]}, "question 1: 49 pictures in place of 50"),
        (lambda d: {**d, "1": [*d["1"][:49], 1]}, "question 1: a picture is repeated"),
        (lambda d: {"0": d["0"]}, "lacks 1 of 2 questions, such as 1"),
        (lambda d: {**d, "2": d["1"]}, "has the question 2, which does not exist"),
        (lambda d: {**d, "1": ["000.jpg", *d["1"][1:]]}, "'000.jpg' is not the id of a picture"),
        (lambda d: {**d, "1": [999, *d["1"][1:]]}, "999 is not a picture of the gallery"),
        (lambda d: {**d, "1": 3}, "no list of pictures in place of 50"),
        (lambda d: [d], "is not a JSON object"),
    ],
)
def test_invalid_circo_submissions_are_refused(tmp_path: Path, edit: Any, sentence: str) -> None:
    task = load("circo", published.circo(tmp_path), split="test")
    (path,) = write_submission(task, ranked(task), tmp_path / "out")
    change(path, edit)
    with pytest.raises(DataError, match=sentence):
        check_submission(path, task)


def test_repeated_questions_and_cut_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "circo.json"
    path.write_text('{"0": [1], "0": [2]}')
    with pytest.raises(DataError, match="has the question 0 twice"):
        check_submission(path)
    path.write_text('{"0": [1], "1": [')
    with pytest.raises(DataError, match="cut short or damaged"):
        check_submission(path)
    with pytest.raises(DataError, match="Cannot read"):
        check_submission(tmp_path / "gone.json")


def test_cirr_submission_has_two_files(tmp_path: Path) -> None:
    task = load("cirr", published.cirr(tmp_path, "test1"), split="test1")
    whole, group = write_submission(task, ranked(task), tmp_path / "out")
    document = json.loads(whole.read_text())
    assert (document["version"], document["metric"]) == ("rc2", "recall")
    # The reference, first of the gallery, is not submitted.
    assert document["12060"] == [f"test1-{n}-0-img0" for n in range(1, 51)]
    document = json.loads(group.read_text())
    assert document["metric"] == "recall_subset"
    assert document["12060"] == ["test1-1-0-img0", "test1-2-0-img0", "test1-3-0-img0"]
    order = {"12060": [f"test1/test1-{n}-0-img0.png" for n in (5, 4, 3, 2, 1)]}
    _, group = write_submission(task, ranked(task), tmp_path / "out", groups=order)
    assert json.loads(group.read_text())["12060"][0] == "test1-5-0-img0"
    assert check_submission(group, task) == "CIRR test1 recall_subset, 1 pairs of 3 pictures"


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda d: {**d, "version": "rc1"}, 'must say "version": "rc2"'),
        (lambda d: {**d, "metric": "mAP"}, 'must say "metric"'),
        (lambda d: {"version": "rc2", "metric": "recall"}, "lacks 1 of 1 questions"),
        (lambda d: {**d, "12060": d["12060"][:3]}, "3 pictures in place of 50"),
        (lambda d: {**d, "12060": d["12060"][:49] * 1 + d["12060"][:1]}, "is repeated"),
        (
            lambda d: {**d, "12060": [*d["12060"][:49], "test1-0-0-img0"]},
            "test1-0-0-img0 is not in the gallery without the reference",
        ),
        (
            lambda d: {**d, "metric": "recall_subset", "12060": ["test1-9-0-img0"] * 3},
            "is repeated",
        ),
        (
            lambda d: {**d, "metric": "recall_subset", "12060": d["12060"][4:7]},
            "test1-6-0-img0 is not in the pair's group",
        ),
    ],
)
def test_invalid_cirr_submissions_are_refused(tmp_path: Path, edit: Any, sentence: str) -> None:
    task = load("cirr", published.cirr(tmp_path, "test1"), split="test1")
    whole, _ = write_submission(task, ranked(task), tmp_path / "out")
    change(whole, edit)
    with pytest.raises(DataError, match=re.escape(sentence)):
        check_submission(whole, task)


def test_only_complete_runs_of_held_back_splits_are_submitted(tmp_path: Path) -> None:
    folder = published.circo(tmp_path)
    with pytest.raises(UsageError, match="is not submitted to a server"):
        write_submission(load("circo", folder), {}, tmp_path)
    task = load("circo", folder, split="test")
    with pytest.raises(UsageError, match="1 questions of circo-test have no ranking, such as 1"):
        write_submission(task, {"0": ranked(task)["0"]}, tmp_path)
    short = {key: ids[:49] for key, ids in ranked(task).items()}
    with pytest.raises(
        UsageError, match="Question 0 has 49 ranked pictures and the server takes 50"
    ):
        write_submission(task, short, tmp_path)


def test_the_command_checks_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [f"test1-{n}-0-img0" for n in range(3)]
    document = {"version": "rc2", "metric": "recall_subset"}
    path = tmp_path / "submission.json"
    published.write_json(path, {**document, **{str(n): pictures for n in range(4148)}})
    app(["bench", "check", str(path)], standalone_mode=False)
    assert capsys.readouterr().out == "CIRR test1 recall_subset, 4,148 pairs of 3 pictures\n"
    published.write_json(path, {**document, **{str(n): pictures for n in range(4147)}})
    with pytest.raises(DataError, match="has 4,147 pairs in place of 4,148"):
        app(["bench", "check", str(path)], standalone_mode=False)


def test_a_runs_answers_are_submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = load("cirr", published.cirr(tmp_path, "test1"), split="test1")
    run = Run.begin(tmp_path / "run", "cirr", {"split": "test1"}, (task,), seed=3)
    run_encoders(run, [])
    # With the baselines alone, one must be named.
    with pytest.raises(UsageError, match="name one as RUN:NAME, of random, "):
        app(["bench", "submit", str(tmp_path / "run")], standalone_mode=False)
    out = tmp_path / "out"
    words = ["bench", "submit", f"{tmp_path / 'run'}:random", "-o", str(out)]
    app(words, standalone_mode=False)
    whole, group = (Path(line) for line in capsys.readouterr().out.splitlines())
    (query,) = task.parts[0].queries
    names = json.loads(whole.read_text())[query.id]
    # Random directions, in the order of their cosines with the question's own.
    keys = [key for key in task.parts[0].gallery if key != query.image]
    seeded = RandomVectors(3)
    asked = seeded.vectors("", [query.id], "questions")[0]
    order = np.argsort(-(seeded.vectors("", keys) @ asked))
    assert names == [Path(keys[at]).stem for at in order[:50]]
    inside = [
        name
        for name in (Path(keys[at]).stem for at in order)
        if name in set(map(stem, query.group))
    ]
    assert json.loads(group.read_text())[query.id] == inside[:3]


def test_a_run_with_public_answers_has_nothing_to_submit(tmp_path: Path) -> None:
    task = load("cirr", published.cirr(tmp_path))
    Run.begin(tmp_path / "run", "cirr", {}, (task,))
    with pytest.raises(UsageError, match="has nothing to submit, its answers are public"):
        app(["bench", "submit", str(tmp_path / "run")], standalone_mode=False)


def stem(key: str) -> str:
    return Path(key).stem
