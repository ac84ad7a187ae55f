"""Words on the way: suggestions, help in groups, examples, licences, and advice that works."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.commands import run
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

import cies
from cies import api
from cies.cli.app import app
from cies.cli.command_tree import walk_commands
from cies.console import first_today
from eval.benchmarks import tasks_of
from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord, ImageRecord, VectorTable
from ingest.encoders.models.catalogue import HubModel, Machine, hub_models, recommended


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery with the conditions color and shape, and the column price."""
    folder = tmp_path_factory.mktemp("words")
    for number in range(4):
        paint(folder / f"{number}.png", number)
    table = folder / "t.csv"
    table.write_text("file,price\n" + "".join(f"{n}.png,{n}\n" for n in range(4)))
    fill(Gallery.create(folder / "g"), table, "color shape", StandIn())
    return folder / "g"


def test_the_nearest_name_is_offered(gallery: Path) -> None:
    engine = api.open(gallery)
    with pytest.raises(cies.UsageError, match="did you mean 'color'"):
        engine.search(gallery.parent / "0.png", "colr")
    with pytest.raises(cies.UsageError, match="did you mean 'price'"):
        engine.search(gallery.parent / "0.png", "color", where="prise > 2")
    with pytest.raises(cies.UsageError, match="did you mean 'circo'"):
        tasks_of("cicro", None, {}, False, 0, gallery)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["removee"], "Did you mean 'remove'"),
        (["serach"], "Did you mean 'search'"),
        (["search", "--condtion", "color"], "--condition"),
        (["bench", "cicro"], "did you mean 'circo'"),
    ],
)
def test_commands_options_and_benchmarks(line: list[str], said: str) -> None:
    done = run(*line, env={"COLUMNS": "200", "PATH": "", "HOME": "/nowhere"})
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_help_is_in_groups_with_plain_types() -> None:
    done = run("--help")
    headings = re.findall(r"─ ([A-Z][a-z ]+) ─", done.stdout)
    assert headings == ["Options", "Every day", "The gallery", "Models and settings", "Measuring"]
    for command in ("search", "ingest", "eval"):
        shown = run(command, "--help").stdout
        assert "list[" not in shown and "<str>" not in shown
    panels = {p.panel for c in walk_commands(app) if c.name == "ingest" for p in c.parameters()}
    assert len(panels) >= 4


def test_every_command_has_an_example() -> None:
    groups = {"bench", "collections", "columns", "conditions"}
    without = [c.name for c in walk_commands(app) if "Example: " not in c.help]
    assert not set(without) - groups


def test_every_command_that_takes_a_gallery_takes_it_by_the_same_option() -> None:
    for command in walk_commands(app):
        names = [name for p in command.parameters() if p.key == "gallery" for name in p.names]
        assert not names or {"--gallery", "-g"} <= set(names), command.name
    assert any(
        p.key == "gallery" for c in walk_commands(app) if c.name == "eval" for p in c.options()
    )


def test_advice_for_a_condition_is_not_refused(tmp_path: Path) -> None:
    made_by = {"phrase": "color", "method": "dior", "revision": "1", "settings": {}}
    for model, advised in (
        ("tiny-lvlm", "not trained on it, so have any answered"),
        ("some/model", "add it with `cies ingest -g "),
    ):
        gallery = Gallery.create(tmp_path / model.partition("/")[0])
        table = VectorTable("color", 4, {**made_by, "model": model})
        with gallery.writer() as writer:
            writer.declare(table, 0)
            writer.put_vectors(table, ["0" * 64], np.eye(4, dtype="f4")[:1], ["red"], np.ones(1))
            writer.put_images([ImageRecord("0" * 64, 1, 1, "PNG")])
            writer.put_files([FileRecord("a.png", "0" * 64, 1, 1, "done")])
        with pytest.raises(cies.UsageError, match=advised) as caught:
            api.open(gallery.path).search("a.png", "mood")
        assert "FOLDER" not in str(caught.value)
        assert ("-c mood --model" in str(caught.value)) == (model == "tiny-lvlm")


def test_recommendations_are_by_licence_first() -> None:
    for memory, gpu in ((8, 0), (16, 0), (64, 0), (16, 12), (64, 24), (64, 80)):
        found = recommended(Machine(memory, gpu, True))
        assert found is None or found.commercial, found
    assert not all(model.commercial for model in hub_models())
    only = HubModel("a/b", "qwen2_5_vl", 1, 1, 1, "research, not for commercial use")
    assert not only.commercial


def test_a_sentence_is_said_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert first_today("model-x") and not first_today("model-x") and first_today("model-y")
    monkeypatch.setattr("time.strftime", lambda form: "2031-01-01")
    assert first_today("model-x")
