"""The folder of pages, and what the commands that look through a gallery print."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import jinja2
import pytest
from PIL import Image

import cies
from cies.cli import browse as cli_words
from cies.html.folder import MARKER, write_folder
from cies.html.gallery import ConditionGroups, file_name
from cies.html.pictures import thumbnail_path, write_thumbnails
from cies.html.rendering import render
from indexes.errors import CiesError, UnknownCondition, UsageError
from ingest.encoders.methods.dior import DiorEncoder
from ingest.read.images import read_bytes
from query.explore.groups import groups


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pages_of(folder: Path, gallery: Path, *names: str, **options: object) -> dict[str, bytes]:
    cli_words.make_gallery(list(names), folder, gallery, **options)
    return files(folder)


def test_a_folder_is_made_and_made_again(
    world_gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "deep" / "pages"
    first = pages_of(folder, world_gallery, "color", "colour", "shape")
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("60 pictures in") == 2
    assert str(folder / "index.html") in told.err
    assert sum(name.startswith("thumbnails/") for name in first) == 60
    about = json.loads(first[MARKER])
    pages = {name for name in first if name.endswith(".html")}
    assert set(about["pages"]) == pages and about["unreadable"] == []
    for condition in about["conditions"]:
        assert sum(group["pictures"] for group in condition["groups"]) == 60
        assert {group["page"] for group in condition["groups"]} <= pages
    stamp = {name: (folder / name).stat().st_mtime_ns for name in first if ".jpg" in name}
    assert pages_of(folder, world_gallery, "color", "shape") == first
    assert {name: (folder / name).stat().st_mtime_ns for name in stamp} == stamp
    # Fewer conditions: what is not wanted any more goes, and nothing else.
    (folder / "mine.txt").write_text("kept")
    (folder / file_name("shape") / "mine.html").write_text("kept")
    less = pages_of(folder, world_gallery, "color")
    assert not [name for name in less if name.startswith(file_name("shape")) and "mine" not in name]
    assert {"mine.txt", f"{file_name('shape')}/mine.html"} <= set(less)
    assert sum(name.startswith("thumbnails/") for name in less) == 60


def test_a_killed_run_is_gone_on_with(
    world_gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off after any file that it writes: the links there lead somewhere, the rest follows."""
    whole = pages_of(tmp_path / "whole", world_gallery, "color")
    folder = tmp_path / "pages"
    from cies.html import folder as writing
    from cies.html import pictures

    write = pictures.write_atomic
    for cut in (0, 1, 30, 63, 66, 74):
        left = cut

        def failing(path: Path, data: bytes, durable: bool) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                path.parent.mkdir(parents=True, exist_ok=True)
                # As files.replacing names it, and as earlier versions did.
                path.with_name(f".{path.stem}.12.34{path.suffix}").write_bytes(data[:5])
                path.with_name(path.name + ".partial").write_bytes(data[:5])
                raise KeyboardInterrupt
            write(path, data, durable)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(pictures, "write_atomic", failing)
            patch.setattr(writing, "write_atomic", failing)
            shutil.rmtree(folder, ignore_errors=True)
            pages_of(folder, world_gallery, "color")
        # A marker, 60 thumbnails, the style and 12 groups come before the overview.
        assert not (folder / "index.html").exists()
        assert pages_of(folder, world_gallery, "color") == whole


def test_folders_in_which_pages_would_be_in_the_way(
    world_gallery: Path, world: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    for folder, reason in (
        (tmp_path / "other", "holds other files"),
        (tmp_path / "file", "is a file"),
        (world / "images" / "pages", "would be ingested as pictures"),
        (world_gallery / "pages", "in the gallery's own folder"),
    ):
        before = files(tmp_path)
        with pytest.raises(UsageError, match=reason):
            pages_of(folder, world_gallery, "color")
        assert files(tmp_path) == before and not (folder / MARKER).exists()
    with pytest.raises(CiesError, match=r"Cannot write into .*--html"):
        pages_of(tmp_path / "file" / "pages", world_gallery, "color")
    # Names in the marker lead nowhere else.
    folder = tmp_path / "pages"
    pages_of(folder, world_gallery, "color")
    about = json.loads((folder / MARKER).read_text())
    about["pages"] += ["../file", "../other/letter.txt", "/etc/x.html", "a/../../file.html", 7]
    (folder / MARKER).write_text(json.dumps(about))
    pages_of(folder, world_gallery, "color")
    assert (tmp_path / "file").exists() and (tmp_path / "other" / "letter.txt").exists()


def test_pictures_that_changed_or_are_gone(
    world: Path, builtin: DiorEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((world / "images").iterdir())[:6]:
        shutil.copy(path, images)
    first, second, third = sorted(images.iterdir())[:3]
    shutil.copy(third, images / "copy.jpg")
    cies.ingest(cies.create(tmp_path / "g"), [images], ["color"])
    keys = [read_bytes(path).key for path in (first, second, third)]
    Image.new("RGB", (50, 50), "red").save(first)
    second.unlink()
    (images / "copy.jpg").write_bytes(b"no picture any more")
    made = pages_of(tmp_path / "pages", tmp_path / "g", "color")
    # What changed is another picture; of two copies the whole one is shown.
    assert sorted(json.loads(made[MARKER])["unreadable"]) == sorted(keys[:2])
    assert f"thumbnails/{thumbnail_path(keys[2])}" in made
    assert b"not readable now" in b"".join(made.values())
    assert "2 pictures cannot be shown" in capsys.readouterr().err


def test_thumbnails_cut_short_are_made_anew(world: Path, tmp_path: Path) -> None:
    paths = {read_bytes(path).key: [str(path)] for path in sorted((world / "images").iterdir())[:3]}
    assert write_thumbnails(paths, tmp_path) == set()
    (one, *rest) = [tmp_path / thumbnail_path(key) for key in paths]
    whole = one.read_bytes()
    one.write_bytes(whole[:-1])
    stamps = [path.stat().st_mtime_ns for path in rest]
    write_thumbnails(paths, tmp_path)
    with Image.open(one) as image:
        assert one.read_bytes() == whole and max(image.size) <= 176
    assert [path.stat().st_mtime_ns for path in rest] == stamps


def test_names_of_files() -> None:
    texts = [
        "Red",
        "red",
        "RED!",
        "赤",
        "",
        "con",
        "../x",
        "a" * 999,
        "\udcff",
        "x\0y",
        "caf\u00e9",
    ]
    names = [file_name(text) for text in texts]
    assert len({name.lower() for name in names}) == len(texts)
    for name in names:
        assert name.isascii() and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert len(name) < 60 and name != "con"


def test_facets_printed(world_gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = Counter(cies.open(world_gallery).vectors("color").words)
    cli_words.facets("colour", world_gallery, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["condition"]) == (1, "color")
    assert (document["pictures"], document["without_word"]) == (60, 0)
    assert {f["word"]: f["pictures"] for f in document["facets"]} == words
    assert sum(f["share"] for f in document["facets"]) == pytest.approx(1)
    cli_words.facets("color", world_gallery)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["word", "pictures", "share", "merged with it"]
    assert {line[0]: int(line[1]) for line in lines[1:]} == words


def test_groups_printed(world_gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli_words.make_gallery(["color"], None, world_gallery, as_json=True)
    (condition,) = json.loads(capsys.readouterr().out)["conditions"]
    shown = [
        picture["key"]
        for group in condition["groups"]
        for picture in group["pictures"] + group["placed_by_likeness"]
    ]
    assert sorted(shown) == list(cies.open(world_gallery).vectors("color").keys)
    cli_words.make_gallery(["color"], None, world_gallery)
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1 + len(condition["groups"])
    assert "--html" in told.err


def test_outliers_printed(world_gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli_words.outliers("shape", world_gallery, k=4, as_json=True)
    found = json.loads(capsys.readouterr().out)["outliers"]
    assert [one["rank"] for one in found] == [1, 2, 3, 4]
    assert [one["score"] for one in found] == sorted(one["score"] for one in found)
    assert {one["nearest_word"] for one in found} <= set(
        cies.open(world_gallery).vectors("shape").words
    )
    cli_words.outliers("shape", world_gallery, k=4, quiet=True)
    assert capsys.readouterr().out.splitlines() == [one["path"] for one in found]


def test_dupes_printed(
    world: Path, builtin: DiorEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copies, a picture saved again, and others: each is distinguished, and none is deleted."""
    images = tmp_path / "images"
    images.mkdir()
    chosen = sorted((world / "images").iterdir())[:8]
    for path in chosen:
        shutil.copy(path, images)
    shutil.copy(chosen[0], images / "copy of 1.jpg")
    with Image.open(chosen[1]) as picture:
        picture.resize((picture.width * 2, picture.height * 2)).save(images / "larger.png")
    gallery = tmp_path / "g"
    cies.ingest(cies.create(gallery), [images], ["color", "shape", "background"])
    before = files(images)
    cli_words.dupes(gallery=gallery, as_json=True)
    document = json.loads(capsys.readouterr().out)
    (exact,) = document["exact"]
    names = [chosen[0].name, "copy of 1.jpg"]
    assert [Path(path).name for path in exact["paths"]] == names
    assert exact["bytes"] == chosen[0].stat().st_size
    (near,) = document["near"]
    # The one with most pixels is the first.
    assert [Path(one["path"]).name for one in near] == ["larger.png", chosen[1].name]
    assert [one["width"] for one in near] == [256, 128]
    assert document["conditions"] == ["color", "shape", "background"]
    cli_words.dupes(gallery=gallery, quiet=True)
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert [[Path(line).name for line in block.splitlines()] for block in blocks] == [
        names,
        ["larger.png", chosen[1].name],
    ]
    cli_words.dupes(gallery=gallery, threshold=1.0)
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 3 and "Nothing was deleted" in told.err
    assert files(images) == before


def test_what_newcomers_type(world_gallery: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownCondition, match=r"no condition 'genre' \(it has: color, shape\)"):
        cli_words.facets("genre", world_gallery)
    with pytest.raises(UsageError, match="-k must be at least 1"):
        cli_words.outliers("color", world_gallery, k=0)
    with pytest.raises(UsageError, match="exclude one another"):
        cli_words.outliers("color", world_gallery, as_json=True, quiet=True)
    with pytest.raises(UsageError, match="exclude one another"):
        cli_words.dupes(gallery=world_gallery, as_json=True, quiet=True)
    with pytest.raises(UsageError, match="a cosine above 0 and at most 1, not 98"):
        cli_words.dupes(gallery=world_gallery, threshold=98)
    with pytest.raises(UsageError, match="name a folder for them with --html"):
        cli_words.make_gallery(["color"], None, world_gallery, originals=True)
    empty = cies.create(tmp_path / "empty")
    with pytest.raises(UnknownCondition, match="it has: none"):
        cli_words.make_gallery(["color"], tmp_path / "pages", empty.path)
    with pytest.raises(UsageError, match="has no pictures under any condition"):
        cli_words.make_gallery([], tmp_path / "pages", empty.path)
    cli_words.dupes(gallery=empty.path)


def test_the_pages_of_one_gallery_are_the_same_every_time(
    world_gallery: Path, tmp_path: Path
) -> None:
    engine = cies.open(world_gallery)
    table = engine.opened("color")
    for name in ("one", "two"):
        write_folder(tmp_path / name, engine.gallery, [ConditionGroups(table, groups(table))])
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_one_rule_of_escaping_for_all_html() -> None:
    """Templates escape every value, miss none in silence, and hold all HTML of the command line."""
    evil = "<b>&\"'\udcff"
    count = 3 + 6  # title, heading, introduction; of the picture all, its name twice
    page = render(
        "contact_sheet.html.j2",
        root=None,
        legend=evil,
        title=evil,
        heading=evil,
        introduction=evil,
        query=dict.fromkeys(("path", "name", "address", "view", "link"), evil),
        rows=[],
    )
    assert page.count("&lt;b&gt;&amp;&#34;&#39;?") == count and "<b>" not in page
    with pytest.raises(jinja2.UndefinedError, match="introduction"):
        render("contact_sheet.html.j2", root=None, title="", heading="", query=None, rows=[])
    folder = Path(cies.__file__).parent
    for template in (folder / "html" / "templates").iterdir():
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), template.name
    tag = re.compile(r"</?(a|b|div|img|li|ol|p|span|svg|table|td|th|tr|ul)\b[^>`]*>")
    for module in folder.rglob("*.py"):
        assert not tag.search(module.read_text(encoding="utf-8")), module
