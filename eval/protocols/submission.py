"""Writes and checks the files that evaluation servers of held-back test splits take.

CIRCO takes one JSON object of question to 50 picture numbers. CIRR takes two, of pair to the names
of 50 pictures in the whole gallery, and of 3 within the pair's group. Their servers refuse files
with missing keys or repeated pictures, so both are checked here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from eval.tasks import QueryTask, TaskQuery
from indexes.errors import DataError, UsageError
from indexes.files import write_atomic
from indexes.outputs import check_output

#: Pictures for each question: of the whole gallery, and of CIRR's groups.
WHOLE, GROUP = 50, 3

#: Largest file that CIRR's server takes.
_CIRR_BYTES = 5_000_000

_CIRCO_QUESTIONS = 800
_CIRR_QUESTIONS = 4148

#: CIRR's names of its two files, to pictures for each pair.
_METRICS = {"recall": WHOLE, "recall_subset": GROUP}

Rankings = Mapping[str, Sequence[str]]


def write_submission(
    task: QueryTask,
    rankings: Rankings,
    folder: Path,
    groups: Rankings | None = None,
    force: bool = False,
) -> tuple[Path, ...]:
    """Write the files that a server takes, and check them.

    Args:
        task: a held-back split, with its ``submission``.
        rankings: question to ids of pictures, best first, at least 50 that are not excluded.
        folder: the folder of the files; earlier files of the same names are replaced.
        groups: for CIRR, pair to the ids of its group, best first; by default in the order of
            ``rankings``, which must then have them all.
        force: replace files that CIES did not make.

    Returns:
        The files: ``circo-test.json``, or ``cirr-test1-recall.json`` and
        ``cirr-test1-recall_subset.json``.

    Raises:
        UsageError: if the task has no server, or a ranking is missing or too short.
    """
    if len(task.parts) != 1 or task.submission not in ("circo", "cirr"):
        raise UsageError(f"{task.name} is not submitted to a server; its answers are public.")
    queries = task.parts[0].queries
    missing = [query.id for query in queries if query.id not in rankings]
    if missing:
        raise UsageError(
            f"{len(missing)} questions of {task.name} have no ranking, such as {missing[0]}; "
            "finish the run first."
        )
    if task.submission == "circo":
        path = folder / f"{task.name}.json"
        document: dict[str, Any] = {
            query.id: [_number(key) for key in _best(query, rankings[query.id], WHOLE)]
            for query in queries
        }
        check_output(path, force)
        _save(path, document)
        check_submission(path, task)
        return (path,)
    paths = []
    for metric, count in _METRICS.items():
        document = {"version": "rc2", "metric": metric}
        for query in queries:
            ranked = rankings[query.id]
            if metric == "recall_subset":
                group = set(query.group)
                ranked = [key for key in (groups or rankings)[query.id] if key in group]
            document[query.id] = [_name(key) for key in _best(query, ranked, count)]
        paths.append(folder / f"{task.name}-{metric}.json")
        check_output(paths[-1], force)
        _save(paths[-1], document)
        check_submission(paths[-1], task)
    return tuple(paths)


def _best(query: TaskQuery, ranked: Sequence[str], count: int) -> list[str]:
    best = list(islice((key for key in ranked if key not in query.exclude), count))
    if len(best) < count:
        raise UsageError(
            f"Question {query.id} has {len(best)} ranked pictures and the server takes {count}; "
            "keep more of each ranking."
        )
    return best


def _save(path: Path, document: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(document).encode())


def _number(key: str) -> int:
    """Return COCO's number of a picture, from its file's name."""
    return int(PurePosixPath(key).stem)


def _name(key: str) -> str:
    """Return NLVR2's name of a picture: its file's name without the suffix."""
    return PurePosixPath(key).stem


def check_submission(path: Path, task: QueryTask | None = None) -> str:
    """Check a file before it is submitted.

    Args:
        path: the file.
        task: the split, to check pictures and questions against; without it, their published
            numbers are checked.

    Returns:
        One line that describes the file.

    Raises:
        DataError: naming what the server would refuse.
    """
    try:
        content = path.read_bytes()
        document = json.loads(content, object_pairs_hook=_unique_keys)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {(error.strerror or '').lower()}.") from error
    except _RepeatedKeyError as error:
        raise DataError(f"{path} has the question {error} twice; write it once.") from error
    except ValueError as error:
        raise DataError(f"{path} is cut short or damaged (not JSON); write it again.") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} is not a JSON object of questions to pictures; write it again.")
    if "metric" in document or "version" in document:
        return _check_cirr(path, document, len(content), task)
    return _check_circo(path, document, task)


class _RepeatedKeyError(Exception):
    """An object has a key twice; the message is the key."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return found


def _check_circo(path: Path, document: Mapping[str, Any], task: QueryTask | None) -> str:
    queries = _queries(path, task, "circo")
    wanted = set(queries) if queries else {str(number) for number in range(_CIRCO_QUESTIONS)}
    _check_keys(path, document, wanted)
    known = {_number(key) for key in task.parts[0].gallery} if task else None
    for question, pictures in document.items():
        _check_list(path, question, pictures, WHOLE, _is_number)
        for picture in pictures:
            if known is not None and picture not in known:
                raise DataError(
                    f"{path}, question {question}: {picture} is not a picture of the gallery; "
                    "submit COCO's numbers."
                )
    return f"CIRCO test, {len(document)} questions of {WHOLE} pictures"


def _check_cirr(path: Path, document: Mapping[str, Any], size: int, task: QueryTask | None) -> str:
    if document.get("version") != "rc2":
        raise DataError(f'{path} must say "version": "rc2"; add it.')
    metric = document.get("metric")
    if metric not in _METRICS:
        raise DataError(f'{path} must say "metric": "recall" or "recall_subset"; add it.')
    if size > _CIRR_BYTES:
        raise DataError(f"{path} has {size:,} bytes and the server takes 5 MB; write it again.")
    answers = {key: value for key, value in document.items() if key not in ("version", "metric")}
    queries = _queries(path, task, "cirr")
    if queries:
        _check_keys(path, answers, set(queries))
    elif len(answers) != _CIRR_QUESTIONS:
        raise DataError(
            f"{path} has {len(answers):,} pairs in place of {_CIRR_QUESTIONS:,}; submit all of "
            "test1."
        )
    gallery = {_name(key) for key in task.parts[0].gallery} if task else None
    for pair, pictures in answers.items():
        _check_list(path, pair, pictures, _METRICS[metric], _is_name)
        if gallery is None:
            continue
        query = queries[pair]
        allowed = gallery if metric == "recall" else {_name(key) for key in query.group}
        for picture in pictures:
            if picture not in allowed or picture == _name(query.image):
                where = "the gallery" if metric == "recall" else "the pair's group"
                raise DataError(
                    f"{path}, pair {pair}: {picture} is not in {where} without the reference."
                )
    return f"CIRR test1 {metric}, {len(answers):,} pairs of {_METRICS[metric]} pictures"


def _queries(path: Path, task: QueryTask | None, form: str) -> dict[str, TaskQuery]:
    if task is not None and task.submission != form:
        raise DataError(f"{path} is a file for {form}, and {task.name} is not; name its data.")
    return {query.id: query for query in task.parts[0].queries} if task else {}


def _check_keys(path: Path, document: Mapping[str, Any], wanted: set[str]) -> None:
    missing = sorted(wanted - set(document))
    if missing:
        raise DataError(
            f"{path} lacks {len(missing):,} of {len(wanted):,} questions, such as {missing[0]}; "
            "submit all."
        )
    unknown = sorted(set(document) - wanted)
    if unknown:
        raise DataError(
            f"{path} has the question {unknown[0]}, which does not exist; leave it out."
        )


def _check_list(
    path: Path, question: str, pictures: object, count: int, right: Callable[[object], bool]
) -> None:
    if not isinstance(pictures, list) or len(pictures) != count:
        found = len(pictures) if isinstance(pictures, list) else "no list of"
        raise DataError(f"{path}, question {question}: {found} pictures in place of {count}.")
    for picture in pictures:
        if not right(picture):
            raise DataError(f"{path}, question {question}: {picture!r} is not the id of a picture.")
    if len(set(pictures)) < count:
        raise DataError(f"{path}, question {question}: a picture is repeated; name each once.")


def _is_number(picture: object) -> bool:
    return isinstance(picture, int) and not isinstance(picture, bool)


def _is_name(picture: object) -> bool:
    return isinstance(picture, str) and bool(picture)
