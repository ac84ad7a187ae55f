"""``cies index`` builds, chooses and lists indexes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.galleries import clustered, key, put
from support.json_docs import documented, wrong
from typer.testing import CliRunner

from cies.cli.app import app
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """A gallery of two conditions."""
    made = Gallery.create(tmp_path / "g.cies")
    for name in ("color", "shape"):
        made_by = {"method": "dior", "model": "none", "revision": "", "settings": {}}
        table = VectorTable(name, 32, made_by | {"phrase": name})
        put(made, {key(n): row for n, row in enumerate(clustered(300, 32))}, table)
    return made.path


def test_index_builds_and_shows(gallery: Path) -> None:
    run = CliRunner().invoke
    shown = run(app, ["index", "-g", str(gallery), "--json"])
    assert shown.exit_code == 0, shown.output
    before = json.loads(shown.stdout)["conditions"]
    assert [(c["condition"], c["in_use"], c["indexes"]) for c in before] == [
        ("color", "exact", []),
        ("shape", "exact", []),
    ]
    assert not (gallery / "indexes").exists(), "showing changes nothing"
    built = run(app, ["index", "-g", str(gallery), "-c", "colour", "--kind", "hnsw", "--json"])
    assert built.exit_code == 0, built.output
    (color,) = json.loads(built.stdout)["conditions"]
    (index,) = color["indexes"]
    assert (color["chosen"], color["in_use"], color["pictures"]) == ("hnsw", "hnsw", 300)
    assert index["factory"] == "HNSW32,SQ8" and index["recall_at_10"] > 0.95
    assert index["build_seconds"] > 0 and index["bytes"] > 0 and color["rows_bytes"] > 300 * 64
    assert not wrong(json.loads(built.stdout), documented("cies index --json"))
    table = run(app, ["index", "-g", str(gallery)])
    assert "hnsw *" in table.stdout and "exact *" in table.stdout
    # Engines opened after the build use the index.
    from cies import api

    assert api.open(gallery).opened("color").kind == "hnsw"
    assert api.open(gallery).opened("shape").kind == "exact"
    assert api.open(gallery, index="exact").opened("color").kind == "exact"
    hits = api.open(gallery).search(key(3), "color", 5)
    exact = api.open(gallery, index="exact").search(key(3), "color", 5)
    assert [hit.key for hit in hits] == [hit.key for hit in exact]
    assert np.allclose([h.score for h in hits], [h.score for h in exact], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [("magic", 2, "no index 'magic'"), ("IVF4000,Flat", 2, "cannot hold"), ("gpu", 1, "cies[gpu]")],
)
def test_index_that_cannot_be_built(
    gallery: Path, kind: str, code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = CliRunner().invoke(app, ["index", "-g", str(gallery), "-c", "color", "--kind", kind])
    assert getattr(done.exception, "exit_code", None) == code
    assert word in str(done.exception)
    # The former choice stays.
    shown = CliRunner().invoke(app, ["index", "-g", str(gallery), "--json"])
    assert json.loads(shown.stdout)["conditions"][0]["chosen"] == "auto"
