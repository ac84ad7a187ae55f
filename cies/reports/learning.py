"""``cies conditions learn``: learns a condition from examples, and says how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cies.console import print_document, print_table, progress_if_large, say
from cies.learn import learn
from eval.labels import match_files, read_labels
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from query.explore.learning import LearningResult

#: The word that begins another group among the arguments.
GROUP = "--group"


def run_learn(
    gallery_path: Path,
    name: str,
    groups: dict[str, list[str]],
    others: Sequence[str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Learn a condition, store it, and print what matters and how good it is.

    Args:
        gallery_path: the gallery's folder.
        name: the condition.
        groups: name of a group to its pictures.
        others: pictures that belong to no group.
        dry_run: store nothing.
        as_json: print one JSON document.

    Raises:
        CiesError: as :func:`cies.learn.learn`.
    """
    gallery = Gallery.open(gallery_path)
    pictures = len(gallery.image_keys())
    with progress_if_large("Storing", pictures) as progress:
        result = learn(gallery, name, groups, others, dry_run, progress)
    document = _document(gallery, name, groups, result, not dry_run)
    if as_json:
        print_document(document)
    else:
        print_table(
            ["condition", "weight"],
            [[part["condition"], f"{part['weight']:.2f}"] for part in document["weights"]],
            title=f"What '{name}' is made of",
            numbers=["weight"],
        )
    _say_quality(name, result, dry_run)


def groups_of_table(path: Path, column: str | None, gallery_path: Path) -> dict[str, list[str]]:
    """The groups of a label file: the values of one of its columns.

    Args:
        path: the file; see :func:`eval.labels.read_labels`.
        column: the column; may be left out if there is only one.
        gallery_path: the gallery whose pictures it names.

    Raises:
        UsageError: if the file cannot be read, or it is not clear which column is meant.
    """
    labels = read_labels(path)
    if column is None and len(labels.columns) > 1:
        raise UsageError(
            f"{path} has the columns {', '.join(labels.columns)}; say which by --column."
        )
    chosen = column or labels.columns[0]
    if chosen not in labels.columns:
        raise UsageError(f"{path} has no column '{chosen}' (it has: {', '.join(labels.columns)}).")
    gallery = Gallery.open(gallery_path)
    keys = {record.path: record.key for record in gallery.files() if record.status == "done"}
    matched = match_files(labels.values, keys, path)
    groups: dict[str, list[str]] = {}
    for file, stored in matched.items():
        if value := labels.values[file][chosen]:
            groups.setdefault(value, []).append(keys[stored])
    return groups


def groups_of_arguments(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The groups of ``--group [NAME:] PICTURE ... --group ...``.

    Raises:
        UsageError: if a picture stands before the first group, or an option is unknown.
    """
    groups: dict[str, list[str]] = {}
    current: list[str] | None = None
    for argument in arguments:
        if argument == GROUP:
            current = groups[f"group {len(groups) + 1}"] = []
        elif argument.startswith("--"):
            raise UsageError(f"There is no option {argument}; pictures of a group follow --group.")
        elif current is None:
            raise UsageError(
                f"{argument} is in no group; write `--group a.jpg b.jpg --group c.jpg d.jpg`."
            )
        elif argument.endswith(":") and not current:
            last = next(reversed(groups))
            groups[argument[:-1]] = groups.pop(last)
            current = groups[argument[:-1]]
        else:
            current.append(argument)
    return {_group_name(name, pictures): pictures for name, pictures in groups.items()}


def _group_name(name: str, pictures: Sequence[str]) -> str:
    """A group's name: that of the collection, if it is one and was given no other."""
    is_collection = len(pictures) == 1 and pictures[0].startswith("@")
    return pictures[0][1:] if is_collection and name.startswith("group ") else name


def groups_of_folders(folder: Path) -> dict[str, list[str]]:
    """The groups of a folder: each of its subfolders is one.

    Raises:
        UsageError: if it has no subfolders.
    """
    inner = sorted(place for place in folder.iterdir() if place.is_dir()) if folder.is_dir() else []
    if not inner:
        raise UsageError(f"{folder} has no subfolders; each subfolder is a group of pictures.")
    return {
        place.name: [str(file.absolute()) for file in sorted(place.iterdir()) if file.is_file()]
        for place in inner
    }


def _document(
    gallery: Gallery,
    name: str,
    groups: dict[str, list[str]],
    result: LearningResult,
    stored: bool,
) -> dict[str, Any]:
    found = result.validation
    return {
        "gallery": str(gallery.path),
        "condition": name,
        "stored": stored,
        "groups": {group: len(names) for group, names in groups.items()},
        "weights": [
            {
                "condition": part.name,
                "method": part.made_by["method"],
                "model": part.made_by["model"],
                "weight": part.weight,
            }
            for part in sorted(result.learned.parts, key=lambda part: -part.weight)
        ],
        "cross_validation": None
        if found is None
        else {
            "r_precision": found.learned,
            "interval": list(found.interval),
            "equal_weights": found.equal,
            "best_single_condition": found.best_single,
            "chance": found.chance,
            "examples": found.examples,
            "distinguishable": found.distinguishable,
        },
    }


def _say_quality(name: str, result: LearningResult, dry_run: bool) -> None:
    found = result.validation
    if found is None:
        say("There are too few examples to measure how good this is; give three or more a group.")
    else:
        low, high = found.interval
        say(
            f"{found.learned:.2f} (95 % interval {low:.2f} to {high:.2f}) of an example's nearest "
            f"examples share its group; {found.equal:.2f} with equal weights, "
            f"{found.best_single:.2f} by the best single condition, {found.chance:.2f} by chance."
        )
        if not found.distinguishable:
            say(
                "These groups cannot be told apart by what this gallery stores; ingest it under "
                "further conditions or by another model, or give more examples."
            )
    if not dry_run:
        say(f"Search with it: cies search PICTURE -c '{name}'.")
