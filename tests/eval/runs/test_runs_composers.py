"""Composers in runs: the scores of ``cies search --modify``, composed once and stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import published
from typer.testing import CliRunner

import cies
from cies.cli.app import app
from eval.protocols.data_folder import Expected
from eval.protocols.registry import find_benchmark
from eval.reports.markdown import as_markdown
from eval.reports.report import report
from eval.runs import composed_queries
from eval.runs.answers import TEXTS, Answers, queries_of, rank_queries
from eval.runs.composers import ALL, ALWAYS, ComposerOptions
from eval.runs.measuring import measure
from eval.runs.run import Run, System
from eval.runs.run_encoders import EvaluatedEncoder, run_encoders
from eval.tasks import BenchmarkSource, QueryTask, TaskPart, TaskQuery
from eval.world.edits import FIXED
from eval.world.factors import Scene
from eval.world.render import render
from indexes.errors import ModelError, UsageError
from indexes.store.gallery import Gallery
from indexes.vectors import unit
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.factory import make_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.fill.pipeline import ingest
from query.composers.factory import CONDITION_COMPOSERS, composer_descriptions
from query.composers.modification import Modification

NAMES = ("color", "shape")
CHANGES = {"red-heart": "the same in green", "blue-star": "a circle instead"}
METHODS = ("clip", "captions", "dior")
#: No embedder is built in; tests/ingest/encoders/test_embedder.py runs one.
DESCRIBED = [name for name in composer_descriptions() if name != "embedder"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> QueryTask:
    """Nine pictures and two changes."""
    place = tmp_path_factory.mktemp("changes") / "pictures"
    place.mkdir()
    for number, color in enumerate(("red", "green", "blue")):
        for shape in ("heart", "star", "circle"):
            labels = {**FIXED, "style": "flat", "background": "white"}
            scene = Scene({**labels, "color": color, "shape": shape}, 31 * number + len(shape))
            render(scene, 96).save(place / f"{color}-{shape}.png")
    images = {path.stem: path for path in sorted(place.iterdir())}
    right = {"red-heart": "green-heart", "blue-star": "blue-circle"}
    queries = tuple(
        TaskQuery(name, name, text, {right[name]: 1.0}, exclude=(name,))
        for name, text in CHANGES.items()
    )
    parts = (TaskPart("", queries, tuple(images)),)
    return QueryTask("changes", BenchmarkSource("ours", "nowhere", "MIT"), images, parts, ("R@1",))


@pytest.fixture(scope="module")
def done(task: QueryTask, builtin: DiorEncoder, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with all composers."""
    run = Run.begin(tmp_path_factory.mktemp("run"), "changes", {}, [task])
    notes: list[str] = []
    change = Modification("as the question says")
    run_encoders(
        run,
        asked(builtin),
        ComposerOptions.from_names([ALL], change, "cpu", NAMES),
        warn=notes.append,
    )
    names = {system.composer for system in run.systems("changes")}
    assert set(DESCRIBED) <= names, notes
    return run


def asked(builtin: DiorEncoder) -> list[EvaluatedEncoder]:
    def make(method: str) -> Any:
        if method != "clip":
            return builtin if method == "dior" else make_encoder(method)
        with pytest.MonkeyPatch.context() as patch:
            # One by one, as a search has its picture: a batch gives other last bits, of which the
            # hundreds of steps of searle-oti make other words.
            patch.setattr("ingest.encoders.dual.encoder._BATCH", 1)
            return make_encoder(method)

    return [EvaluatedEncoder(m, {"method": m}, lambda m=m: make(m)) for m in METHODS]


@pytest.fixture(scope="module")
def engine(task: QueryTask, builtin: DiorEncoder) -> Any:
    """The same pictures as a gallery."""
    folder = next(iter(task.images.values())).parent
    made = Gallery.create(folder.parent / "gallery")
    ingest(made, [folder], [Condition.parse(name) for name in NAMES], lambda spec: builtin)
    for method in ("clip", "captions"):
        cies.ingest(made, method=method)
    return cies.open(made.path)


@pytest.mark.parametrize(
    "name",
    # Inversion takes hundreds of steps for each query.
    [pytest.param(n, marks=pytest.mark.soak) if n == "searle-oti" else n for n in DESCRIBED],
)
def test_a_run_has_the_scores_of_a_search(
    name: str, done: Run, task: QueryTask, engine: Any, tmp_path: Path
) -> None:
    encoder = "dior" if name in CONDITION_COMPOSERS else "clip"
    systems = [s for s in done.systems("changes") if (s.encoder, s.composer) == (encoder, name)]
    answers = Answers.load(done.answers_path("changes", systems[0]), len(CHANGES))
    names = list(task.images)
    for number, (picture, text) in enumerate(CHANGES.items()):
        found, scores, _ = answers.of_query(number)
        ours = dict(zip((names[at] for at in found), scores, strict=True))
        place = task.images[picture]
        if name == "searle-oti":
            # A gallery keeps its vectors in half precision, of which hundreds of steps make more.
            place = tmp_path / "new to the gallery.png"
            Image.open(task.images[picture]).save(place, compress_level=0)
        hits = engine.search(str(place), modify=text, composer=name, k=20)
        theirs = {Path(hit.path).stem: hit.score for hit in hits}
        if name == "searle-oti":
            del theirs[picture]
        assert ours.keys() == theirs.keys() == set(names) - {picture}
        near = 5e-4 if name == "searle-oti" else 2e-3
        assert [ours[key] for key in theirs] == pytest.approx(list(theirs.values()), abs=near)


def test_composed_queries_are_reused(
    done: Run, task: QueryTask, builtin: DiorEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model is loaded for a run whose answers are lost but whose composed queries are stored."""
    system = next(s for s in done.systems("changes") if s.composer == "pdv")
    before = done.answers_path("changes", system).read_bytes()
    document = json.loads(json.dumps(done.document))
    document["systems"]["changes"] = []
    again = Run(done.path, document, done.tasks)
    unneeded = [EvaluatedEncoder(m, {"method": m}, pytest.fail) for m in METHODS]
    change = Modification("as the question says")
    run_encoders(again, unneeded, ComposerOptions.from_names(["pdv", "dior"], change, "cpu", NAMES))
    assert again.answers_path("changes", system).read_bytes() == before
    with pytest.raises(UsageError, match="was composed with other options"):
        other = Modification("as the question says", lvlm="another")
        run_encoders(again, unneeded, ComposerOptions.from_names(["pdv"], other))


def test_an_interrupted_composition_can_be_continued(
    task: QueryTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composed_queries, "CHUNK", 1)
    run = Run.begin(tmp_path / "run", "changes", {}, [task])
    clip = make_encoder("clip")
    encoders = [EvaluatedEncoder("clip", {"method": "clip"}, lambda: clip)]
    change = Modification("as the question says", weights={"text": 0.3})
    composing = ComposerOptions.from_names(["sum"], change)
    composed: list[int] = []

    def once(what: str, done: int, total: int) -> None:
        if what.startswith("Composing"):
            composed.append(done)
            if len(composed) == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_encoders(run, encoders, composing, progress=once)
    run_encoders(run, encoders, composing, progress=once)
    assert composed == [1, 2]
    table = run.table(System("clip", "clip"))
    said = table.vectors(UNCONDITIONAL, list(CHANGES.values()), TEXTS)
    wanted = unit(0.7 * table.vectors(UNCONDITIONAL, list(CHANGES)) + 0.3 * said)
    system = next(s for s in run.systems("changes") if s.composer == "sum text=0.3")
    found, scores, _ = Answers.load(run.answers_path("changes", system), 2).of_query(1)
    gallery = table.vectors(UNCONDITIONAL, [list(task.images)[at] for at in found])
    np.testing.assert_allclose(scores, gallery @ wanted[1], atol=1e-6)


def test_both_orders_of_fashioniq_are_averaged(tmp_path: Path) -> None:
    data = published.fashioniq(tmp_path / "data")
    task = find_benchmark("fashioniq").load(data, expected=Expected(), captions="both")
    assert isinstance(task, QueryTask) and task.name == "fashioniq-val-split-both"
    ways = {part.name: (q.text, *q.rewordings) for part in task.parts for q in part.queries}
    assert ways["dress"] == ("is red and has long sleeves", "has long sleeves and is red")
    assert ways["shirt"] == ("is red",)
    run = Run.begin(tmp_path / "run", "fashioniq", {}, [task])
    run_encoders(run, [EvaluatedEncoder("clip", {"method": "clip"}, lambda: make_encoder("clip"))])
    assert Run.open(tmp_path / "run").tasks["fashioniq-val-split-both"] == task
    table = run.table(System("clip", "clip"))
    both = unit(table.vectors(UNCONDITIONAL, ways["dress"], TEXTS).mean(axis=0, keepdims=True))
    found, scores, _ = rank_queries(task, table, "text").of_query(0)
    gallery = table.vectors(UNCONDITIONAL, [list(task.images)[at] for at in found])
    np.testing.assert_allclose(scores, gallery @ both[0], atol=1e-6)


def test_circos_shared_concept_precedes_the_change(tmp_path: Path) -> None:
    data = published.circo(tmp_path)
    task = find_benchmark("circo").load(data, expected=Expected(), concept="told")
    assert task.name == "circo-val-concept"
    assert {q.text for _, q in queries_of(task)} == {"find a dog but is brown"}  # type: ignore[arg-type]


def test_composers_from_the_command_to_the_submitted_files(tmp_path: Path) -> None:
    """CIRCO's and CIRR's test splits, submitted for a composer."""
    for name, build, split in (
        ("circo", published.circo, "test"),
        ("cirr", lambda folder: published.cirr(folder, "test1"), "test1"),
    ):
        data, place = build(tmp_path / name), tmp_path / f"run-{name}"
        words = ["--data", str(data), "--partial", "--option", f"split={split}", "-o", str(place)]
        made = CliRunner().invoke(app, ["bench", name, *words, "--composer", "cirevl"])
        assert made.exit_code == 0, made.output
        asked = ["bench", "submit", f"{place}:clip cirevl", "-o", str(tmp_path / "out")]
        handed = CliRunner().invoke(app, asked)
        assert handed.exit_code == 0, handed.output
        for file in handed.stdout.split():
            content = json.loads(Path(file).read_text())
            lists = [value for value in content.values() if isinstance(value, list)]
            assert lists and all(len(set(one)) in (3, 50) for one in lists)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--composer", "magic"], "There is no composer 'magic'; choose one of image, text, sum"),
        (["--weight", "beta=1"], "--weight needs a composer; name one by --composer"),
        (["--lvlm", "x"], "--lvlm needs a composer"),
        (["--composer", "pdv", "-c", "color"], "--condition belongs to the composers dior and"),
        (
            ["--composer", "pdv", "--composer", "sum", "--weight", "beta=1"],
            "--weight is for one composer",
        ),
        (["--composer", "pdv", "--method", "dior"], "works on the vectors of the method clip"),
        (["--composer", "dior"], "works on the vectors of the method dior"),
        (["--composer", "weimo"], "add --method captions"),
        (["--composer", "pdv", "--rewriter", "ftp://x"], "begins with http:// or https://"),
        (["--composer", "pdv", "--rewriter-model", "x"], "--rewriter-model needs --rewriter"),
        (["--composer", "pdv", "--lvlm", "/nowhere"], "/nowhere"),
    ],
)
def test_errors_of_composers_are_one_sentence(
    words: list[str], message: str, tmp_path: Path
) -> None:
    data = ["--data", str(published.circo(tmp_path / "data")), "--partial"]
    asked = ["bench", "circo", *data, "-o", str(tmp_path / "run"), *words]
    found = CliRunner().invoke(app, asked)
    assert isinstance(found.exception, (UsageError, ModelError)), found.output
    assert message in str(found.exception)


def test_a_report_names_the_caption_writer(done: Run) -> None:
    measure(done)
    assert "clip cirevl: captions by tiny-lvlm" in as_markdown(report([done]), "Changes")
    assert set(ALWAYS) <= {s.composer for s in done.systems("changes")}
