"""Values that no question can have, as Python and the command line give them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from indexes.errors import UsageError
from query.question import MAX_WEIGHT, Question, parse_conditions


@pytest.mark.parametrize(
    "given",
    [
        {"color": math.nan},
        {"color": math.inf},
        {"color": -1},
        {"color": 1e300, "shape": 1e300},
        {"color": 10**400},
        {"color": "2"},
        {"color": None},
        {"color": 1 + 2j},
        {3: 1.0},
        ["color=1e308", "color=1e308"],
        "color=inf",
        3,
        None,
        ["color", 3],
        b"color",
    ],
)
def test_weights_and_names(given: Any) -> None:
    with pytest.raises(UsageError, match="--condition"):
        parse_conditions(given)


def test_the_largest_weights_still_rank() -> None:
    weights = parse_conditions({"color": MAX_WEIGHT, "shape": MAX_WEIGHT})
    assert np.isfinite(np.float32(sum(weights.values())) ** 2)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("k", k) for k in (0, -1, 2.0, math.nan, math.inf, "10", None, True, [10])],
        *[("rerank", n) for n in (-1, 1.5, "1", math.nan)],
        *[("where", w) for w in (3, b"x", ["x"], {})],
        *[("exclude_same", c) for c in (3, ["sku"])],
        *[("sort", s) for s in ([], 3)],
        *[("combine", c) for c in ([], "median", 3)],
        *[("min_percentile", p) for p in (math.nan, "50", None, 101, -1)],
        *[("alike_above", p) for p in (math.nan, "50", [], 101)],
    ],
)
def test_options(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"-{option.replace('_', '-')} "):
        Question.of((), "color", text="red", **{option: value})


def test_whole_numbers_of_numpy_are_numbers() -> None:
    question = Question.of((), "color", k=np.int64(7), text="red")
    assert question.k == 7 and type(question.k) is int
