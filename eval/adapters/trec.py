"""Reads and writes TREC run files and qrels, as trec_eval and similar tools use them.

A run has a line ``QUERY Q0 PICTURE PLACE SCORE TAG`` for each answer, a qrels file a line
``QUERY 0 PICTURE GAIN`` for each right one. Fields are separated by spaces; a space in a name is
written ``%20``, and all white space, control characters and ``%`` itself accordingly.

trec_eval sorts a run by score and ignores the places. It sorts equal scores by falling name,
whereas our metrics take the expectation over their orders.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from indexes.errors import UsageError
from indexes.files import replacing

#: Answers to a query, nearest first, each with its score.
Ranking = Sequence[tuple[str, float]]

#: File names may be bytes that are not UTF-8.
_ERRORS = "surrogateescape"

_ESCAPED = re.compile(r"[\s%\x00-\x1f\x7f]")


def write_run(
    path: Path, run: Mapping[str, Ranking] | Iterable[tuple[str, Ranking]], tag: str
) -> None:
    """Write rankings; an existing file is replaced atomically.

    Args:
        path: the path of the file.
        run: query to its ranking with falling scores, as a mapping or as pairs, which may be
            generated; scores keep all digits.
        tag: name of the run.

    Raises:
        UsageError: if a name is empty, a query names a picture twice, or scores rise or are not
            finite numbers.
    """
    pairs = run.items() if isinstance(run, Mapping) else run
    _write(path, _run_lines(path, pairs, tag))


def write_qrels(
    path: Path,
    qrels: Mapping[str, Mapping[str, float]] | Iterable[tuple[str, Mapping[str, float]]],
) -> None:
    """Write right answers; an existing file is replaced atomically.

    Args:
        path: the path of the file.
        qrels: query to picture to gain, as a mapping or as pairs, which may be generated.

    Raises:
        UsageError: if a name is empty, or a gain is not a whole number of at least 0, which is all
            that the format can hold.
    """
    pairs = qrels.items() if isinstance(qrels, Mapping) else qrels
    _write(path, _qrels_lines(path, pairs))


def read_run(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Read rankings: query to its answers by falling score, ties in the order of the file.

    Raises:
        UsageError: if the file cannot be read, a line is malformed, or a query names a picture
            twice.
    """
    run: dict[str, dict[str, float]] = {}
    for number, (query, _, name, _, score, _) in _fields(path, 6):
        answers = run.setdefault(unquote(query), {})
        if unquote(name) in answers:
            raise UsageError(f"{path}, line {number}: {name} is repeated for query {query}.")
        answers[unquote(name)] = _number(path, number, score)
    return {
        query: sorted(answers.items(), key=lambda answer: -answer[1])
        for query, answers in run.items()
    }


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read right answers: query to picture to gain, including gains of 0.

    Raises:
        UsageError: if the file cannot be read, or a line is malformed.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (query, _, name, gain) in _fields(path, 4):
        value = _number(path, number, gain)
        if value != int(value):
            raise UsageError(f"{path}, line {number}: the gain {gain} is not a whole number.")
        qrels.setdefault(unquote(query), {})[unquote(name)] = int(value)
    return qrels


def _run_lines(path: Path, run: Iterable[tuple[str, Ranking]], tag: str) -> Iterator[str]:
    for query, answers in run:
        last, names = math.inf, set()
        for place, (name, score) in enumerate(answers, 1):
            if name in names:
                raise UsageError(f"{path}: query '{query}' names '{name}' twice.")
            if not math.isfinite(score) or score > last:
                raise UsageError(
                    f"{path}: the scores of query '{query}' must be finite and fall, and at "
                    f"place {place} is {score}."
                )
            last = score
            names.add(name)
            yield (
                f"{_field(path, query)} Q0 {_field(path, name)} {place} {float(score)!r} "
                + _field(path, tag)
            )


def _qrels_lines(path: Path, qrels: Iterable[tuple[str, Mapping[str, float]]]) -> Iterator[str]:
    for query, answers in qrels:
        for name, gain in answers.items():
            if gain != int(gain) or gain < 0:
                raise UsageError(
                    f"{path}: query '{query}' has a gain of {gain}; the TREC format holds only "
                    "whole numbers of at least 0."
                )
            yield f"{_field(path, query)} 0 {_field(path, name)} {int(gain)}"


def _field(path: Path, name: str) -> str:
    if not name:
        raise UsageError(f"{path}: an empty name cannot be written; name every query and picture.")
    return _ESCAPED.sub(lambda found: quote(found[0], safe=""), name)


def _write(path: Path, lines: Iterable[str]) -> None:
    try:
        path.parent.stat()  # a missing folder is an error, so that no mistyped one is created
        with (
            replacing(path, durable=False) as temporary,
            temporary.open("w", encoding="utf-8", errors=_ERRORS, newline="\n") as file,
        ):
            file.writelines(line + "\n" for line in lines)
    except OSError as error:
        raise UsageError(
            f"Cannot write {path}: {error.strerror}; choose another folder."
        ) from error


def _fields(path: Path, count: int) -> Iterator[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8", errors=_ERRORS)
    except OSError as error:
        raise UsageError(
            f"Cannot read {path}: {error.strerror}; name a file in the TREC format."
        ) from error
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        if fields and len(fields) != count:
            raise UsageError(
                f"{path}, line {number}: {len(fields)} fields where {count} are expected."
            )
        if fields:
            yield number, fields


def _number(path: Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{path}, line {number}: '{text}' is not a number.")
    return value
