"""Vectors judged by numbered labels, for tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eval.judge import LabelCell, LabelJudge, judge_conditions


def judge(
    vectors: NDArray[np.float32],
    labels: Mapping[str, NDArray[np.int64]],
    classes: NDArray[np.int64] | None = None,
    parts: int = 1,
) -> dict[str, LabelCell]:
    """Judge vectors [n, dim] by labels, each int64 [n]; -1 is unknown.

    Others of the query's class are not ranked for it, unless the class is -1.
    """
    keys = [str(number) for number in range(len(vectors))]
    groups = (
        {key: str(one) for key, one in zip(keys, classes, strict=True) if one >= 0}
        if (classes is not None)
        else {}
    )
    known = {
        name: {key: (f"{one:09d}",) for key, one in zip(keys, values, strict=True) if one >= 0}
        for name, values in labels.items()
    }
    found = judge_conditions(
        LabelJudge(keys, known, groups=groups),
        [("", lambda wanted: vectors[[int(key) for key in wanted]])],
        parts=parts,
    )
    return {cell.label: cell for cell in found.cells}
