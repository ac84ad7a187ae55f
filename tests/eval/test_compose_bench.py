"""Rendered changes have all their right answers, and the comparison prints what it measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.json_docs import documented, leaves, wrong

from cies.bench.compose import document
from eval.bench.compose import CUTS, ComposerComparison, ComposerScores, as_markdown
from eval.world.edits import FIXED, VARIED, make_edits, picture_id
from eval.world.factors import FACTORS


@pytest.mark.parametrize("busy", [False, True])
def test_right_is_what_has_the_new_value_and_all_the_others(busy: bool) -> None:
    edits = make_edits(1400, 24, 5, busy)
    labels = [scene.labels for scene in edits.scenes]
    assert make_edits(1400, 24, 5, busy) == edits
    for query, factor in zip(edits.queries, edits.factors, strict=True):
        own = labels[int(query.image)]
        (value,) = {labels[int(one)][factor] for one in query.relevant}
        assert value != own[factor]
        assert any(word in query.text for word in (value, "graphic"))
        wanted = {**{name: own[name] for name in VARIED}, factor: value}
        right = {
            picture_id(number)
            for number, has in enumerate(labels)
            if all(has[name] == wanted[name] for name in VARIED)
        }
        assert set(query.relevant) == right and len(right) >= 2
        assert query.exclude == (query.image,) and query.image not in right
    assert {factor: edits.factors.count(factor) for factor in VARIED} == dict.fromkeys(VARIED, 6)
    others = [name for name in FACTORS if name not in VARIED]
    plain = all(has[name] == FIXED[name] for has in labels for name in others)
    assert plain is not busy


def test_too_few_pictures_are_told() -> None:
    with pytest.raises(ValueError, match="40 pictures are too few for 10 queries"):
        make_edits(40, 10, 1)


def test_the_document_is_as_the_page_says() -> None:
    random = np.random.default_rng(0)
    names = ("chance", "image", "text", "sum", "pdv", "weimo", "cirevl", "cotmr", "dior")
    rows = tuple(
        ComposerScores(
            name,
            {k: random.random(8) for k in CUTS},
            {k: random.random(8) for k in CUTS},
            0.1,
        )
        for name in (*names, "dior-split", "dior -c", "dior-split -c", "text -c")
    )
    found = ComposerComparison(rows, tuple(VARIED) * 2, 100, 3.5, 1.0)
    table = documented("cies bench compose --json")
    kept = json.loads(json.dumps(document(found, "a", "b", 1, False)))
    assert wrong(kept, table) == []
    assert {path for path, _ in leaves(kept, table)} == set(table)
    text = as_markdown(found)
    gain = (found.row("sum").precision[10] - found.row("image").precision[10]).mean()
    assert f"| sum over image | {gain:+.3f} |" in text
    assert f"{found.row('cotmr').precision[25].mean():.3f}" in text
