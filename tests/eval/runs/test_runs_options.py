"""Options of benchmarks, and results of runs in other files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import published
from support.stand_in import StandIn
from typer.testing import CliRunner

from cies.cli.app import app
from eval.benchmarks import tasks_of
from eval.metrics.names import metric
from eval.protocols.data_folder import Expected
from eval.protocols.registry import PROTOCOLS, find_benchmark
from eval.reports.published import published_for
from eval.reports.report import report
from eval.reports.reproduce_page import write_into
from eval.reports.verification import NOT_RUN, OFF, VERIFIED, comparable_figure, status
from eval.runs.answers import Answers
from eval.runs.measuring import measure
from eval.runs.run import Run, System
from eval.runs.run_encoders import EvaluatedEncoder, run_encoders
from eval.tasks import BenchmarkSource, LabelTask, QueryTask
from indexes.errors import DataError, UsageError
from indexes.search.multi_vector import joined
from indexes.vectors import unit
from ingest.encoders.base import EncoderSpec
from ingest.encoders.methods.regional import PARTS


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_unknown_options_are_refused(name: str, tmp_path: Path) -> None:
    """Unknown values too, and options named like arguments."""
    for wrong in ("nonsense", "partial", "folder", "expected", "self", "data"):
        with pytest.raises(UsageError, match=f"{name} has no option '{wrong}'; it has: "):
            tasks_of(name, None, {wrong: "x"}, False, 0, tmp_path)
    for option in PROTOCOLS[name].options:
        if option.values:
            with pytest.raises(UsageError, match=f"{name} has no {option.name} 'nonsense'; name"):
                tasks_of(name, tmp_path, {option.name: "nonsense"}, False, 0, tmp_path)


def test_options_of_a_folder_depend_on_its_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        published.picture(tmp_path / "images" / f"{name}.png")
    columns = ("pair", "condition", "query", "positive", "negative")
    rows = [("x", "color", "a.png", "b.png", "c.png")]
    published.write_csv(tmp_path / "triplets.csv", columns, rows)
    with pytest.raises(
        UsageError, match=r"has triplets\.csv, has no option 'leave_out'; it has: c"
    ):
        tasks_of("folder", tmp_path, {"leave_out": "color"}, False, 0, tmp_path)
    found = tasks_of("folder", tmp_path, {"conditions": "color=hue"}, False, 0, tmp_path)
    assert len(found) == 1
    labels = [("a.png", "red"), ("b.png", "red"), ("c.png", "blue")]
    published.write_csv(tmp_path / "labels.csv", ("file", "color"), labels)
    with pytest.raises(UsageError, match="has no option 'nonsense'; it has: conditions, leave_out"):
        tasks_of("folder", tmp_path, {"nonsense": ""}, False, 0, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["world", "--option", "pictures=ten"], "pictures=ten: give a whole number from 100 on"),
        (["world", "--option", "pictures=100", "--option", "pictures=200"], "is given twice"),
        (["circo", "--option", "partial=x"], "circo has no option 'partial'; it has: split"),
        (["circo", "--option", "split="], "circo has no split ''; name one of val, test"),
    ],
)
def test_invalid_options_are_refused_before_reading(words: list[str], message: str) -> None:
    found = CliRunner().invoke(app, ["bench", *words])
    assert isinstance(found.exception, UsageError) and message in str(found.exception)


def test_a_repeated_picture_in_a_json_file_is_named(tmp_path: Path) -> None:
    folder = published.clevr4(tmp_path / "same name")
    file = folder / "clevr_4_annots.json"
    whole = file.read_text()
    file.write_text(whole[:-1] + ', "a.png": {}}')
    with pytest.raises(DataError, match=r"has the name a\.png twice"):
        find_benchmark("clevr4").load(folder, expected=Expected(), partial=True)
    file.write_text(whole[:-1] + ', "a": {}}')
    with pytest.raises(DataError, match=r"has the picture a\.png twice"):
        find_benchmark("clevr4").load(folder, expected=Expected(), partial=True)


class Parted(StandIn):
    """Rows of five vectors, each a direction of the stand-in's."""

    @property
    def spec(self) -> EncoderSpec:
        return EncoderSpec("regional", "stand-in", "1", {"parts": PARTS})

    def vector(self, image: object, phrase: str) -> np.ndarray:
        each = [super(Parted, self).vector(image, f"{phrase} {n}") for n in range(PARTS)]  # type: ignore[arg-type]
        return joined(unit(np.stack(each)))


def test_the_best_of_several_vectors_counts(world: Path, tmp_path: Path) -> None:
    names = [f"{number:05d}.jpg" for number in range(1, 13)]
    labels = {name: (str(number % 3),) for number, name in enumerate(names)}
    images = {name: world / "images" / name for name in names}
    task = LabelTask("parted", BenchmarkSource("ours", "nowhere", "MIT"), images, {"color": labels})
    run = Run.begin(tmp_path / "run", "ours", {}, [task])
    run_encoders(run, [EvaluatedEncoder("regional", {"method": "regional"}, Parted)])
    figures = {f.metric: f.value for f in measure(run) if f.system == "regional"}
    rows = run.table(System("regional", "regional")).vectors("color", names)
    parts = rows.reshape(len(names), PARTS, -1) * np.sqrt(PARTS)
    first = []
    for asked in range(len(names)):
        best = [float((parts[other] @ parts[asked, 0]).max()) for other in range(len(names))]
        best[asked] = -2.0
        first.append(labels[names[int(np.argmax(best))]] == labels[names[asked]])
    assert figures["P@1"] == pytest.approx(np.mean(first))


def test_depth_limits_the_stored_answers(tmp_path: Path) -> None:
    data = published.circo(tmp_path / "data")
    task = find_benchmark("circo").load(data, expected=Expected())
    run = Run.begin(tmp_path / "run", "circo", {}, [task], depth=50)
    run_encoders(run, [])
    answers = Answers.load(run.answers_path(task.name, run.systems(task.name)[0]), 2)
    assert answers.heads.tolist() == [50, 50] and answers.candidates.tolist() == [60, 60]
    with pytest.raises(UsageError, match="keeps the best 50 answers, not 1000"):
        Run.begin(tmp_path / "run", "circo", {}, [task])


def test_published_figures_are_compared_with_the_same_method(tmp_path: Path) -> None:
    data = published.circo(tmp_path / "data")
    task = find_benchmark("circo").load(data, expected=Expected(), split="val")
    assert isinstance(task, QueryTask)
    run = Run.begin(tmp_path / "run", "circo", {}, [task])
    run_encoders(run, [])
    (section,) = report([run], sheets=False).sections
    one = next(p for p in published_for(task.name) if p.system.startswith("CIReVL + PDV"))
    assert (one.method, one.metric) == ("pdv", "mAP@5")
    assert one.names("openai/clip-vit-base-patch32") and not one.names("tiny-clip")
    found = comparable_figure(section, one)
    assert found is not None and not found.same
    assert status(section, one) == NOT_RUN  # another split, another model, another method
    assert {metric(p.metric).name for p in section.published} <= set(task.metrics)

    # As if the same had been run.
    results = section.systems[0]
    run.document["encoders"]["clip x"] = {
        "made_by": {"method": "clip", "model": "openai/clip-vit-base-patch32"}
    }
    same = replace(results, name="clip x pdv", system=replace(results.system, encoder="clip x"))
    same = replace(same, system=replace(same.system, composer="pdv"))
    ours = replace(section, systems=(same,))
    assert comparable_figure(ours, one) is not None and comparable_figure(ours, one).same  # type: ignore[union-attr]
    value = comparable_figure(ours, one).value  # type: ignore[union-attr]
    without_condition = replace(one, protocol="the same", task=task.name)
    assert status(ours, replace(without_condition, value=value + 0.01)) == VERIFIED
    assert status(ours, replace(without_condition, value=value + 0.1)) == OFF


def test_unseen_splits_are_noted() -> None:
    for task in ("circo-test", "circo-val", "cirr-test1", "cirr-val"):
        assert all("their split was not seen" in p.differs(task) for p in published_for(task))
    both = [p for p in published_for("fashioniq-val-split-and") if p.method.startswith("searle")]
    assert both and all("one order" in p.differs("fashioniq-val-split-and") for p in both)
    assert not any(p.differs("fashioniq-val-split-both") for p in both)
    told = [p for p in published_for("circo-test-concept") if "MagicLens" in p.system]
    assert told and "shared concept" not in told[0].differs("circo-test-concept")


def test_figures_are_written_into_a_page(tmp_path: Path) -> None:
    task = find_benchmark("circo").load(published.circo(tmp_path / "data"), expected=Expected())
    run = Run.begin(tmp_path / "run", "circo", {"split": "val"}, [task])
    run_encoders(run, [])
    run.spend("asking", 61.2)
    made = report([run], sheets=False)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- run of circo -->\nold\n<!-- end of circo -->\nafter\n")
    write_into(page, made)
    first = page.read_text()
    write_into(page, made)
    assert page.read_text() == first
    assert first.startswith(
        "before\n<!-- run of circo -->\n`cies bench circo --option split=val` t"
    )
    assert "took 61 seconds (asking 61)" in first and "old" not in first
    assert "| circo-val | random | mAP@5 |" in first and first.endswith("-->\nafter\n")
    page.write_text("nothing")
    with pytest.raises(UsageError, match="has no place for a run of circo"):
        write_into(page, made)
    assert page.read_text() == "nothing"


def test_several_layers_are_systems_of_their_own(tmp_path: Path, world: Path) -> None:
    """Each as in a run of that layer alone."""
    pictures = sorted((world / "images").iterdir())[:12]
    (tmp_path / "data" / "images").mkdir(parents=True)
    for picture in pictures:
        shutil.copy(picture, tmp_path / "data" / "images")
    rows = [(picture.name, "red" if n % 2 else "blue") for n, picture in enumerate(pictures)]
    published.write_csv(tmp_path / "data" / "labels.csv", ("file", "color"), rows)

    def run(name: str, *words: str) -> Run:
        where = ["--data", str(tmp_path / "data"), "-o", str(tmp_path / name)]
        found = CliRunner().invoke(app, ["bench", "folder", *where, "--model", "tiny-lvlm", *words])
        assert found.exit_code == 0, found.output
        return Run.open(tmp_path / name)

    both = run("both", "--layer", "-1", "--layer", "-2")
    last, inner = "dior tiny-lvlm", "dior@-2 tiny-lvlm"
    assert {last, inner} <= set(both.document["encoders"])
    alone = run("alone", "--layer", "-2")
    [task] = both.tasks
    for name, other, label in ((inner, alone, last), (last, run("last"), last)):
        keys = list(both.tasks[task].images)
        ours = both.table(System(name, name)).vectors("color", keys)
        theirs = other.table(System(label, label)).vectors("color", keys)
        assert (ours == theirs).all()
    refused = CliRunner().invoke(app, ["bench", "folder", "--method", "clip@2"])
    assert "a layer is named as in dior@-2" in str(refused.exception)
