"""``cies ingest --plan``: predicts the figures of the ingest, and changes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.kinds import fill, png, put, tar

from cies.cli.app import main
from cies.reports.plan import amount, duration, make_plan
from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.fill.encoder_choice import PHOTO_CONDITIONS, choose_target, default_conditions
from ingest.sources.base import SourceOptions
from ingest.sources.factory import open_sources


def digest(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its content and time of change."""
    return {
        str(path): f"{path.stat().st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def plan(gallery: Gallery, *sources: object, names: str = "color", **more: object) -> dict:
    opened = open_sources([str(s) for s in sources], SourceOptions(), gallery.root)
    wanted = [Condition.parse(name) for name in names.split()]
    return make_plan(gallery, gallery.path, opened, wanted, choose_target(gallery), **more)


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    # The stand-in is not a model that could be looked up.
    monkeypatch.setattr("cies.reports.plan._packing_and_dimension", lambda model: (True, 16))
    return Gallery.create(tmp_path / "gallery")


def test_a_plan_predicts_the_ingest(gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    for number in range(12):
        put(folder / f"{number:02}.png", png(number))
    put(folder / "bad.png", "text")
    first = plan(gallery, folder, names="color shape")
    assert (first["files"]["new"], first["pictures"], first["vectors"]) == (13, 13, 26)
    fill(gallery, folder, names="color shape")
    (folder / "00.png").rename(folder / "moved.png")
    shutil.copy(folder / "01.png", folder / "copy.png")
    put(folder / "02.png", png(100))
    (folder / "03.png").unlink()
    put(folder / "new.jpg", png(101))
    tar(tmp_path / "s.tar", [("a.png", png(5)), ("b.png", png(102))])
    sources = folder, tmp_path / "s.tar"
    rates = {3: 2.0, 1: 8.0}
    told = plan(gallery, *sources, names="style", rate=lambda _, name, count: rates[count])
    half = plan(gallery, *sources, names="style", rate=lambda _, name, n: 8.0 if n == 1 else None)
    assert half["seconds"] is None
    report, passes = fill(gallery, *sources, names="style")
    files = told["files"]
    assert told["pictures"] == told["passes"] == passes == report.embedded
    assert files["found"] == report.found and files["gone"] == report.gone == 2
    assert (files["new"], files["changed"], files["failed_before"]) == (5, 1, 1)
    assert told["conditions"] == ["color", "shape", "style"] and told["new_conditions"] == ["style"]
    assert told["vectors"] == 3 * 3 + (passes - 3)
    # The three new pictures need all three conditions, the others one.
    assert told["seconds"] == 3 / 2 + (passes - 3) / 8
    assert told["pictures_per_second"] == passes / told["seconds"]
    after = plan(gallery, *sources)
    assert (after["pictures"], after["seconds"], after["bytes"]) == (0, 0.0, 0)
    assert after["files"]["unchanged"] == files["found"] - 1


def test_copies_of_known_pictures_are_recognised(gallery: Gallery, tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path / "p" / f"{number}.png", png(number))
    fill(gallery, tmp_path / "p")
    (tmp_path / "p").rename(tmp_path / "q")
    put(tmp_path / "q" / "new.png", png(50))
    told = plan(gallery, tmp_path / "q")
    assert (told["files"]["new"], told["files"]["known"], told["pictures"]) == (6, 5, 1)
    assert fill(gallery, tmp_path / "q")[1] == 1


def test_conditions_that_cannot_share_a_pass_take_one_each(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "p" / "a.png", png(1))
    monkeypatch.setattr("cies.reports.plan._packing_and_dimension", lambda model: (False, 8))
    assert plan(gallery, tmp_path / "p", names="a b c")["passes"] == 3
    monkeypatch.setattr("cies.reports.plan._packing_and_dimension", lambda model: (None, None))
    told = plan(gallery, tmp_path / "p", names="a b c")
    assert (told["passes"], told["bytes"], told["seconds"]) == (None, None, None)


def test_the_disk_is_estimated(gallery: Gallery, tmp_path: Path) -> None:
    for number in range(300):
        put(tmp_path / "p" / f"{number}.png", png(number))
    told = plan(gallery, tmp_path / "p", names="a b c")
    fill(gallery, tmp_path / "p", names="a b c")
    data = sum(p.stat().st_size for p in gallery.path.rglob("data/*.lance"))
    # A commit takes some kilobytes besides its rows, and merged files stay for an hour.
    assert 0.2 * data < told["bytes"] < 2 * data


def test_about_models() -> None:
    from cies.reports.plan import _packing_and_dimension

    assert _packing_and_dimension("tiny-lvlm") == (True, 192)
    assert _packing_and_dimension("Qwen/Qwen2.5-VL-3B-Instruct") == (True, 2048)
    assert _packing_and_dimension("some/unknown") == (None, None)


def test_figures_for_people() -> None:
    assert [duration(s) for s in (5, 600, 9000)] == ["5 s", "10 min", "2.5 h"]
    assert [amount(n) for n in (1500, 2_500_000, 3e9)] == ["2 kB", "2.5 MB", "3.0 GB"]


def test_default_conditions() -> None:
    assert [c.name for c in default_conditions(choose_target(None))][:2] == ["color", "shape"]
    assert default_conditions(choose_target(None, None, "some/model")) == []


# -- command line -----------------------------------------------------------------------------


Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    """Runs ``cies`` in this process: its exit code, stdout and stderr."""
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setenv("CIES_GALLERY", "g")

    def run(*words: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cies", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as left:
            main()
        told = capsys.readouterr()
        return int(left.value.code or 0), told.out, told.err

    yield run
    signal.signal(signal.SIGINT, handler)


def test_nothing_is_changed_and_no_gallery_made(tmp_path: Path, shell: Shell) -> None:
    for number in range(3):
        put(tmp_path / "p" / f"{number}.png", png(number))
    put(tmp_path / "t.csv", "file,n\np/0.png,1\n")
    before = digest(tmp_path)
    code, out, _ = shell("ingest", "p", "t.csv", "-g", "new/g", "--plan", "--json")
    told = json.loads(out)
    assert (code, told["exists"], told["pictures"]) == (0, False, 3)
    assert (
        told["vectors"] == 3 * len(PHOTO_CONDITIONS) and told["passes"] == 3 and told["bytes"] > 0
    )
    _, out, err = shell("ingest", "p", "-g", "new/g", "--plan", "-c", "color")
    assert "time\tunknown until measured" in out and "Nothing was changed" in err
    assert digest(tmp_path) == before and not (tmp_path / "new").exists()


def test_no_file_of_a_gallery_is_changed(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every kind of file that a plan reports."""
    monkeypatch.setattr("cies.reports.plan._packing_and_dimension", lambda model: (True, 16))
    for number in range(3):
        put(tmp_path / "p" / f"{number}.png", png(number))
    put(tmp_path / "t.csv", "file,n\np/1.png,1\n")
    fill(Gallery.create(tmp_path / "g"), tmp_path / "p")
    (tmp_path / "p" / "0.png").unlink()
    put(tmp_path / "p" / "3.png", png(3))
    put(tmp_path / "p" / "bad.png", "text")
    before, folders = digest(tmp_path), sorted(tmp_path.rglob("*"))
    code, out, _ = shell("ingest", "p", "t.csv", "-c", "shape", "--plan", "--json")
    told = json.loads(out)
    assert (code, told["pictures"], told["vectors"]) == (0, 4, 6)
    assert (told["files"]["gone"], told["files"]["relabelled"]) == (1, 1)
    assert digest(tmp_path) == before and sorted(tmp_path.rglob("*")) == folders


def test_the_options_of_the_command_line(world: Path, tmp_path: Path, shell: Shell) -> None:
    """A table, stdin, a folder scanned again, gone pictures and prune on the command line."""
    rows = (world / "labels.csv").read_text().splitlines()[:21]
    put(tmp_path / "labels.csv", "\n".join(rows))
    for row in rows[1:]:
        name = row.partition(",")[0]
        put(tmp_path / "images" / name, (world / "images" / name).read_bytes())
    _, out, err = shell("ingest", "labels.csv", "--root", "images", "-c", "color", "--json")
    summary = json.loads(out)
    assert (summary["embedded"], summary["relabelled"]) == (20, 20)
    assert "'size' is user_size" in err and "20 files have new values" in err
    names = sorted(p.name for p in (tmp_path / "images").iterdir())
    listed = "".join(f"images/{name}\n" for name in names[:3])
    summary = json.loads(shell("ingest", "-", "--json", stdin=listed)[1])
    assert (summary["found"], summary["unchanged"]) == (3, 3)
    code, _, err = shell("ingest", "-", stdin=listed.replace("\n", "\0"))
    assert code == 2 and "add -0" in err
    assert shell("ingest", "-", "-0", stdin=listed.replace("\n", "\0"))[0] == 0
    (tmp_path / "images" / names[0]).unlink()
    code, out, _ = shell("ingest", "--json")
    assert json.loads(out)["gone"] == 1
    status = json.loads(shell("status", "--json")[1])
    assert [entry["path"] for entry in status["gone"]] == [f"images/{names[0]}"]
    assert status["gone"][0]["since"].startswith("20") and status["pictures"] == 19
    assert status["sources"] == [{"source": "labels.csv", "root": "images"}]
    assert status["columns"]["color"] == "string"
    assert names[0] in shell("status", "--gone")[1] and "gone\t1" in shell("status")[1]
    query = ("search", f"images/{names[1]}", "-c", "color", "-k", 100, "-q")
    assert len(shell(*query)[1].splitlines()) == 18
    assert len(shell(*query, "--gone")[1].splitlines()) == 19
    assert names[0] in shell("prune", "--dry-run")[2]
    for name in names[1:3]:
        (tmp_path / "images" / name).unlink()
    shell("ingest")
    code, _, err = shell("prune")
    assert code == 2 and "15% of the gallery" in err
    code, out, _ = shell("prune", "--yes", "--json")
    assert len(json.loads(out)["keys"]) == 3
    (tmp_path / "images").rename(tmp_path / "unplugged")
    code, out, err = shell("ingest", "labels.csv")
    assert (code, out) == (2, "") and "plug it in and run this again" in err
