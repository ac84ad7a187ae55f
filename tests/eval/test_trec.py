"""Rankings and right answers are written and read in the TREC format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.adapters.trec import read_qrels, read_run, write_qrels, write_run
from indexes.errors import UsageError

NAMES = st.text(min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.floats(-1, 1), min_size=1), max_size=3))
def test_runs_round_trip(tmp_path_factory: pytest.TempPathFactory, given) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.txt"
    run = {
        query: sorted(answers.items(), key=lambda answer: -answer[1])
        for query, answers in given.items()
    }
    write_run(path, run, "a tag")
    assert read_run(path) == run
    for line in path.read_bytes().splitlines():
        assert len(line.split(b" ")) == 6


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers(0, 3), min_size=1), max_size=3))
def test_qrels_round_trip(tmp_path_factory: pytest.TempPathFactory, given) -> None:
    path = tmp_path_factory.mktemp("trec") / "qrels.txt"
    write_qrels(path, given)
    assert read_qrels(path) == given


def test_file_format(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"1": [("a b%.jpg", np.float32(0.5)), ("c", 0.25)]}, "cies")
    assert (tmp_path / "run").read_text() == "1 Q0 a%20b%25.jpg 1 0.5 cies\n1 Q0 c 2 0.25 cies\n"
    write_qrels(tmp_path / "qrels", {"1": {"a b%.jpg": 2.0}})
    assert (tmp_path / "qrels").read_text() == "1 0 a%20b%25.jpg 2\n"
    bytes_of_a_name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    write_qrels(tmp_path / "qrels", {"1": {bytes_of_a_name: 1}})
    assert read_qrels(tmp_path / "qrels") == {"1": {bytes_of_a_name: 1}}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"1": [("a", 0.1), ("b", 0.2)]}, "must be finite and fall, and at place 2 is 0.2"),
        ({"1": [("a", float("nan"))]}, "must be finite"),
        ({"1": [("a", 0.2), ("a", 0.1)]}, "names 'a' twice"),
        ({"": [("a", 0.2)]}, "an empty name"),
    ],
)
def test_an_invalid_run_does_not_replace_the_file(tmp_path: Path, run, message: str) -> None:
    path = tmp_path / "run.txt"
    path.write_text("before")
    with pytest.raises(UsageError, match=message):
        write_run(path, run, "tag")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 Q0 a 1 0.5\n", "line 1: 5 fields where 6"),
        ("1 Q0 a 1 0.5 t\n1 Q0 a 2 0.4 t\n", "line 2: a is repeated"),
        ("\n1 Q0 a 1 high t\n", "line 2: 'high' is not a number"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_run(tmp_path / "run")


def test_other_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gain of 0\.5"):
        write_qrels(tmp_path / "qrels", {"1": {"a": 0.5}})
    (tmp_path / "qrels").write_text("1 0 a 0.5\n")
    with pytest.raises(UsageError, match="not a whole number"):
        read_qrels(tmp_path / "qrels")
    with pytest.raises(UsageError, match="Cannot read"):
        read_run(tmp_path / "nothing")
    with pytest.raises(UsageError, match="Cannot write"):
        write_qrels(tmp_path / "no folder" / "qrels", {})
