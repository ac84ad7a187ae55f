"""The search bench measures what it says, on generated vectors and on a gallery's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.json_docs import documented, wrong
from typer.testing import CliRunner

import eval.bench.search.measure as search
from cies.cli.app import app
from eval.bench.search.vectors import mixture, write_generated
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from query.engine import Engine


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of seconds."""
    monkeypatch.setattr(search, "QUERIES", 60)
    monkeypatch.setattr(search, "_SECONDS", 0.01)
    monkeypatch.setattr(search, "_COLD_RUNS", 1)


def test_bench_of_generated_vectors(tmp_path: Path) -> None:
    words = ["bench", "search", "--vectors", "400", "--dim", "32", "--folder", str(tmp_path)]
    kinds = ["--kind", "exact", "--kind", "faiss"]
    done = CliRunner().invoke(app, [*words, *kinds, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["schema_version"] and document["environment"]["numpy"] == np.__version__
    assert not wrong(document, documented("cies bench search --json"))
    figures = document["figures"]
    lines = {line["way"]: line for line in figures["lines"]}
    assert list(lines) == ["exact", "faiss", "numpy", "faiss-flat", "lancedb"]
    for way in ("exact", "numpy", "faiss-flat"):
        assert lines[way]["recall_at_10"] == 1.0
    assert lines["faiss"]["recall_at_10"] > 0.95 and lines["lancedb"]["recall_at_10"] > 0.95
    for line in lines.values():
        assert line["p50_ms"] <= line["p95_ms"] and line["megabytes"] > 0
        assert set(line["batch_ms"]) == {"100", "1000"}
        # A process that starts, imports and opens takes longer than one that does it all day.
        assert line["cold_ms"] > 20 * line["p50_ms"]
    assert [one["share"] for one in figures["filtered"]] == [0.01, 0.1, 0.5]
    assert not list(tmp_path.iterdir())


def test_an_index_that_is_none_is_no_result(tmp_path: Path) -> None:
    gallery = write_generated(tmp_path / "g.cies", 300, 32, seed=4)
    engine = Engine(gallery, lambda spec: pytest.fail("no model is needed"))
    with pytest.raises(UsageError, match="no index 'foo'"):
        search.bench_search(engine, "generated", None, kinds=("foo",))


def test_a_gallery_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_cold", lambda *words: 1.0)
    monkeypatch.setattr(search, "_measure_baselines", lambda *words: [])
    gallery = write_generated(tmp_path / "g.cies", 300, 32, seed=4)
    engine = Engine(gallery, lambda spec: pytest.fail("no model is needed"))
    table_loader = engine.table_loader("generated")
    table_loader.build("IVF4,Flat")
    before = table_loader.known()
    figures = search.bench_search(engine, "generated", None, kinds=("exact", "faiss"))
    assert [line.way for line in figures.lines] == ["exact", "faiss"]
    again = Engine(Gallery.open(gallery.path), engine.encoders.of).table_loader("generated")
    assert again.known() == before and again.choice == "IVF4,Flat"


def test_generated_vectors_are_clustered_and_seeded() -> None:
    one, two = mixture(2000, 64, 1), mixture(2000, 64, 2)
    assert np.array_equal(one, mixture(2000, 64, 1)) and not np.array_equal(one, two)
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
    nearest = np.sort(two[:200] @ one.T, axis=1)[:, -1]
    typical = (two[:200] @ one.T).mean()
    assert 0.3 < typical < 0.7 < nearest.mean() < 0.98
