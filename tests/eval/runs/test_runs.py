"""Runs are stored once, measured at any time, continued, compared and reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.stand_in import StandIn

from cies.html.report import report_page
from eval.benchmarks import tasks_of
from eval.labels import read_labels
from eval.metrics.names import metric
from eval.reports.compare import RunSelection, compare
from eval.reports.markdown import as_markdown
from eval.reports.published import every, published_for
from eval.reports.report import report
from eval.runs import vectors as stored
from eval.runs.abstention import abstention_auroc
from eval.runs.answers import Answers, queries_of, rank_queries
from eval.runs.baselines import ColorHistogram, RandomVectors
from eval.runs.measuring import load_figures, measure, query_scores
from eval.runs.pictures import crop_image
from eval.runs.run import Run, System
from eval.runs.run_encoders import EvaluatedEncoder, run_encoders
from eval.runs.task_files import task_digest, task_from_json, task_to_json
from eval.tasks import BenchmarkSource, Crop, LabelTask, QueryTask, TaskPart, TaskQuery
from indexes.errors import CiesError, UsageError
from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.base import Embeddings, EncoderSpec

SOURCE = BenchmarkSource("ours", "nowhere", "MIT")
SETS = Path(__file__).parents[4] / "shared" / "data"


class Reader(StandIn):
    """A stand-in that embeds texts too and has a model name."""

    def __init__(self, model: str = "stand-in"):
        super().__init__()
        self.model = model

    @property
    def spec(self) -> EncoderSpec:
        return EncoderSpec("dior", self.model, "1", {"prompt": "describe", "dtype": "float32"})

    def vector(self, image: Image.Image, phrase: str) -> np.ndarray:
        return super().vector(image, phrase + self.model)

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        rows = [[np.random.default_rng(len(text)).normal(size=16)] for text in texts]
        return Embeddings(unit(np.array(rows)), [], np.zeros((len(texts), 1), dtype=np.float32))


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "CHUNK", 16)


@pytest.fixture
def labels(world: Path) -> LabelTask:
    """Color, and the material that some pictures do not have."""
    found = read_labels(world / "labels.csv").values
    return LabelTask(
        "colors",
        SOURCE,
        {name: world / "images" / name for name in found},
        {
            column: {name: (row[column],) for name, row in found.items() if row[column]}
            for column in ("color", "material")
        },
    )


@pytest.fixture
def questions(labels: LabelTask) -> QueryTask:
    """Queries over a shared gallery without the reference, and over galleries of their own."""
    names = list(labels.images)
    shared = [
        TaskQuery(
            str(n), names[n], f"text {n}", {names[n + 1]: 1, names[n + 2]: 2}, None, (names[n],)
        )
        for n in range(8)
    ]
    own = [
        TaskQuery(f"own {n}", names[n], "color", {names[n + 9]: 1.0}, tuple(names[n + 3 : n + 10]))
        for n in range(5)
    ]
    parts = (TaskPart("shared", tuple(shared), tuple(names)), TaskPart("own", tuple(own), ()))
    return QueryTask("asked", SOURCE, dict(labels.images), parts, ("mAP@5", "R@1"))


def run_of(place: Path, tasks: Sequence[LabelTask | QueryTask], *encoders: Reader) -> Run:
    run = Run.begin(place, "ours", {}, tasks)
    run_encoders(
        run, [EvaluatedEncoder(e.model, {"model": e.model}, lambda e=e: e) for e in encoders]
    )
    return run


def test_tasks_round_trip(labels: LabelTask, questions: QueryTask) -> None:
    for task in (labels, questions):
        again = task_from_json(json.loads(json.dumps(task_to_json(task))))
        assert again == task and task_digest(again) == task_digest(task)
        moved = task_from_json(
            task_to_json(task) | {"images": dict.fromkeys(task.images, "/elsewhere")}
        )
        assert task_digest(moved) == task_digest(task)
    other = task_from_json(task_to_json(labels) | {"headline": "P@1"})
    assert task_digest(other) != task_digest(labels)


def test_answers_equal_brute_force(tmp_path: Path, questions: QueryTask) -> None:
    encoder = Reader()
    run = run_of(tmp_path / "run", [questions], encoder)
    system = next(s for s in run.systems("asked") if s.name == "stand-in sum")
    answers = Answers.load(run.answers_path("asked", system), 13)
    names = list(questions.images)
    pictures = {name: encoder.vector(_open(questions.images[name]), "") for name in names}
    for number, (part, query) in enumerate(queries_of(questions)):
        text = encoder.embed_text([query.text], [Condition.parse("x")]).vectors[0, 0]
        asked = pictures[query.image] + text
        asked /= np.linalg.norm(asked)
        candidates = [k for k in query.gallery or part.gallery if k not in query.exclude]
        wanted = sorted(candidates, key=lambda k: -float(asked @ pictures[k]))
        found, scores, head = answers.of_query(number)
        assert [names[n] for n in found] == wanted and head == len(wanted)
        assert scores == pytest.approx([float(asked @ pictures[k]) for k in wanted], abs=1e-5)
    # Right answers beyond the depth are stored after the best answers.
    cut = rank_queries(questions, run.table(system), "sum", depth=3)
    for number, (_, query) in enumerate(queries_of(questions)):
        found, _, head = cut.of_query(number)
        assert head == 3 and set(query.relevant) <= {names[n] for n in found}


def _open(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def test_figures_equal_brute_force(tmp_path: Path, labels: LabelTask) -> None:
    encoder = Reader()
    run = run_of(tmp_path / "run", [labels], encoder)
    figures = {(f.system, *f.key): f for f in measure(run)}
    for condition in labels.labels:
        for judge, of in labels.labels.items():
            names = list(of)
            every = np.stack([encoder.vector(_open(labels.images[n]), condition) for n in names])
            nearest = every @ every.T - 9 * np.eye(len(names))
            values = np.array([of[name][0] for name in names])
            asked = [n for n in range(len(names)) if (values == values[n]).sum() > 1]
            hits = [values[nearest[n].argmax()] == values[n] for n in asked]
            figure = figures["stand-in", condition, judge, "P@1"]
            assert figure.value == pytest.approx(np.mean(hits)) and figure.queries == len(asked)
            assert figure.own == (condition == judge)
            assert figure.low <= figure.value <= figure.high
    assert {s.name for s in run.systems("colors")} == {
        "random", "histogram", "stand-in", "stand-in image only",
    }  # fmt: skip
    # Measured again from the stored files, without pictures and encoder.
    assert measure(Run.open(run.path), again=True) == load_figures(run)


def test_no_picture_is_embedded_twice(tmp_path: Path, labels: LabelTask) -> None:
    encoder = Reader()
    encoder.fail_after = 2
    with pytest.raises(RuntimeError):
        run_of(tmp_path / "run", [labels], encoder)
    assert encoder.pictures == 32
    encoder.fail_after = None
    run = run_of(tmp_path / "run", [labels], encoder)
    assert encoder.pictures == 60 and len(encoder.calls) == 4
    run_of(tmp_path / "run", [labels], encoder)
    assert encoder.pictures == 60
    whole = run_of(tmp_path / "whole", [labels], Reader())
    assert measure(run) == measure(whole)


_KILLED = """
import sys, time
sys.path[:0] = [{tests!r}]
from pathlib import Path
from eval.runs import vectors
from eval.runs.run import Run
from eval.runs.run_encoders import EvaluatedEncoder, run_encoders
from support.stand_in import StandIn
vectors.CHUNK = 4
class Slow(StandIn):
    def embed(self, images, conditions, words=True):
        with open({log!r}, "a") as log:
            log.write("x" * len(images) + "\\n")
        time.sleep({pause})
        return super().embed(images, conditions, words)
run = Run.open(Path({run!r}))
run_encoders(run, [EvaluatedEncoder("slow", {{}}, Slow)])
print("done")
"""


def test_a_killed_run_can_be_continued(tmp_path: Path, labels: LabelTask) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    Run.begin(run, "ours", {}, [labels])
    log.touch()

    def start(pause: float) -> subprocess.Popen[str]:
        code = _KILLED.format(
            tests=str(Path(__file__).parents[2]), log=str(log), run=str(run), pause=pause
        )
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    first = start(0.05)
    while log.read_text().count("\n") < 6:
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    first.wait()
    jobs = [p.parent for p in run.glob("vectors/*/job.json") if "histogram" not in str(p)]
    kept = sum(len(list(job.glob("*.npz"))) for job in jobs)
    before = log.read_text().count("\n")
    assert 5 <= kept <= before < 15
    second = start(0)
    assert second.communicate(timeout=120)[0] == "done\n"
    # Stored chunks are kept; at most the chunk in progress is lost.
    assert log.read_text().count("\n") - before == 15 - kept
    assert before - kept <= 1
    vectors = Run.open(run).table(System("slow", "slow")).vectors("color", list(labels.images))
    whole = StandIn()
    for name, vector in zip(labels.images, vectors, strict=True):
        assert vector == pytest.approx(whole.vector(_open(labels.images[name]), "color"))


def test_a_folder_with_other_content_is_refused(
    tmp_path: Path, labels: LabelTask, questions: QueryTask
) -> None:
    run = run_of(tmp_path / "run", [labels], Reader())
    with pytest.raises(UsageError, match="is a run of ours, not of other"):
        Run.begin(run.path, "other", {}, [labels])
    with pytest.raises(UsageError, match="was run on other data"):
        Run.begin(run.path, "ours", {}, [questions])
    with pytest.raises(UsageError, match="was run with other options"):
        Run.begin(run.path, "ours", {"gallery": "split"}, [labels])
    with pytest.raises(UsageError, match="has answers of stand-in with other options"):
        run_encoders(run, [EvaluatedEncoder("stand-in", {"model": "other"}, Reader)])
    with pytest.raises(UsageError, match="is not a run folder"):
        Run.open(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(UsageError, match="exists and is not a run folder"):
        Run.begin(tmp_path / "photos", "ours", {}, [labels])


@pytest.mark.parametrize(
    "pattern", ["run.json", "tasks/*.gz", "vectors/dior-*/*.npz", "answers/*/stand*"]
)
def test_damaged_files_are_named(
    tmp_path: Path, labels: LabelTask, questions: QueryTask, pattern: str
) -> None:
    run = run_of(tmp_path / "run", [labels, questions], Reader())
    for path in run.path.glob(pattern):
        content = bytearray(path.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        path.write_bytes(content)
    with pytest.raises(CiesError, match="is damaged or missing; delete it") as found:
        measure(Run.open(run.path))
    assert str(run.path) in str(found.value) and "\n" not in str(found.value)


def test_a_missing_picture_is_named(tmp_path: Path, labels: LabelTask) -> None:
    gone = LabelTask("gone", SOURCE, {**labels.images, "x.jpg": tmp_path / "x.jpg"}, labels.labels)
    with pytest.raises(CiesError, match=r"x\.jpg cannot be read: there is no such file"):
        run_of(tmp_path / "run", [gone], Reader())


def test_compare_lists_settings_and_figures(tmp_path: Path, labels: LabelTask) -> None:
    first = run_of(tmp_path / "a", [labels], Reader("one"))
    second = run_of(tmp_path / "b", [labels], Reader("two"))
    found = compare(RunSelection.of(str(first.path)), RunSelection.of(str(second.path)))
    assert ("model", "one", "two") in found.settings
    assert "seed" not in {name for name, _, _ in found.settings}
    back = compare(RunSelection.of(f"{second.path}:two"), RunSelection.of(f"{first.path}:one"))
    assert len(found.differences) == len(back.differences) > 10
    for one, other in zip(found.differences, back.differences, strict=True):
        assert one.difference == pytest.approx(-other.difference)
        assert one.low <= one.difference <= one.high and 0 < one.p <= one.p_adjusted <= 1
    figures = {(f.system, *f.key): f.value for f in load_figures(first)}
    d = found.differences[0]
    assert d.first == figures["one", d.row, d.judge, d.metric]
    # Two systems of one run.
    inside = compare(
        RunSelection.of(f"{first.path}:one"), RunSelection.of(f"{first.path}:histogram")
    )
    assert {(d.row, d.judge) for d in inside.differences} == {(c, c) for c in labels.labels}
    for texts, message in [
        ((f"{first.path}:nothing", str(first.path)), "has no 'nothing'; name one of"),
        ((str(first.path), str(first.path)), "nothing different to compare"),
    ]:
        with pytest.raises(UsageError, match=message):
            compare(*(RunSelection.of(text) for text in texts))
    small = LabelTask("small", SOURCE, labels.images, {"color": labels.labels["color"]})
    third = run_of(tmp_path / "c", [small], Reader("one"))
    with pytest.raises(UsageError, match="have no task in common"):
        compare(RunSelection.of(str(first.path)), RunSelection.of(str(third.path)))


def test_a_report_has_the_measured_figures(
    tmp_path: Path, labels: LabelTask, questions: QueryTask
) -> None:
    run = run_of(tmp_path / "run", [labels, questions], Reader())
    found = report([run])
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    of = {s["name"]: s for s in document["tasks"][0]["systems"]}
    figure = next(f for f in of["stand-in"]["figures"] if f["metric"] == "MAP@R" and f["own"])
    text = as_markdown(found, "Ours & theirs")
    assert f"{figure['value']:.3f}" in text and "| chance |" in text
    page = report_page(found, "Ours & theirs")
    assert "Ours &amp; theirs" in page and "<script" not in page and "http" not in page
    assert page.count('class="asked"') == sum(len(s.worst) for s in found.sections) > 3
    # The worst query of each condition is the one with the least value.
    worst = {w.row: w.value for w in found.sections[0].worst}
    system = System("stand-in", "stand-in")
    for row, value in worst.items():
        assert value == query_scores(run, "colors", system, (row, row, "MAP@R")).values.min()
    leakage = found.sections[0].leakage(found.sections[0].systems[2])
    every = of["stand-in"]["figures"]
    off = [f["corrected"] for f in every if not f["own"] and f["metric"] == "MAP@R"]
    assert leakage == pytest.approx(np.mean(off))


def test_a_histogram_counts_colors() -> None:
    image = Image.new("RGB", (10, 10), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 10, 3))
    vector = ColorHistogram().encode([image], [Condition.parse("x")])[0, 0]
    # Hue 0 and 170 of 256, full saturation and value: bins (0, 2, 2) and (10, 2, 2).
    assert vector[8] ** 2 == pytest.approx(0.7) and vector[10 * 9 + 8] ** 2 == pytest.approx(0.3)
    assert np.flatnonzero(vector).tolist() == [8, 98]


def test_a_crop_is_padded_to_a_square() -> None:
    image = Image.new("RGB", (20, 10), (9, 9, 9))
    assert crop_image(image, Crop((5, -4, 30, 8))).size == (15, 8)
    square = np.asarray(crop_image(image, Crop((0, 0, 10, 4), square=True)))
    assert square.shape == (10, 10, 3)
    assert square[:, 0, 0].tolist() == [0] * 3 + [9] * 4 + [0] * 3


def test_abstention_auroc_is_the_area_under_the_curve() -> None:
    labels = {str(n): ("applies" if n % 3 else "absent",) for n in range(40)}
    table = RandomVectors(3)
    ((name, numbers, values),) = abstention_auroc(table, "x", labels)
    every = table.vectors("x", list(labels))
    sure = (every @ every.T - 9 * np.eye(40)).max(axis=1)
    pairs = [
        np.sign(sure[a] - sure[b]) / 2 + 0.5 for a in range(40) if a % 3 for b in range(0, 40, 3)
    ]
    assert name == "AUROC (nearest)" and numbers.tolist() == list(range(0, 40, 3))
    assert values.mean() == pytest.approx(np.mean(pairs))


def test_published_figures_have_our_metric_names() -> None:
    assert len(every()) > 100
    for one in every():
        assert 0 < one.value < 1 and one.seen in ("repository", "secondary")
        if one.metric not in ("NMI", "AMI"):
            metric(one.metric)
    assert {p.task for p in published_for("circo-val")} == {"circo-test"}
    assert all("validation" in p.differs("circo-val") for p in published_for("circo-val"))
    assert published_for("cub200") == [] and published_for("cub200-indirect")


@pytest.mark.parametrize("name", ["clothes", "emoji", "icons", "produce"])
def test_the_real_sets(name: str, tmp_path: Path) -> None:
    """Their files are read as a benchmark, and a few of their queries are answered."""
    if not (SETS / name).is_dir():
        pytest.skip(f"{SETS / name} is not there")
    tasks = tasks_of("folder", SETS / name, {}, False, 0, tmp_path)
    assert [type(task).__name__ for task in tasks] == ["LabelTask", "QueryTask"]
    triplets = tasks[1]
    few = [TaskPart(p.name, p.queries[:10], p.queries[0].gallery) for p in triplets.parts]
    used = {k for p in few for q in p.queries for k in (q.image, *q.gallery)}
    images = {key: path for key, path in triplets.images.items() if key in used}
    small = QueryTask(triplets.name, SOURCE, images, tuple(few), triplets.metrics, conditions=True)
    figures = measure(run_of(tmp_path / "run", [small], Reader()))
    mine = [f for f in figures if f.system == "stand-in condition" and f.metric == "R@1"]
    assert len(mine) == len(few) and all(f.chance == 0.5 and f.queries == 10 for f in mine)
