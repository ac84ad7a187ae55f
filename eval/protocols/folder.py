"""Benchmarks of a user's folder: pictures with a ``labels.csv`` or a ``triplets.csv``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from eval.labels import read_labels, read_triplets
from eval.protocols.data_folder import BenchmarkFolder
from eval.protocols.protocol import Protocol, ProtocolOption
from eval.tasks import BenchmarkSource, LabelTask, QueryTask, Task, TaskPart, TaskQuery

SOURCE = BenchmarkSource(
    title="a folder of your own",
    link="docs/benchmarks.md",
    licence="your own",
    note="what the file must hold",
)

_CONDITIONS = ProtocolOption(
    "conditions",
    "columns to judge by, each with its condition if that differs from the column's name: "
    "'color, weight=line weight of the drawing'; by default every column that has a value twice",
)


def _conditions(data: BenchmarkFolder, text: str, columns: tuple[str, ...]) -> dict[str, str]:
    """Return columns to the conditions they are searched under."""
    conditions = {}
    for part in text.split(","):
        column, _, phrase = (word.strip() for word in part.partition("="))
        if column not in columns:
            raise data.error(
                f"there is no column '{column}' to judge by (there are {', '.join(columns)})"
            )
        conditions[column] = phrase or column.replace("_", " ")
    return conditions


def _pictures(data: BenchmarkFolder, names: Mapping[str, None], where: Path) -> dict[str, Path]:
    """Return names in the file to pictures, which are below ``images/`` or beside the file."""
    from ingest.read.formats import SUFFIXES

    below = data.folder / "images"
    root = below if below.is_dir() else data.folder
    found = data.existing_pictures({name: data.path_below(root, name, where) for name in names})
    used = set(found.values())
    others = sum(
        path.suffix.lower() in SUFFIXES and path not in used
        for folder, _, files in os.walk(root)
        for path in map(Path(folder).joinpath, files)
    )
    if others:
        data.notes.append(f"{others:,} other pictures of the folder are not in {where.name}.")
    return found


def _read_labels(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    path = data.find("labels.csv")
    data.read(path)
    found = read_labels(path)
    pictures = _pictures(data, dict.fromkeys(found.values), path)
    data.check_count("pictures", len(pictures))
    ids = {name: data.id_of(picture) for name, picture in pictures.items()}
    left_out = options["leave_out"]
    if left_out and left_out not in found.columns:
        raise data.error(
            f"{path} has no column '{left_out}' to leave out (it has {', '.join(found.columns)})"
        )
    columns = tuple(name for name in found.columns if name != left_out)
    conditions = _conditions(data, options["conditions"] or ",".join(columns), columns)
    labels = {}
    for column, condition in conditions.items():
        values = {ids[n]: found.values[n][column] for n in ids if found.values[n][column]}
        if max(Counter(values.values()).values(), default=0) < 2:
            if options["conditions"]:
                raise data.error(f"{path} has no value of '{column}' for two pictures")
            data.notes.append(f"Column '{column}' has no value for two pictures; left out.")
            continue
        labels[condition] = {key: (value,) for key, value in values.items()}
    if not labels:
        raise data.error(f"{path} has no column with a value for two pictures")
    views = {ids[n]: found.values[n][left_out] for n in ids} if left_out else {}
    return LabelTask(
        data.task_name(
            f"{data.folder.resolve().name}-labels" + (f"-without-{left_out}" if left_out else "")
        ),
        data.source,
        {ids[name]: picture for name, picture in pictures.items()},
        labels,
        views={key: value for key, value in views.items() if value},
        notes=tuple(data.notes),
        files=data.files,
    )


def _read_triplets(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    path = data.find("triplets.csv")
    data.read(path)
    triplets = read_triplets(path)
    columns = tuple(dict.fromkeys(triplet.condition for triplet in triplets))
    conditions = _conditions(data, options["conditions"] or ",".join(columns), columns)
    chosen = [t for t in triplets if t.condition in conditions]
    names = dict.fromkeys(name for t in chosen for name in t.files)
    pictures = _pictures(data, names, path)
    ids = {name: data.id_of(picture) for name, picture in pictures.items()}
    parts: dict[str, list[TaskQuery]] = {}
    for number, triplet in enumerate(triplets, start=2):
        if triplet.condition not in conditions:
            continue
        if len(set(triplet.files)) < 3:
            raise data.error(f"{path}, line {number} names one picture twice")
        if not all(name in ids for name in triplet.files):
            continue
        query, positive, negative = (ids[name] for name in triplet.files)
        parts.setdefault(f"{triplet.pair}: {triplet.condition}", []).append(
            TaskQuery(
                id=str(number),
                image=query,
                text=conditions[triplet.condition],
                relevant={positive: 1.0},
                gallery=(positive, negative),
            )
        )
    data.check_count("triplets", sum(len(queries) for queries in parts.values()))
    data.notes.append(
        "Each question has two candidates, so that R@1 with ties in expectation is the share of "
        "triplets answered correctly; chance is one half."
    )
    return QueryTask(
        data.task_name(f"{data.folder.resolve().name}-triplets"),
        data.source,
        {ids[name]: picture for name, picture in pictures.items()},
        tuple(
            TaskPart(
                name, tuple(queries), tuple(sorted({k for q in queries for k in q.gallery or ()}))
            )
            for name, queries in parts.items()
        ),
        ("R@1",),
        notes=tuple(data.notes),
        files=data.files,
        conditions=True,
    )


PROTOCOLS = (
    Protocol(
        name="labels",
        about="any folder with labels.csv: a column 'file', then one column a label",
        source=SOURCE,
        files=("labels.csv", "images/ (or the pictures beside it)"),
        reader=_read_labels,
        options=(
            _CONDITIONS,
            ProtocolOption(
                "leave_out",
                "a column; others with the query's value of it are not ranked, because they show "
                "the same thing",
            ),
        ),
    ),
    Protocol(
        name="triplets",
        about="any folder with triplets.csv: which of two is more similar under a condition",
        source=SOURCE,
        files=("triplets.csv", "images/ (or the pictures beside it)"),
        reader=_read_triplets,
        options=(_CONDITIONS,),
    ),
)
