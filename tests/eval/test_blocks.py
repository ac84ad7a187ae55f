"""Rankings of whole galleries in blocks equal those of single queries."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from support.judged import judge

import eval.metrics.blocks
from eval.bench.metrics import measure_metrics
from eval.metrics.blocks import by_labels, by_value, chance_of, itself, itself_and_alike, judge_all
from eval.metrics.names import metric
from eval.metrics.ranked import rank

NAMES = ["P@1", "R-precision", "MAP@R", "MAP", "recall@3 (hit)", "MRR", "nDCG@10"]


def unit_rows(random: np.random.Generator, n: int, dim: int) -> np.ndarray:
    vectors = random.normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def one_by_one(queries, gallery, right, left_out):
    """Rank all candidates of each query, by the definition."""
    numbers, scores, gains = [], [], []
    for query, vector in enumerate(queries):
        kept = np.setdiff1d(np.arange(len(gallery)), left_out(query))
        hit = np.isin(kept, right(query))
        if hit.any():
            numbers.append(query)
            scores.append(gallery[kept] @ vector)
            gains.append(hit)
    return numbers, rank(scores, gains)


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_equal_one_query_at_a_time(
    alike: bool, threads: int, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eval.metrics.blocks, "_SCORES", 70 * 9)  # blocks of 9 queries
    vectors = unit_rows(random, 70, 6)
    values = random.integers(-1, 8, 70)
    values[0] = 99  # no right answer
    classes = random.integers(-1, 15, 70)
    right, left_out = by_value(values), itself_and_alike(classes) if alike else itself
    judged = judge_all(vectors, vectors, {"a": right}, list(map(metric, NAMES)), left_out, threads)
    numbers, ranked = one_by_one(vectors, vectors, right, left_out)
    assert judged["a"].queries.tolist() == numbers
    assert (judged["a"].relevant == ranked.relevant).all()
    assert (judged["a"].others == ranked.others).all()
    for name in NAMES:
        assert np.allclose(judged["a"].values[name], metric(name)(ranked), atol=1e-12), name
        assert np.allclose(judged["a"].chance[name], metric(name).chance(ranked), atol=1e-12), name


def test_pictures_with_several_labels_and_a_separate_gallery(random: np.random.Generator) -> None:
    queries, gallery = unit_rows(random, 12, 5), unit_rows(random, 40, 5)
    shown = [list(random.choice(list("abcde"), random.integers(1, 3))) for _ in range(40)]
    asked = [["a"], ["b", "c"], ["nowhere"], []] * 3
    judged = judge_all(queries, gallery, {"": by_labels(asked, shown)}, [metric("MAP")])[""]
    assert judged.queries.tolist() == [q for q in range(12) if q % 4 < 2]
    for query, value in zip(judged.queries, judged.values["MAP"], strict=True):
        hit = np.array([bool(set(asked[query]) & set(labels)) for labels in shown])
        slow = metric("MAP")(rank([gallery @ queries[query]], [hit]))
        assert value == pytest.approx(slow[0], abs=1e-12)


def test_equal_vectors_tie_exactly(random: np.random.Generator) -> None:
    """Vectors of words: all pictures with one word have the same row."""
    words = unit_rows(random, 7, 48)
    said = random.integers(0, 7, 203)
    values = random.integers(0, 4, 203)
    judged = judge_all(
        words[said], words[said], {"a": by_value(values)}, list(map(metric, NAMES)), itself
    )["a"]
    exact = words.astype(np.float64) @ words.T.astype(np.float64)
    kept = [np.delete(np.arange(203), query) for query in range(203)]
    ranked = rank(
        [exact[said[q], said[k]] for q, k in enumerate(kept)],
        [values[k] == values[q] for q, k in enumerate(kept)],
    )
    assert (ranked.size > 1).mean() > 0.9
    for name in NAMES:
        assert np.allclose(judged.values[name], metric(name)(ranked), atol=1e-9), name


def test_no_right_answers_and_invalid_vectors(random: np.random.Generator) -> None:
    vectors = unit_rows(random, 5, 3)
    judged = judge_all(vectors, vectors, {"a": by_value(np.arange(5))}, [metric("P@1")], itself)
    assert not len(judged["a"].queries) and not len(judged["a"].chance["P@1"])
    assert judge(vectors, {"a": np.arange(5)}) == {}
    vectors[2, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        judge_all(vectors, vectors, {}, [])


# The survey of benchmarks prints chance levels in percent of eight notions. Label counts are known
# of two, and follow for a third; of the others only the largest label's is known.


def near_equal(pictures: int, labels: int) -> np.ndarray:
    """Counts of labels that differ by at most one."""
    return np.full(labels, pictures // labels) + (np.arange(labels) < pictures % labels)


def chance_row(counts: np.ndarray) -> list[float]:
    """P@1 and MAP@R, then both class-balanced, in percent, of pictures ranked among themselves."""
    sizes = np.full(len(counts), counts.sum() - 1)
    chance = chance_of(counts - 1, sizes, [metric("P@1"), metric("MAP@R")])
    means = [chance[name] @ (counts / counts.sum()) for name in ("P@1", "MAP@R")]
    return [100 * float(x) for x in (*means, chance["P@1"].mean(), chance["MAP@R"].mean())]


def test_published_chance_levels_of_balanced_labels() -> None:
    # CUB-200-2011's second half: 5,924 pictures of 100 species; Cars196's: 8,131 of 98 models.
    assert [round(x, 2) for x in chance_row(near_equal(5924, 100))] == [0.98, 0.09, 0.98, 0.09]
    assert [round(x, 2) for x in chance_row(near_equal(8131, 98))] == [1.01, 0.07, 1.01, 0.07]


def test_published_chance_levels_of_clothing_fit() -> None:
    """4,000 pictures, 3 labels, the largest 80.1 %: P@1 determines the other counts."""
    counts = np.array([[3204, n, 796 - n] for n in range(398, 795)])
    rows = np.array([chance_row(one) for one in counts])
    fits = np.abs(rows[:, 0] - 66.6) < 0.05
    assert fits.any()
    near = rows[np.argmin(np.abs(rows[:, 0] - 66.6))]
    assert [round(x, 1) for x in near] == [66.6, 51.8, 33.3, 22.3]


def test_published_chance_levels_of_movie_countries() -> None:
    """6,143 of 8,052 posters have one label; the other 68 make up the rest of 59.2 and 44.6."""
    main = chance_of(np.array([6142]), np.array([8051]), [metric("P@1"), metric("MAP@R")])
    p1, map_at_r = (100 * 6143 / 8052 * main[name][0] for name in ("P@1", "MAP@R"))
    assert p1 < 59.25 and map_at_r < 44.65
    # MAP@R is never above P@1 by chance, so that the rest may add no more than it adds there.
    assert 44.55 - map_at_r < 59.25 - p1


def test_the_benchmark_reports_its_cost() -> None:
    found = measure_metrics(400, 16, 20, seed=1)
    assert found.values["P@1"] == pytest.approx(found.chance["P@1"], abs=0.06)
    assert found.matrix_megabytes == pytest.approx(400 * 399 * 8 / 1e6)
    assert found.seconds > 0 and found.cpu_seconds > 0 and found.peak_megabytes > 20
    documented = Path(__file__).parents[2] / "docs" / "json.md"
    section = documented.read_text(encoding="utf-8").split("## cies bench metrics --json")[1]
    for field in fields(found):
        assert f"`{field.name}`" in section.split("##")[0], field.name
