"""The rendered world as a benchmark: its questions are what they say, and the command asks them."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.browsers import Seen, running
from support.json_docs import documented, wrong
from typer.testing import CliRunner

from cies.cli.app import app
from eval import benchmarks
from eval.labels import read_labels
from eval.runs.run import Run, System
from eval.runs.run_encoders import EvaluatedEncoder, run_encoders
from eval.tasks import LabelTask, QueryTask, Task
from eval.world import benchmark, edits
from eval.world.benchmark import world_tasks
from eval.world.factors import FACTORS, sample_scenes
from eval.world.gallery import draw
from ingest.encoders.factory import make_encoder
from ingest.encoders.methods.clip import ClipEncoder

COUNT, SEED = 260, 5


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    """Posed without rendering, which the command's test does."""
    folder = tmp_path_factory.mktemp("world")
    made = json.dumps({"count": COUNT, "seed": SEED, "size": 32, "edits": benchmark.EDITED})
    (folder / "rendered.json").write_text(made)
    return {task.name: task for task in world_tasks(folder, COUNT, SEED, 32)}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    scenes = sample_scenes(COUNT, SEED)
    return {f"world/{n:05d}.jpg": scene.labels for n, scene in enumerate(scenes, start=1)}


def test_every_label_is_what_was_drawn(tasks: dict[str, Task], values: dict[str, Any]) -> None:
    task = tasks["world"]
    assert isinstance(task, LabelTask) and tuple(task.labels) == tuple(FACTORS)
    for factor, of in task.labels.items():
        assert {key: (v[factor],) for key, v in values.items() if v[factor]} == of
    wordings = tasks["world-wordings"]
    assert isinstance(wordings, LabelTask) and not wordings.crossed
    assert wordings.labels["hue"] == wordings.labels["color"] == task.labels["color"]
    absent = tasks["world-abstention"]
    assert isinstance(absent, LabelTask)
    for key, (says,) in absent.labels["material"].items():
        assert (says == "absent") == (values[key]["stroke"] != "filled")


def test_a_focus_has_one_target(tasks: dict[str, Task], values: dict[str, Any]) -> None:
    task = tasks["world-focus"]
    assert isinstance(task, QueryTask) and task.conditions
    assert [part.name for part in task.parts] == list(FACTORS)
    for part in task.parts:
        assert len(part.queries) == 13
        for query in part.queries:
            reference = values[query.image]
            same = [k for k in query.gallery if values[k][query.text] == reference[query.text]]
            assert query.relevant == {same[0]: 1.0} and len(same) == 1
            assert query.image not in query.gallery and len(set(query.gallery)) == 15
            for key in set(query.gallery) - set(same):
                shared = [f for f in FACTORS if f != query.text and reference[f] == values[key][f]]
                assert shared, "nothing but the condition tells the target from this one"


def test_a_change_has_one_target(tasks: dict[str, Task], values: dict[str, Any]) -> None:
    task = tasks["world-change"]
    assert isinstance(task, QueryTask) and not task.conditions and len(task.parts) == 7
    for part in task.parts:
        kind = "color" if part.name == "shape" else "shape"
        for query in part.queries:
            (target,) = query.relevant
            new = values[target][part.name]
            both = [
                k
                for k in query.gallery
                if values[k][part.name] == new and values[k][kind] == values[query.image][kind]
            ]
            assert both == [target] and values[query.image][part.name] != new
            assert all(
                (values[k][part.name] == new) != (values[k][kind] == values[query.image][kind])
                for k in query.gallery
                if k != target
            )


def test_the_truth_of_edits_is_complete(tasks: dict[str, Task]) -> None:
    task = tasks["world-edits"]
    asked = max(10, COUNT // 20) * len(edits.VARIED)
    scenes = edits.make_edits(benchmark.EDITED, asked, SEED).scenes
    labels = {f"edits/{n:05d}.jpg": s.labels for n, s in enumerate(scenes)}
    assert isinstance(task, QueryTask) and set(task.images) == set(labels)
    for part in task.parts:
        for query in part.queries:
            old = labels[query.image]
            wanted = {labels[key][part.name] for key in query.relevant}
            assert len(wanted) == 1 and wanted != {old[part.name]}
            edited = {**old, part.name: wanted.pop()}
            assert {k for k, of in labels.items() if of == edited} == set(query.relevant)
            assert query.exclude == (query.image,)


def test_the_same_seed_asks_the_same(tasks: dict[str, Task], tmp_path: Path) -> None:
    made = json.dumps({"count": COUNT, "seed": SEED, "size": 32, "edits": benchmark.EDITED})
    (tmp_path / "rendered.json").write_text(made)
    for task in world_tasks(tmp_path, COUNT, SEED, 32):
        if isinstance(task, QueryTask):
            assert task.parts == tasks[task.name].parts  # type: ignore[union-attr]


def test_an_interrupted_rendering_leaves_no_worker(tmp_path: Path) -> None:
    scenes = {f"{n}.jpg": scene for n, scene in enumerate(sample_scenes(80, SEED))}

    def interrupt(drawn: int, total: int) -> None:
        if drawn == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path, scenes, 32, 2, interrupt)
    assert multiprocessing.active_children() == []
    assert 3 <= len(list(tmp_path.iterdir())) <= len(scenes)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command from nothing: small pictures, few edits, one quick method."""
    place = tmp_path_factory.mktemp("bench") / "my world"
    patch = pytest.MonkeyPatch()
    small = {"color": ("red", "blue"), "shape": ("heart", "star"), "style": ("photo", "flat")}
    for module in (edits, benchmark):
        patch.setattr(module, "VARIED", {**small, "background": ("white", "black")})
    patch.setattr(benchmark, "EDITED", 48)
    patch.setattr(benchmarks, "WORLD_SIZE", 64)
    asked = ["bench", "world", "--method", "clip", "--option", "pictures=100", "-o", str(place)]
    found = CliRunner().invoke(app, asked)
    patch.undo()
    assert found.exit_code == 0, found.output
    assert "clip sum" in found.stdout and "chance" in found.stdout
    return place


def test_the_command_stores_measures_and_reports(done: Path) -> None:
    run = Run.open(done)
    assert run.document["encoders"]["clip"]["made_by"]["model"] == "tiny-clip"
    assert {"torch", "pillow"} <= set(run.document["versions"])
    names = {s.name for s in run.systems("world-edits")}
    assert names == {"random", "histogram", "clip image only", "clip text only", "clip sum"}
    found = CliRunner().invoke(app, ["bench", "report", str(done)])
    assert found.exit_code == 0 and len(found.stdout.splitlines()) == 3
    document = json.loads((done / "report" / "report.json").read_text())
    means = {s["name"]: s["means"]["MAP@R"]["value"] for s in document["tasks"][0]["systems"]}
    assert means["clip"] > means["random"]
    first, second = f"{done}:clip", f"{done}:histogram"
    compared = CliRunner().invoke(app, ["bench", "compare", first, second, "--json"])
    assert compared.exit_code == 0, compared.output
    document = json.loads(compared.stdout)
    assert document["figures"] and document["settings"]
    assert wrong(document, documented("cies bench compare --json")) == []
    again = CliRunner().invoke(app, ["bench", "measure", str(done), "--json"])
    assert json.loads(again.stdout)["tasks"][0]["name"] == "world"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1300, "light")])
def test_a_report_in_a_browser(done: Path, width: int, scheme: str) -> None:
    if not (done / "report").exists():
        CliRunner().invoke(app, ["bench", "report", str(done)])
    with running() as browser:
        seen = Seen(browser, (done / "report" / "report.html").as_uri(), width, scheme)
        assert seen.images and seen.title == "Benchmark: world"
        assert browser.locator("svg[role=img]").count() >= 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "There is no benchmark 'nothing'; there are world, folder,"),
        (["circo"], "circo needs its data; name their folder with --data"),
        (["folder"], "folder needs a folder"),
        (["folder", "--data", "."], "has neither labels.csv nor triplets.csv"),
        (["world", "--option", "size=3"], "world has no option 'size'"),
        (["world", "--option", "pictures"], "write it as NAME=VALUE"),
        (["world", "--method", "magic"], "There is no method 'magic'"),
        (["world", "--method", "dior", "--method", "clip", "--model", "x"], "as METHOD:MODEL"),
        (["report", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(words: list[str], message: str) -> None:
    found = CliRunner().invoke(app, ["bench", *words])
    assert found.exit_code != 0 and message in str(found.exception)


def test_a_view_is_seen_in_what_its_clip_has_stored(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors equal those of a run without its CLIP, where it embeds the pictures itself."""
    found = read_labels(world / "labels.csv").values
    images = {name: world / "images" / name for name in list(found)[:20]}
    labels = {"color": {name: (found[name]["color"],) for name in images}}
    task = LabelTask("colors", benchmark.SOURCE, images, labels)

    def run_of(*methods: str) -> Run:
        run = Run.begin(tmp_path / "-".join(methods), "ours", {}, [task])
        asked = [EvaluatedEncoder(m, {"method": m}, lambda m=m: make_encoder(m)) for m in methods]
        run_encoders(run, [replace(one, without_condition=one.name == "clip") for one in asked])
        return run

    alone = run_of("clay")
    reads: list[int] = []
    monkeypatch.setattr(ClipEncoder, "embed", _counting(ClipEncoder.embed, reads))
    both = run_of("clip", "clay")
    assert sum(reads) == len(images)
    of = System("clay", "clay")
    one, other = (run.table(of).vectors("color", list(images)) for run in (alone, both))
    np.testing.assert_allclose(one, other, atol=1e-5)


def _counting(read: Any, counts: list[int]) -> Any:
    def counted(self: Any, images: Any, *rest: Any, **more: Any) -> Any:
        counts.append(len(images))
        return read(self, images, *rest, **more)

    return counted
