"""Permanent settings: their precedence, and the messages for mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.commands import run

import cies
from cies.cli.app import app
from cies.cli.command_tree import all_options, walk_commands
from cies.cli.settings import default_map


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of settings, and a project with the current folder below it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "cies").mkdir(parents=True)
    (tmp_path / "project" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "inner")
    return tmp_path


def test_every_option_has_one_key_and_its_own_variables() -> None:
    options = all_options(app)
    assert {command.name for command in walk_commands(app)} >= {"search", "ingest", "bench embed"}
    for command in {option.command for option in options}:
        keys = [option.key for option in options if option.command == command]
        assert len(set(keys)) == len(keys)
    owners: dict[str, str] = {}
    for option in options:
        for name, meaning in zip(option.variables, (option.command, ""), strict=True):
            assert re.fullmatch(r"CIES_[A-Z0-9_]+", name)
            assert owners.setdefault(name, f"{meaning} {option.key}") == f"{meaning} {option.key}"
    known = {(option.command, option.key): option for option in options}
    assert known["search", "gallery"].variables == ("CIES_SEARCH_GALLERY", "CIES_GALLERY")
    assert known["search", "copy-to"].kind is Path and known["search", "k"].kind is int
    assert known["ingest", "condition"].kind is list
    assert known["search", "pictures"].kind is bool


def test_precedence(own_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def k() -> object:
        return default_map(app, "search").get("search", {}).get("k")

    user = own_settings / "config" / "cies" / "cies.toml"
    above = own_settings / "project" / "cies.toml"
    assert default_map(app, "search") == {}
    user.write_text("k = 1\n")
    assert k() == 1
    above.write_text("k = 2\n")
    assert k() == 2
    above.write_text("k = 2\n[search]\nk = 3\n")
    assert k() == 3
    monkeypatch.setenv("CIES_K", "4")
    assert k() == 4
    monkeypatch.setenv("CIES_SEARCH_K", "5")
    assert k() == 5
    monkeypatch.setenv("CIES_SEARCH_K", "")
    assert k() == 4


def test_kinds_of_values(own_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    above = own_settings / "project" / "cies.toml"
    above.write_text(
        'gallery = "../photos.cies"\n[ingest]\ncondition = ["color", "kind of place"]\n'
        "strict = true\n[bench.embed]\nimages = 7\n[bench.ingest]\ncost-ms = 3\n"
    )
    ingest = default_map(app, "ingest")["ingest"]
    assert ingest["gallery"] == str(own_settings / "photos.cies")  # relative to the file's folder
    assert ingest["condition"] == ["color", "kind of place"] and ingest["strict"] is True
    bench = default_map(app, "bench")["bench"]
    assert (bench["embed"], bench["ingest"]) == ({"images": 7}, {"cost_ms": 3})
    monkeypatch.setenv("CIES_INGEST_CONDITION", "shape 'movie genre'")
    monkeypatch.setenv("CIES_STRICT", "off")
    monkeypatch.setenv("CIES_GALLERY", "here")
    ingest = default_map(app, "ingest")["ingest"]
    assert ingest["condition"] == ["shape", "movie genre"] and ingest["strict"] is False
    assert ingest["gallery"] == "here"  # relative to the current folder


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("kk = 3", r"cies\.toml: 'kk' is not an option of any command; did you mean 'k'\?"),
        ("[search]\ncopy_to = 'x'", r"'copy_to' under \[search\].*did you mean 'copy-to'"),
        ("[serch]\nk = 3", r"'serch' is not an option of any command; did you mean 'search'"),
        ("[search]\nlayer = 3", r"'layer' under \[search\] is not an option of `cies search`"),
        ("[bench.magic]\nk = 3", r"'magic' under \[bench\]"),
        ("search = 3", r"'search' is a command; .* \[search\]"),
        ("k = '3'", r"'k' is '3', but for `cies search` it must be a whole number"),
        ("k = true", "'k' is True, .* whole number"),
        ("[ingest]\nstrict = 1", "'strict' is 1, .* true or false"),
        ("[ingest]\ncondition = [1]", "'condition' is .* a list of texts"),
        ("[ingest]\nlayer = ['2']", "'layer' is .* a whole number, or a list of them"),
        ("[world]\nsize = 3", "'size' is 3; it must be at least 32"),
        ("k = ", r"cies\.toml is not TOML: Invalid value .*mend it"),
    ],
)
def test_mistakes_in_a_file_name_it_and_the_key(
    written: str, message: str, own_settings: Path
) -> None:
    path = own_settings / "project" / "cies.toml"
    path.write_text(written)
    with pytest.raises(cies.UsageError, match=message) as refused:
        default_map(app, "search")
    assert str(refused.value).startswith(str(path)) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CIES_K", "ten", "CIES_K is 'ten', but for `cies search` it must be a whole number"),
        ("CIES_SEARCH_GONE", "maybe", "CIES_SEARCH_GONE is 'maybe', .* true or false"),
    ],
)
def test_mistakes_in_a_variable_name_it(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(cies.UsageError, match=message):
        default_map(app, "search")


def test_a_command_uses_the_settings_and_config_shows_their_origin(
    own_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_settings / "project" / "cies.toml").write_text("[world]\nn = 2\nsize = 64\nseed = 5\n")
    monkeypatch.setenv("CIES_SIZE", "48")
    monkeypatch.setenv("CIES_SIEZ", "1")
    assert run("world", "w", "-n", 3).returncode == 0
    pictures = sorted(Path("w", "images").iterdir())
    assert len(pictures) == 3  # from the command line
    from PIL import Image

    assert Image.open(pictures[0]).size == (48, 48)  # from the environment
    document = json.loads(run("config", "--json").stdout)
    found = {(s["command"], s["option"]): s for s in document["settings"]}
    assert found["world", "size"]["value"] == 48
    assert found["world", "size"]["from"] == "CIES_SIZE"
    assert found["world", "seed"]["from"] == str(own_settings / "project" / "cies.toml")
    assert found["search", "k"]["from"] == "default"
    assert document["unknown_variables"] == ["CIES_SIEZ"]
    shown = run("config")
    assert "world\tsize\t48\tCIES_SIZE" in shown.stdout and "search" not in shown.stdout
    assert "CIES_SIEZ sets nothing" in shown.stderr


@pytest.mark.parametrize(("written", "layers"), [("2", [2]), ("[-1, 2]", [-1, 2])])
def test_a_list_of_numbers_may_be_one_number(
    written: str, layers: list[int], own_settings: Path
) -> None:
    (own_settings / "project" / "cies.toml").write_text(f"[ingest]\nlayer = {written}\n")
    assert default_map(app, "ingest")["ingest"]["layer"] == layers
