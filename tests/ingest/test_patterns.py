"""Patterns for names: as git reads them, wildcards, and lists in braces."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.kinds import fill, png, put, rows

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.sources.base import SourceOptions
from ingest.sources.folders import Folder
from ingest.sources.patterns import IgnorePatterns, NameFilter, expand_braces


@pytest.mark.parametrize(
    ("name", "pattern", "matches"),
    [
        ("a.jpg", "*.jpg", True),
        ("x/a.jpg", "*.jpg", True),
        ("x/a.jpg", "x/*.jpg", True),
        ("x/y/a.jpg", "x/*.jpg", False),
        ("x/y/a.jpg", "x/**/*.jpg", True),
        ("x/a.jpg", "x/**/*.jpg", True),
        ("x/y/a.jpg", "**", True),
        ("a/b.jpg", "a*.jpg", False),
        ("a1.jpg", "a[0-4].jpg", True),
        ("a9.jpg", "a[!0-4].jpg", True),
        ("a.jpg", "A.jpg", False),
        ("x/ajpg", "x/a.jpg", False),
        ("raw", "/raw", True),
        ("a/raw", "/raw", False),
        ("raw", "raw/", False),
        ("raw/", "raw/", True),
        ("raw/a.jpg", "raw/", True),
    ],
)
def test_patterns(name: str, pattern: str, matches: bool) -> None:
    assert IgnorePatterns((pattern,)).match(name) is matches


FOLDERS = ("raw", "a", "b", "d", "A")
NAMES = ("x.png", "y.jpg", "raw.png", "[z].png", "a b.png", "x1.png", "!n.png", "#h.png", "raw")
PARTS = ("raw", "a", "b", "d", "*", "**", "*.png", "x?.png", "[xy].*", "r*", "x.png", "A", "*w")
UNUSUAL = (
    *("\\!n.png", "\\#h.png", "#h.png", "a\\ b.png", "a b.png ", "/", "", "  ", "**", "/**"),
    *("d/**", "**/d", "!/d", "\\[z].png", "*/", "!*/", "/*", "!/*", "a**", "**.png", "a/**/b"),
)


@pytest.fixture(scope="module")
def work_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty git repository with many files below it."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    tree = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q", tree], check=True)
    chosen = random.Random(1)
    for _ in range(200):
        folders = chosen.choices(FOLDERS, k=chosen.randint(0, 3))
        path = tree.joinpath(*folders, chosen.choice(NAMES))
        if not path.exists() and not any(p.is_file() for p in path.parents):
            put(path, b"x")
    return tree


def ignored_by_git(tree: Path, patterns: Sequence[str], paths: Sequence[str]) -> set[str]:
    (tree / ".git" / "info" / "exclude").write_text("".join(f"{line}\n" for line in patterns))
    done = subprocess.run(
        ["git", "-c", "core.ignoreCase=false", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=tree,
        input="\0".join(paths) + "\0",
        capture_output=True,
        text=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
    )
    assert done.returncode in (0, 1), done.stderr
    return set(filter(None, done.stdout.split("\0")))


def random_pattern(chosen: random.Random) -> str:
    if chosen.random() < 0.15:
        return chosen.choice(UNUSUAL)
    text = "/".join(chosen.choices(PARTS, k=chosen.randint(1, 3)))
    before = ("!" if chosen.random() < 0.3 else "") + ("/" if chosen.random() < 0.25 else "")
    return before + text + ("/" if chosen.random() < 0.3 else "")


def test_git_ignores_the_same_paths(work_tree: Path) -> None:
    """The oracle is git itself, on 300 random lists of patterns."""
    files = [p for p in work_tree.rglob("*") if p.is_file() and ".git" not in p.parts]
    paths = sorted(str(path.relative_to(work_tree)) for path in files)
    assert len(paths) > 80
    chosen = random.Random(2)
    some = 0
    for _ in range(300):
        patterns = [random_pattern(chosen) for _ in range(chosen.randint(1, 4))]
        expected = ignored_by_git(work_tree, patterns, paths)
        matcher = IgnorePatterns(patterns)
        assert {path for path in paths if matcher.match(path)} == expected, patterns
        some += 0 < len(expected) < len(paths)
    assert some > 100


@pytest.mark.parametrize(
    "exclude",
    [
        ("/raw",),
        ("raw/",),
        ("*.png", "!x*.png"),
        ("raw/", "!raw/x.png"),
        ("/*", "!/a/"),
        ("a/**/b",),
    ],
)
def test_a_scan_leaves_out_what_git_ignores(work_tree: Path, exclude: tuple[str, ...]) -> None:
    everything = [file.path for file in Folder(work_tree, work_tree, SourceOptions()).scan()]
    expected = ignored_by_git(work_tree, exclude, everything)
    assert expected
    options = SourceOptions(exclude=exclude)
    taken = [file.path for file in Folder(work_tree, work_tree, options).scan()]
    assert taken == [path for path in everything if path not in expected]
    only = Folder(work_tree, work_tree, SourceOptions(include=exclude)).scan()
    assert [file.path for file in only] == [path for path in everything if path in expected]


def test_an_excluded_folder_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "raw/2.png", "raw/deep/3.png"):
        put(tmp_path / name, png(1))
    opened: list[str] = []
    scandir = os.scandir

    def recorded(path: str) -> object:
        opened.append(os.path.relpath(path, tmp_path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", recorded)
    files = list(Folder(tmp_path, tmp_path, SourceOptions(exclude=("raw",))).scan())
    assert [file.path for file in files] == ["a/1.png"] and opened == [".", "a"]


def test_include_and_exclude(gallery: Gallery, tmp_path: Path) -> None:
    names = ["a.png", "b.jpg", "raw/c.png", "raw/d.png", "sub/raw/e.png", "sub/f.png", ".x/g.png"]
    for number, name in enumerate(names):
        put(tmp_path / "p" / name, png(number))
    fill(gallery, tmp_path / "p", include=("*.png",), exclude=("raw",))
    assert set(rows(gallery)) == {"p/a.png", "p/sub/f.png"}
    # What the patterns leave out this time still exists.
    report, passes = fill(gallery, tmp_path / "p", include=("a.*",))
    assert (report.found, report.gone, passes) == (1, 0, 0)


def test_a_pattern_that_git_cannot_read_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'!' is not a .gitignore pattern; write one such as"):
        NameFilter((), ("!",))


def test_braces() -> None:
    assert expand_braces("s-{008..011}.tar") == [f"s-{n:03}.tar" for n in range(8, 12)]
    assert expand_braces("{train,val}/{0..1}.tar") == [
        "train/0.tar",
        "train/1.tar",
        "val/0.tar",
        "val/1.tar",
    ]
    assert expand_braces("odd{name}.jpg") == ["odd{name}.jpg"]
    for bad in ("{9..1}", "{0..9999999}"):
        with pytest.raises(UsageError):
            expand_braces(bad)
