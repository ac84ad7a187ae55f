"""NMI and AMI in ``cies eval``, against their formulas over every order of the labels."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from support.galleries import key, put
from support.shell import Shell

import cies
from eval.metrics import clustering
from eval.metrics.clustering import k_means
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable
from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.base import EncoderSpec

COLORS = ["red", "red", "red", "blue", "blue", "blue", "blue"]
SHAPES = ["a", "b", "a", "b", "a", "b", "a"]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A gallery of seven pictures whose vectors follow their color, but for one."""
    random = np.random.default_rng(4)
    centers = {"red": random.normal(size=32), "blue": random.normal(size=32)}
    follows = ["blue", *COLORS[1:]]
    rows = [centers[color] + random.normal(size=32) / 8 for color in follows]
    vectors = unit(np.array(rows, dtype=np.float32))
    names = [key(number) for number in range(7)]
    spec = EncoderSpec("dior", "none", "1", {})
    table = VectorTable("color", 32, spec.made_by(Condition.parse("color")))
    put(Gallery.create(tmp_path / "g"), dict(zip(names, vectors, strict=True)), table)
    lines = ["file,color,shape,number"]
    cells = enumerate(zip(names, COLORS, SHAPES, strict=True))
    lines += [f"{name}.png,{color},{shape},{n // 2}" for n, (name, color, shape) in cells]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


def information(first: np.ndarray, other: np.ndarray) -> float:
    """Mutual information of two labellings, in nats."""
    total = 0.0
    for a in set(first):
        for b in set(other):
            both = float(np.mean((first == a) & (other == b)))
            if both:
                total += both * np.log(both / np.mean(first == a) / np.mean(other == b))
    return total


def test_nmi_and_ami_are_those_of_the_formulas(labelled: Path, shell: Shell) -> None:
    where = (labelled / "g", "--labels", labelled / "labels.csv")
    document = json.loads(shell.done("eval", *where, "--json")[0])
    cells = {cell["label"]: cell for cell in document["cells"]}
    assert cells["shape"]["clusters"] is None
    column = cies.open(labelled / "g").vectors("color")
    row = {one: at for at, one in enumerate(column.keys)}
    vectors = column.vectors[[row[key(number)] for number in range(7)]]
    found = k_means(vectors, 2)
    colors = np.array(COLORS)
    both = information(colors, colors) / 2 + information(found, found) / 2
    own = information(colors, found)
    clusters = cells["color"]["clusters"]
    assert clusters["count"] == 2
    assert clusters["NMI"]["value"] == pytest.approx(own / both, abs=1e-9)
    orders = [information(colors, found[list(order)]) for order in permutations(range(7))]
    expected = float(np.mean(orders))
    assert clusters["AMI"]["value"] == pytest.approx((own - expected) / (both - expected), abs=1e-9)
    assert 0.1 < clusters["AMI"]["value"] < clusters["NMI"]["value"] < 1
    printed = shell.done("eval", *where)[0].splitlines()
    head, cell = (line.split("\t") for line in printed[-2:])
    shown = dict(zip(head, cell, strict=True))
    assert shown["NMI"] == f"{own / both:.3f}" and shown["AMI"] == f"{clusters['AMI']['value']:.3f}"
    every = json.loads(shell.done("eval", *where, "--json", "--pairs")[0])
    assert all(cell["clusters"] for cell in every["cells"])


def test_a_missing_library_is_named_with_its_command(
    labelled: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = (labelled / "g", "--labels", labelled / "labels.csv")
    real = clustering.find_spec
    monkeypatch.setattr(clustering, "find_spec", lambda n: None if n == "sklearn" else real(n))
    out, err = shell.done("eval", *where)
    assert "NMI" not in out and "MAP@R" in out
    said = [line for line in err.splitlines() if "NMI" in line]
    assert said == ["NMI and AMI need scikit-learn; install with `pip install 'cies[eval]'`."]
