"""Methods side by side: how they are judged, which costs are stored, what is printed."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.commands import run
from support.json_docs import documented, leaves, printed, wrong
from support.judged import judge

from cies.bench import methods as bench_methods
from cies.bench.methods import run_bench_methods
from cies.measured import costs_file, measured_costs, remember_costs
from cies.reports.models import ADVICE
from eval.bench.cost import MethodCost
from eval.bench.methods.compare import (
    MEASURED,
    OWN,
    SHIPPED,
    JudgedMethod,
    MethodComparison,
    check_methods,
    compare_methods,
    world_judge,
)
from eval.bench.methods.page import page, quality_rows, written_by_hand
from eval.bench.methods.sets import SetScores, TripletAccuracy, score_sets
from eval.judge import LabelCell, LabelMatrix, MetricMean, judge_triplets
from eval.metrics.formulas import triplet_accuracy
from eval.world.factors import FACTORS, sample_scenes
from indexes.errors import UsageError
from indexes.search.multi_vector import joined
from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.factory import METHODS
from ingest.encoders.methods.dior import DiorEncoder
from ingest.read.images import load

COST = MethodCost("dior", "tiny-lvlm", "cpu", "float32", 2, 200, 10, 50.0, 25.0, 4.0, 30.0, 192)


def test_the_world_is_judged_by_its_factors() -> None:
    scenes = sample_scenes(50, 3)
    judge = world_judge(scenes)
    assert list(judge.pictures) == [str(number) for number in range(50)]
    for factor in FACTORS:
        known = [number for number, scene in enumerate(scenes) if scene.labels[factor]]
        assert judge.query_ids(factor) == [str(number) for number in known]
        assert all(judge.labels[factor][str(n)] == (scenes[n].labels[factor],) for n in known)


def test_pictures_of_unknown_value_are_left_out(random: np.random.Generator) -> None:
    rows = unit(random.normal(size=(80, 8)).astype(np.float32))
    values = {"a": random.integers(0, 4, 80), "b": random.integers(0, 3, 80)}
    values["b"][::7] = -1
    found = judge(rows, values)
    for name, each in values.items():
        known = each >= 0
        alone = judge(rows[known], {name: each[known]})[name]
        assert found[name].queries == alone.queries
        for metric, mean in alone.metrics.items():
            assert vars(found[name].metrics[metric]) == pytest.approx(vars(mean))


def test_of_several_parts_the_best_counts(random: np.random.Generator) -> None:
    each = unit(random.normal(size=(30 * 5, 8)).astype(np.float32)).reshape(30, 5, 8)
    values = random.integers(0, 3, 30)
    cosines = np.array([[max(q[0] @ part for part in row) for row in each] for q in each])
    found = judge(joined(each), {"a": values}, parts=5)["a"].metrics["P@1"].value
    np.fill_diagonal(cosines, -1)
    assert found == pytest.approx(np.mean(values[cosines.argmax(1)] == values))
    triplets = random.integers(0, 30, (50, 3))
    near, far = (cosines[triplets[:, 0], triplets[:, side]] for side in (1, 2))
    apart = (triplets[:, 0] != triplets[:, 1]) & (triplets[:, 0] != triplets[:, 2])
    expected = triplet_accuracy(near, far)[apart].mean()
    assert judge_triplets(joined(each), triplets[apart], 5).value == pytest.approx(expected)


def test_equal_vectors_count_in_expectation() -> None:
    """Pictures of one word have one vector; the order in which they were read says nothing."""
    values = np.array([0, 0, 0, 1, 1, 1])
    rows = np.ones((6, 1), dtype=np.float32)
    for order in (np.arange(6), np.arange(6)[::-1]):
        means = judge(rows, {"a": values[order]})["a"].metrics
        assert all(mean.value == pytest.approx(mean.chance) for mean in means.values())


def test_every_method_is_measured_and_views_beat_the_clip_they_stand_on() -> None:
    found = compare_methods("tiny-lvlm", "tiny-clip", 60, 5, size=96, names=["size"])
    assert [cost.method for cost in found.costs] == list(MEASURED)
    kinds = [(one.method, one.words) for one in found.judged]
    views = ("indirect", "crl", "clay")
    assert set(kinds) == {(m, "") for m in MEASURED if m not in views} | {
        (m, words) for m in views for words in (SHIPPED, OWN)
    }
    own = {kind: one.matrix.own for kind, one in zip(kinds, found.judged, strict=True)}
    assert all(own[m, SHIPPED] > own["clip", ""] for m in ("indirect", "crl", "clay"))
    assert all(cost.one_rate > 0 and cost.query_ms > 0 for cost in found.costs)
    costs = {cost.method: cost for cost in found.costs}
    assert costs["clip"].condition_seconds == 0 < costs["crl"].condition_seconds
    assert costs["clay"].model == "tiny-clip" and costs["dior"].dimension == 192


def write_triplets(folder: Path, rows: list[tuple[str, str, str, str, str]]) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "triplets.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["pair", "condition", "query", "positive", "negative"])
        writer.writerows(rows)
    return folder / "triplets.csv"


def test_triplets_of_a_set(world: Path, tmp_path: Path, builtin: DiorEncoder) -> None:
    names = [f"0000{n}.jpg" for n in range(1, 7)]
    rows = [("a~b", "tone", names[n], names[n + 1], names[n + 2]) for n in range(4)]
    rows += [("a~b", "zzz", names[n + 2], names[n + 1], names[n]) for n in range(4)]
    file = write_triplets(tmp_path / "set", rows)
    (tmp_path / "set" / "images").symlink_to(world / "images")
    # Two of the four stored methods are enough to see that each is judged by its own vectors.
    methods = ["dior", "clip", "indirect", "crl", "clay"]
    (found,) = score_sets([file], "tiny-lvlm", "tiny-clip", {"tone": "color"}, methods)
    assert (found.name, found.pictures) == ("set", 6)
    tone, other = found.rows
    assert (tone.condition, tone.asked, tone.triplets) == ("tone", "color", 4)
    assert set(tone.methods) == {"dior", "clip", "indirect", "crl", "clay"}
    assert set(other.methods) == {"dior", "clip"}  # nobody knows a word for it
    assert found.mean("clay") is None and found.mean("clip") is not None
    images = [load(world / "images" / name).image for name in names]
    seen = builtin.encode(images, [Condition.parse("color")])[:, 0]
    near = [float(seen[n] @ seen[n + 1]) for n in range(4)]
    far = [float(seen[n] @ seen[n + 2]) for n in range(4)]
    accuracy = tone.methods["dior"]
    assert accuracy.value == triplet_accuracy(np.array(near), np.array(far)).mean()
    assert accuracy.low <= accuracy.value <= accuracy.high and accuracy.chance == 0.5


def test_a_set_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no triplet"):
        score_sets([write_triplets(tmp_path / "a", [])], "tiny-lvlm", "tiny-clip", {})
    rows = [("a~b", "color", "1.png", "2.png", "3.png")]
    with pytest.raises(UsageError, match=r"names 1\.png, which does not exist"):
        score_sets([write_triplets(tmp_path / "b", rows)], "tiny-lvlm", "tiny-clip", {})
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / "b" / name).write_text("no picture")
    with pytest.raises(UsageError, match=r"Cannot read .*1\.png"):
        score_sets([tmp_path / "b" / "triplets.csv"], "tiny-lvlm", "tiny-clip", {})


def test_the_newest_cost_of_a_kind_is_kept() -> None:
    assert measured_costs() == []
    remember_costs([COST, replace(COST, method="clip", model="tiny-clip")])
    remember_costs([replace(COST, query_ms=7.0)])
    kept = {cost.method: cost for cost in measured_costs()}
    assert kept["dior"].query_ms == 7.0 and kept["clip"].query_ms == 30.0
    assert len(measured_costs()) == 2
    costs_file().write_text("{")
    assert measured_costs() == []
    costs_file().unlink()
    costs_file().mkdir()  # nobody loses a run over a note
    remember_costs([COST])
    assert measured_costs() == []


def test_methods_are_told_with_and_without_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert ADVICE.keys() == METHODS.keys()
    table = documented("cies methods --json")
    bare = json.loads(printed(capsys, "methods", "--json"))
    assert [one["name"] for one in bare["methods"]] == list(METHODS)
    assert all(one["costs"] == [] for one in bare["methods"])
    remember_costs([COST, replace(COST, method="clay", model="tiny-clip")])
    document = json.loads(printed(capsys, "methods", "--json"))
    assert wrong(document, table) == []
    paths = {path for path, _ in leaves(document, table)}
    assert {path for path in table if "ingests" not in path} <= paths
    (dior,) = document["methods"][0]["costs"]
    assert dior["picture_ms"] == 20.0
    assert dior["further_condition_ms"] == pytest.approx(20 / 9)  # 40 ms for ten
    out = printed(capsys, "methods")
    assert all(name in out for name in METHODS) and "4 s for 200" in out


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measuring itself, which takes minutes, replaced by what it may find."""

    def matrix(own: float) -> LabelMatrix:
        figures = {"color": (own, True), "shape": (0.2, False)}
        return LabelMatrix(
            tuple(
                LabelCell(
                    "color",
                    label,
                    is_own,
                    9,
                    {"MAP@R": MetricMean(value, 0.1, value, value + 0.02)},
                )
                for label, (value, is_own) in figures.items()
            )
        )

    texts = {"color": MetricMean(0.75, 0.1, 0.7, 0.8)}
    judged = [JudgedMethod("dior", "", matrix(0.5), texts), JudgedMethod("clip", "", matrix(0.125))]
    judged += [JudgedMethod("clay", words, matrix(0.5)) for words in (SHIPPED, OWN)]
    found = MethodComparison(100, 1, judged, [COST])
    shares = {"dior": MetricMean(0.75, 0.5, 0.5, 1.0), "clip": MetricMean(0.5, 0.5, 0.2, 0.8)}
    row = TripletAccuracy("a~b", "tone", "color", 3, shares)
    monkeypatch.setattr(bench_methods, "compare_methods", lambda *a, **k: found)
    monkeypatch.setattr(bench_methods, "score_sets", lambda *a: [SetScores("s", 9, [row])])


def test_what_a_bench_of_methods_prints_writes_and_keeps(
    measured: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = documented("cies bench methods --json")
    words = ["bench", "methods", "-n", 100, "--triplets", "x.csv", "--write", tmp_path / "page.md"]
    document = json.loads(printed(capsys, *words, "--json"))
    assert wrong(document, table) == []
    assert set(table) == {path for path, _ in leaves(document, table)}
    text = " ".join((tmp_path / "page.md").read_text().split())
    assert "Under color, MAP@R is that of plain `clip` times 4.0 by `clay`." in text
    # What a person wrote below the figures stays when these are measured again.
    (tmp_path / "page.md").write_text(
        page(MethodComparison(0, 1), [], "a", "b", {}, "It *follows*.")
    )
    printed(capsys, *words, "--json")
    again = (tmp_path / "page.md").read_text()
    assert written_by_hand(again) == "It *follows*." and again.count("follows") == 1
    assert " ".join(again.replace("It *follows*.", "").split()).startswith(text[:200])
    assert "| dior | color | 0.750 | 0.700-0.800 | 0.100 |" in text and "at most ±0.010" in text
    assert "| clay | 0.500 | 0.500 | 0.111 |" in text and "| a~b | tone | 0.75 |" in text
    assert [cost.method for cost in measured_costs()] == ["dior"]
    out = printed(capsys, *words[:-2])
    assert "clay\tshipped words\t0.500" in out and "a~b\ttone\tcolor\t0.75" in out
    assert len(quality_rows(bench_methods.compare_methods())[1]) == 5


@pytest.mark.parametrize(
    ("pictures", "renamed", "write", "message"),
    [
        (0, [], None, "nothing to measure"),
        (99, [], None, "at least 100, or 0"),
        (100, ["tone"], None, "is not CONDITION=ASKED"),
        (100, ["=color"], None, "is not CONDITION=ASKED"),
        (100, [], "no/such/page.md", "no folder"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_measured(
    pictures: int, renamed: list[str], write: str | None, message: str
) -> None:
    place = Path(write) if write else None
    with pytest.raises(UsageError, match=message):
        run_bench_methods("tiny-lvlm", "tiny-clip", pictures, 1, [], renamed, [], place, False)


def test_a_method_that_is_none_is_refused_and_a_view_brings_its_clip() -> None:
    with pytest.raises(UsageError, match="No method 'clop' is measured here; choose among dior"):
        run_bench_methods("tiny-lvlm", "tiny-clip", 100, 1, [], [], ["clop"], None, False)
    assert check_methods(["dior", "clay", "crl"]) == {"dior", "clip"}


def test_the_former_command_names_what_replaced_it() -> None:
    done = run("bench", "quality", "--model", "x", "-n", 5)
    assert done.returncode == 2 and not done.stdout
    assert "`cies bench quality` is now `cies bench methods`" in done.stderr
