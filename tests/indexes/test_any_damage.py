"""Whatever single file of a gallery is harmed: commands are right, say it, or repair it.

Each file of a small gallery gets flipped bits, loses its second half or all of its bytes, or is
deleted. By default 300 cases are drawn: kinds of file (a table's data, its manifests, a ledger, a
cached array ...) in turn, so that rare kinds are tried as often as common ones; in each a file, a
harm and a command at random, with a seed that is printed. ``--soak`` harms every file in every
way, with 10 flipped bits spread over it, and tries every command.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import damaging
from support.damaging import TRIALS, Answers

import indexes.search.table_loader

SAMPLES = 300
HARMS = ["flipped", "flipped", "flipped", "halved", "emptied", "deleted"]

#: A file below the gallery, the harm, where in the file, which bit, and the command.
Case = tuple[Path, str, float, int, str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Answers]]:
    """A gallery to copy, with caches, and its answers."""
    with pytest.MonkeyPatch.context() as patch:
        # Small tables are cached here as large ones are everywhere.
        patch.setattr(indexes.search.table_loader, "CACHED_FROM", 1)
        place = damaging.make(tmp_path_factory.mktemp("whole"))
        yield place.parent, damaging.answers(place)


def sampled(place: Path, seed: int) -> Iterator[Case]:
    chosen = random.Random(seed)
    kinds = defaultdict(list)
    for path in damaging.files(place):
        kinds[damaging.kind(place, path)].append(path.relative_to(place))
    names = sorted(kinds)
    chosen.shuffle(names)
    commands = [name for name, (_, share) in TRIALS.items() for _ in range(share)]
    for number in range(SAMPLES):
        file = chosen.choice(kinds[names[number % len(names)]])
        command = commands[number % len(commands)]
        yield file, chosen.choice(HARMS), chosen.random(), chosen.randrange(8), command


def every(place: Path) -> Iterator[Case]:
    for path in damaging.files(place):
        file = path.relative_to(place)
        for command in TRIALS:
            for harm in ("halved", "emptied", "deleted"):
                yield file, harm, 0.0, 0, command
            for number in range(10):
                yield file, "flipped", number / 9, number % 8, command


def sizes(place: Path) -> dict[Path, int]:
    """Every file of a gallery, quarantined ones included, with its size."""
    files = (path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place): path.stat().st_size for path in files}


def test_any_harm_to_any_file(
    whole: tuple[Path, Answers], tmp_path: Path, soak: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    root, right = whole
    seed = random.randrange(2**32)
    print("seed", seed)
    place, harmed = root / "gallery", tmp_path / "copy" / "gallery"
    seen: Counter[tuple[str, str]] = Counter()
    for file, harm, share, bit, command in every(place) if soak else sampled(place, seed):
        if not harmed.exists():
            damaging.copy(root, tmp_path / "copy")
        damaging.harm(harmed / file, harm, share, bit)
        case = f"{command} after {file} was {harm} at {share:.4f}, bit {bit}"
        try:
            seen[command, TRIALS[command][0](harmed, right)] += 1
        except Exception as error:
            raise AssertionError(f"{case}: {error}") from error
        said = capfd.readouterr().err
        assert "panicked" not in said and "Traceback" not in said, f"{case}: {said[:500]}"
        # Most readings change nothing, so that the copy is used again.
        (harmed / file).unlink(missing_ok=True)
        (harmed / file).parent.mkdir(parents=True, exist_ok=True)
        (harmed / file).write_bytes((place / file).read_bytes())
        if command in ("repair", "ingest") or sizes(harmed) != sizes(place):
            shutil.rmtree(tmp_path / "copy")
    print(dict(seen))
    # The cases are of use: damage was met by every command, and was never all there is.
    for command, met in (("search", "said"), ("verify", "found"), ("repair", "repaired")):
        assert seen[command, met] and seen["search", "right"]


def test_a_superseded_manifest_that_is_cleaned_up(
    whole: tuple[Path, Answers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maintenance reads the versions that it removes, which it does when they are an hour old."""
    monkeypatch.setattr("indexes.store.tables.RETENTION_SECONDS", 0.001)
    root, right = whole
    place = damaging.copy(root, tmp_path / "copy")
    oldest = max((place / "files.lance" / "_versions").glob("*.manifest"))
    damaging.harm(oldest, "halved", 0.0, 0)
    assert damaging.grow(place, right) in ("said", "right")
    assert damaging.mend(place, right) == "repaired"


DOCUMENTS = [b"{}", b"[]", b"3", b"null", b"", b"\xff\xfe", b"[" * 100_000]


@pytest.mark.parametrize("content", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_any_content_of_the_copy(
    content: bytes, whole: tuple[Path, Answers], tmp_path: Path
) -> None:
    root, right = whole
    place = damaging.copy(root, tmp_path / "copy")
    (place / "gallery.json").write_bytes(content)
    assert damaging.read(place, right) == "right"
    assert any("gallery.json" in text for text in damaging.damage(place))
    if content == b"[]":
        assert damaging.mend(place, right) == "repaired"


@pytest.mark.parametrize("value", ["{}", "[]", "3", "{", '{"geometry": "raw"}'])
@pytest.mark.parametrize("kind", ["gallery", "condition:"])
def test_any_value_in_the_manifest(
    kind: str, value: str, whole: tuple[Path, Answers], tmp_path: Path
) -> None:
    """Even with right checksums, as a foreign program might have written them."""
    import pyarrow as pa

    from indexes.store.gallery import Gallery
    from indexes.store.records import MANIFEST

    root, right = whole
    place = damaging.copy(root, tmp_path / "copy")
    gallery = Gallery.open(place)
    key = next(key for key in gallery._manifest.entries() if key.startswith(kind))
    with gallery.writer():
        rows = pa.Table.from_pylist([{"key": key, "value": value}], schema=MANIFEST)
        gallery._database.open("manifest").upsert(rows)
    # The copy is used, and the table is restored from it.
    assert damaging.read(place, right) == "right"
    assert any("manifest" in text for text in damaging.damage(place))
    if value == "[]":
        assert damaging.mend(place, right) == "repaired"


def test_a_lost_copy_is_damage(whole: tuple[Path, Answers], tmp_path: Path) -> None:
    root, right = whole
    place = damaging.copy(root, tmp_path / "copy")
    (place / "gallery.json").unlink()
    assert damaging.read(place, right) == "right"
    assert any("gallery.json" in text and "missing" in text for text in damaging.damage(place))
    assert damaging.mend(place, right) == "repaired"


def test_every_ledger_is_guarded(whole: tuple[Path, Answers], tmp_path: Path, soak: bool) -> None:
    """A list of checksums that is lost or changed is damage, and what stands there afterwards is
    entered only if it is what was recorded.
    """
    root, right = whole
    ledgers = sorted(path.name for path in (root / "gallery" / "checksums").iterdir())
    assert len(ledgers) == 6
    for number, name in enumerate(ledgers if soak else ledgers[:2]):
        place = damaging.copy(root, tmp_path / f"copy{number}")
        ledger = place / "checksums" / name
        lines = ledger.read_bytes().splitlines(keepends=True)
        if number % 2:
            ledger.unlink()
        else:
            ledger.write_bytes(b"".join(lines[:-1]))
        assert any(name in text for text in damaging.damage(place))
        # A file of the table is changed while nothing guards it.
        table = place / name.replace(".txt", ".lance")
        if number % 3 == 0:
            damaging.harm(max((table / "data").iterdir()), "flipped", 0.3, 2)
        ingested = damaging.attempt(lambda place=place: damaging.ingest(place.parent))
        assert ingested is None or "checksums" in str(ingested)
        assert any(name in text for text in damaging.damage(place))
        assert damaging.mend(place, right) == "repaired"


def test_galleries_without_guards_gain_them(whole: tuple[Path, Answers], tmp_path: Path) -> None:
    """As versions before wrote them."""
    import json

    root, right = whole
    place = damaging.copy(root, tmp_path / "copy")
    document = json.loads((place / "gallery.json").read_text())
    guards = document.pop("ledgers")
    del document["checksum"]
    (place / "gallery.json").write_text(json.dumps(document))
    assert damaging.read(place, right) == "right" and damaging.damage(place) == []
    damaging.ingest(place.parent)
    document = json.loads((place / "gallery.json").read_text())
    assert document["ledgers"].keys() == guards.keys() and document["checksum"]
    (place / "checksums" / "files.txt").unlink()
    assert any("files.txt is missing" in text for text in damaging.damage(place))
