"""A run as TREC files: trec_eval computes the figures of our reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.stand_in import StandIn

from cies.bench.benchmarks import run_bench_trec
from eval.adapters.trec import read_qrels, read_run
from eval.adapters.trec_runs import export_run
from eval.runs.abstention import AUROC
from eval.runs.measuring import measure
from eval.runs.run import Run
from eval.runs.run_encoders import EvaluatedEncoder, run_encoders
from eval.tasks import BenchmarkSource, LabelTask, QueryTask, TaskPart, TaskQuery
from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.base import Embeddings

SOURCE = BenchmarkSource("ours", "nowhere", "MIT")


class WithTexts(StandIn):
    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        rows = [[np.random.default_rng(len(text)).normal(size=16)] for text in texts]
        return Embeddings(unit(np.array(rows)), [], np.zeros((len(texts), 1), dtype=np.float32))


def test_trec_eval_gives_the_figures_of_the_report(
    tmp_path: Path, random: np.random.Generator
) -> None:
    trec_eval = pytest.importorskip("pytrec_eval")
    files = {f"a b/{n}.png": tmp_path / f"{n}.png" for n in range(30)}
    for path in files.values():
        Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)
    names = list(files)
    labels = {name: (str(random.integers(0, 4)),) for name in names[:28]}
    views = {name: str(n // 2) for n, name in enumerate(names[:10])}
    alike = LabelTask("alike", SOURCE, files, {"body color": labels}, views=views)
    queries = tuple(
        TaskQuery(f"q{n}", own, "a star" * n, {names[n + 3]: 1, names[0]: 2}, None, (own,))
        for n, own in enumerate(names[1:9], 1)
    )
    parts = (
        TaskPart("one", (*queries, replace(queries[0], id="held back", relevant={})), tuple(names)),
        TaskPart("two", queries[:3], tuple(names[:15])),
    )
    composed = QueryTask("composed", SOURCE, files, parts, ("MRR", "nDCG@10"))
    run = Run.begin(tmp_path / "run", "test", {}, (alike, composed))
    run_encoders(run, [EvaluatedEncoder("ours", {}, WithTexts)])
    figures = {(f.task, f.system, f.row, f.metric): f.value for f in measure(run)}
    written = export_run(run, tmp_path / "trec")
    assert {path.suffix for path in written} == {".run", ".qrels"}
    compared = 0
    for task, row, metrics in (
        ("alike", "body color", {"P_1": "P@1", "Rprec": "R-precision"}),
        ("composed", "one", {"recip_rank": "MRR", "ndcg_cut_10": "nDCG@10"}),
        ("composed", "two", {"recip_rank": "MRR", "ndcg_cut_10": "nDCG@10"}),
    ):
        folder = tmp_path / "trec" / task
        right = read_qrels(folder / f"{row}.qrels")
        assert "held back" not in right
        asked = {name.replace("_1", ".1") for name in metrics}
        for system in run.systems(task):
            if system.name == "random" or "histogram" in system.name:
                continue
            answers = read_run(folder / f"{row}.{system.name}.run")
            judge = trec_eval.RelevanceEvaluator(right, asked)
            found = judge.evaluate({query: dict(own) for query, own in answers.items()})
            for theirs, ours in metrics.items():
                mean = np.mean([values[theirs] for values in found.values()])
                assert figures[task, system.name, row, ours] == pytest.approx(mean, abs=1e-5)
                compared += 1
    assert compared >= 6


def test_an_export_can_be_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"{n}.png": tmp_path / f"{n}.png" for n in range(12)}
    for n, path in enumerate(files.values()):
        Image.new("RGB", (5, 5), (20 * n, 0, 0)).save(path)
    task = LabelTask("t", SOURCE, files, {"c": dict.fromkeys(files, ("x",))})
    sure = replace(task, name="sure", headline=AUROC)
    run = Run.begin(tmp_path / "run", "test", {}, (task, sure))
    run_encoders(run, [EvaluatedEncoder("ours", {}, WithTexts)])
    run_bench_trec(tmp_path / "run", tmp_path / "trec", 4)
    told = capsys.readouterr()
    assert str(tmp_path / "trec" / "t" / "c.ours.run") in told.out.splitlines()
    assert "sure is not a ranking" in told.err and not (tmp_path / "trec" / "sure").exists()
    answers = read_run(tmp_path / "trec" / "t" / "c.ours.run")
    assert len(answers) == 12 and {len(own) for own in answers.values()} == {4}
    assert all(query not in dict(own) for query, own in answers.items())
