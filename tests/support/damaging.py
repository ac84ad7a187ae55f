"""A small gallery with files of every kind, harm to single files, and what commands make of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow.parquet as pq
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from indexes.errors import CiesError
from indexes.repair import repair
from indexes.store.gallery import Gallery
from indexes.verify import verify
from query.engine import Engine
from query.explore.export import export

PICTURES = 6
CONDITIONS = "color"

#: Everything that a user can see of the gallery.
Answers = dict[str, object]


def make(root: Path) -> Path:
    """A gallery with several commits, deletions, the user's columns, and cached rows."""
    gallery = Gallery.create(root / "gallery")
    lines = ["file,brand"]
    for part in range(2):
        for number in range(part * 3, part * 3 + 3):
            paint(root / "in" / f"{number}.png", number)
            lines.append(f"{number}.png,brand {number % 3}")
        (root / "in" / "table.csv").write_text("\n".join(lines) + "\n")
        ingest(root)
    with gallery.writer() as writer:
        # Replaced rows are rows that were deleted, which a compaction has not removed yet.
        writer.put_files(gallery.files()[:2])
        writer.put_images(gallery.images()[:2])
        for table in gallery.conditions():
            rows = gallery.column(table)
            chances = rows.word_probabilities[:2]
            writer.put_vectors(table, rows.keys[:2], rows.vectors[:2], rows.words[:2], chances)
    Engine(gallery, lambda spec: StandIn()).table_loader(CONDITIONS).build("Flat")
    assert answers(gallery.path)
    return gallery.path


def ingest(root: Path) -> None:
    """Ingest the pictures and the table."""
    gallery = Gallery.open(root / "gallery")
    fill(gallery, root / "in", CONDITIONS, StandIn())
    fill(gallery, root / "in" / "table.csv", CONDITIONS, StandIn())


def copy(root: Path, target: Path) -> Path:
    """A copy to be harmed; files that are never changed in place are links."""

    def copied(source: str, place: str) -> None:
        if source.endswith((".lance", ".manifest", ".txn", ".arrow", ".png", ".f16")):
            os.link(source, place)
        else:
            shutil.copy2(source, place)

    shutil.copytree(root, target, copy_function=copied)
    return target / "gallery"


def answers(place: Path) -> Answers:
    """What a search and an export return."""
    return {**found(place), **exported(place)}


def found(place: Path) -> Answers:
    """The names of the conditions and the pictures, and what a filtered search returns."""
    engine = Engine(Gallery.open(place), lambda spec: StandIn())
    keys = sorted(engine.pictures())
    hits = engine.search(keys[0], CONDITIONS, PICTURES, where="brand >= 'brand 1'")
    return {
        "names": engine.names(),
        "pictures": keys,
        "hits": [
            (Path(hit.path).name, round(hit.score, 4), hit.word, hit.percentile) for hit in hits
        ],
    }


def exported(place: Path) -> Answers:
    """The rows of an export."""
    target = place.parent / "out.parquet"
    export(Engine(Gallery.open(place), lambda spec: StandIn()), CONDITIONS, target)
    rows = pq.read_table(target).to_pylist()
    target.unlink()
    return {
        row["key"]: (Path(row["path"]).name, row["word"], row["brand"], row["vector"])
        for row in rows
    }


def files(place: Path) -> list[Path]:
    """Every live file of a gallery."""
    return sorted(
        path for path in place.rglob("*") if path.is_file() and "quarantine" not in path.parts
    )


def kind(place: Path, path: Path) -> str:
    """Files of one kind are alike: the same table and folder, or the same cached file."""
    parts = path.relative_to(place).parts
    names = [part.partition("-")[0] for part in parts[:-1]]
    return "/".join([*names, path.suffix if path.suffix in (".lance", ".manifest") else ""])


def harm(path: Path, how: str, share: float, bit: int) -> None:
    """Harm a file.

    Args:
        path: the file.
        how: flipped, halved, emptied or deleted.
        share: where a bit is flipped, as a share of the file.
        bit: which bit of the byte is flipped.
    """
    data = bytearray(path.read_bytes())
    path.unlink()  # It may be a link.
    if how == "flipped" and data:
        data[int(share * (len(data) - 1))] ^= 1 << bit
    kept = {"halved": len(data) // 2, "emptied": 0}.get(how, len(data))
    if how != "deleted":
        path.write_bytes(data[:kept])


def said(error: CiesError) -> bool:
    """Whether an error is one sentence that names the way out."""
    text = str(error)
    return "cies repair" in text and "\n" not in text and ". " not in text.rstrip(".")


def attempt(work: Callable[[], object]) -> object:
    """The result of a command, or the error that it says; anything else is a failure."""
    try:
        return work()
    except CiesError as error:
        assert said(error), f"not one sentence with the way out: {error}"
        return error


def read(place: Path, right: Answers, command: Callable[[Path], Answers] = answers) -> str:
    """Searches and exports are right, or say what is damaged."""
    got = attempt(lambda: command(place))
    if isinstance(got, CiesError):
        return "said"
    assert isinstance(got, dict)
    of_search = {"names", "pictures", "hits"}
    parts: dict[Callable[[Path], Answers], Iterable[str]] = {
        found: right.keys() & of_search,
        exported: right.keys() - of_search,
    }
    expected = {key: right[key] for key in parts.get(command, right.keys())}
    assert got == expected, difference(got, expected)
    return "right"


def check(place: Path) -> str:
    """``cies verify`` ends, and finds whatever makes a search say damage."""
    found = verify(place)
    if any(finding.damage for finding in found):
        return "found"
    assert isinstance(attempt(lambda: answers(place)), dict), "verify did not find the damage"
    return "noted" if found else "right"


def mend(place: Path, right: Answers) -> str:
    """``cies repair`` removes the damage, and the next ingest brings everything back."""
    damaged = any(finding.damage for finding in verify(place))
    done = repair(place)
    assert damaged or not done.steps
    assert damage(place) == [], "after the repair"
    ingest(place.parent)
    got = answers(place)
    assert got == right, difference(got, right)
    assert damage(place) == [], "after the ingest"
    return "repaired" if damaged else "right"


def grow(place: Path, right: Answers) -> str:
    """An ingest works, or says what is damaged; and what it wrote is right."""
    said_so = isinstance(attempt(lambda: ingest(place.parent)), CiesError)
    after = read(place, right)
    if said_so or after == "said":
        assert damage(place), "verify did not find the damage"
    return "said" if said_so else after


#: What is tried with a harmed gallery: name to a function, and its share of the samples. A repair
#: takes ten times as long as a search.
TRIALS: dict[str, tuple[Callable[[Path, Answers], str], int]] = {
    "search": (lambda place, right: read(place, right, found), 12),
    "export": (lambda place, right: read(place, right, exported), 11),
    "verify": (lambda place, right: check(place), 5),
    "repair": (mend, 1),
    "ingest": (grow, 1),
}


def damage(place: Path) -> list[str]:
    return [finding.text for finding in verify(place) if finding.damage]


def difference(got: object, right: Answers) -> str:
    """The answers that are not right."""
    assert isinstance(got, dict)
    wrong = [key for key in right if got.get(key) != right[key]]
    return f"{wrong}: {got.get(wrong[0])} instead of {right[wrong[0]]}"[:1500]
