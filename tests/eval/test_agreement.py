"""Our figures equal those of other evaluators to 1e-6.

These break ties by order or not at all, so that they are asked about data without ties; ties are
compared with all orders written out in test_ties_and_chance.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from eval.adapters.trec import write_qrels, write_run
from eval.metrics.blocks import by_value, itself, judge_all
from eval.metrics.clustering import cluster_agreement, k_means
from eval.metrics.names import metric
from eval.metrics.ranked import rank

pytestmark = pytest.mark.filterwarnings("ignore")
CLOSE = 1e-6


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray]:
    """300 unit vectors around 12 centers, with very unequal classes, one of a single picture."""
    random = np.random.default_rng(5)
    labels = np.minimum(random.geometric(0.25, 300) - 1, 11)
    labels[0] = 50
    vectors = random.normal(size=(51, 24))[labels] + 1.4 * random.normal(size=(300, 24))
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def test_pytorch_metric_learning(clustered) -> None:
    pytest.importorskip("pytorch_metric_learning")
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    vectors, labels = clustered
    names = {
        "precision_at_1": "P@1",
        "r_precision": "R-precision",
        "mean_average_precision_at_r": "MAP@R",
        "mean_average_precision": "MAP",
        "mean_reciprocal_rank": "MRR",
    }
    calculator = AccuracyCalculator(include=tuple(names), k=None, device=torch.device("cpu"))
    theirs = calculator.get_accuracy(torch.from_numpy(vectors), torch.from_numpy(labels))
    measured = [metric(name) for name in names.values()]
    ours = judge_all(vectors, vectors, {"": by_value(labels)}, measured, itself)[""]
    assert len(ours.queries) == np.isin(labels, np.flatnonzero(np.bincount(labels) > 1)).sum()
    for theirs_name, name in names.items():
        assert ours.values[name].mean() == pytest.approx(theirs[theirs_name], abs=CLOSE), name


def test_pytorch_metric_learning_balanced(clustered) -> None:
    pytest.importorskip("pytorch_metric_learning")
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from support.judged import judge

    vectors, labels = clustered
    calculator = AccuracyCalculator(
        include=("mean_average_precision_at_r",),
        k=None,
        avg_of_avgs=True,
        device=torch.device("cpu"),
    )
    theirs = calculator.get_accuracy(torch.from_numpy(vectors), torch.from_numpy(labels))
    ours = judge(vectors, {"a": labels})["a"].metrics["balanced MAP@R"].value
    assert ours == pytest.approx(theirs["mean_average_precision_at_r"], abs=CLOSE)


def test_nmi_is_over_the_mean_entropy(clustered) -> None:
    pytest.importorskip("sklearn.metrics")
    vectors, labels = clustered
    found = cluster_agreement(vectors, labels, seed=7)
    table = np.zeros((labels.max() + 1, found.clusters))
    np.add.at(table, (labels, k_means(vectors, found.clusters, seed=7)), 1 / len(labels))

    def entropy(shares: np.ndarray) -> float:
        return -float(np.sum(shares[shares > 0] * np.log(shares[shares > 0])))

    both = entropy(table.sum(axis=0)) + entropy(table.sum(axis=1))
    assert found.nmi == pytest.approx((both - entropy(table)) / (both / 2), abs=CLOSE)
    assert 0 < found.ami < found.nmi


def test_scikit_learn_average_precision(random: np.random.Generator) -> None:
    scores_of = pytest.importorskip("sklearn.metrics")
    for _ in range(30):
        scores, gains = random.normal(size=40), random.random(40) < 0.2
        gains[7] = True
        theirs = scores_of.average_precision_score(gains, scores)
        assert metric("MAP")(rank([scores], [gains]))[0] == pytest.approx(theirs, abs=CLOSE)
        # INQUIRE: scikit-learn's over the first 10, times hits over min(R, 10).
        first = np.argsort(-scores)[:10]
        if gains[first].any():
            cut = scores_of.average_precision_score(gains[first], scores[first])
            theirs = cut * gains[first].sum() / min(gains.sum(), 10)
            assert metric("AP@10")(rank([scores], [gains]))[0] == pytest.approx(theirs, abs=CLOSE)


def test_scikit_learn_gain_with_ties(random: np.random.Generator) -> None:
    """Its DCG averages over ties like ours, including graded gains."""
    scores_of = pytest.importorskip("sklearn.metrics")
    for k in (5, 12, None):
        scores = random.integers(0, 4, (20, 15)).astype(float)
        gains = random.integers(0, 4, (20, 15)).astype(float)
        gains[:, 0] = 1
        theirs = [scores_of.ndcg_score(gains[i : i + 1], scores[i : i + 1], k=k) for i in range(20)]
        ours = metric("nDCG" if k is None else f"nDCG@{k}")(rank(scores, gains))
        assert np.allclose(ours, theirs, atol=CLOSE)


def test_trec_eval(random: np.random.Generator, tmp_path) -> None:
    trec_eval = pytest.importorskip("pytrec_eval")
    scores = random.normal(size=(25, 60)).astype(np.float32)
    gains = random.integers(1, 4, (25, 60)) * (random.random((25, 60)) < 0.15)
    gains[:, 3] = 1
    names = [f"picture {i}.jpg" for i in range(60)]
    run = {
        f"q{q}": [(names[i], float(row[i])) for i in np.argsort(-row)]
        for q, row in enumerate(scores)
    }
    qrels = {
        f"q{q}": {names[i]: int(gain) for i, gain in enumerate(row) if gain}
        for q, row in enumerate(gains)
    }
    write_run(tmp_path / "run.txt", run, "ours")
    write_qrels(tmp_path / "qrels.txt", qrels)
    # What it reads is the files as they lie there.
    with open(tmp_path / "run.txt") as runs, open(tmp_path / "qrels.txt") as judged:
        answers, right = trec_eval.parse_run(runs), trec_eval.parse_qrel(judged)
    names_of = {
        "map": "MAP",
        "map_cut_5": None,
        "recip_rank": "MRR",
        "ndcg": "nDCG",
        "ndcg_cut_10": "nDCG@10",
        "recall_10": "recall@10 (true)",
        "success_5": "recall@5 (hit)",
        "P_5": "precision@5",
        "Rprec": "R-precision",
    }
    asked = {"map", "map_cut.5", "recip_rank", "ndcg", "ndcg_cut.10", "recall.10"}
    asked |= {"success.5", "P.5", "Rprec"}
    theirs = trec_eval.RelevanceEvaluator(right, asked).evaluate(answers)
    ranked = rank(scores, gains)
    for theirs_name, name in names_of.items():
        found = [theirs[f"q{q}"][theirs_name] for q in range(25)]
        if name:
            assert np.allclose(metric(name)(ranked), found, atol=CLOSE), name
        else:
            # It divides by R where truncated mAP@k divides by min(k, R).
            count = (gains > 0).sum(axis=1)
            ours = metric("mAP@5")(ranked) * np.minimum(5, count) / count
            assert np.allclose(ours, found, atol=CLOSE)


def test_circo_by_hand() -> None:
    """Four answers, found at places 1, 3 and 7; the fourth is beyond the list."""
    hits = np.isin(np.arange(50), [0, 2, 6])
    ranked = rank([-np.arange(50.0)], [hits], all_gains=[[1] * 4], others=[123_403])
    # (1/1 + 2/3) / min(5, 4), and then with 3/7 added.
    assert metric("mAP@5")(ranked)[0] == pytest.approx((1 + 2 / 3) / 4)
    assert metric("mAP@10")(ranked)[0] == pytest.approx((1 + 2 / 3 + 3 / 7) / 4)
    assert metric("mAP@50")(ranked)[0] == pytest.approx((1 + 2 / 3 + 3 / 7) / 4)
    # 14 answers of which the first five are found: 5 places can hold no more.
    many = rank([-np.arange(50.0)], [np.arange(50) < 5], all_gains=[[1] * 14], others=[123_403])
    assert metric("mAP@5")(many)[0] == 1
    assert metric("mAP@10")(many)[0] == pytest.approx(5 / 10)
    # Recall is of the single target alone, at place 3 here.
    target = rank([-np.arange(50.0)], [np.arange(50) == 2], others=[123_403])
    assert [metric(f"R@{k}")(target)[0] for k in (1, 2, 3, 5)] == [0, 0, 1, 1]


def test_cirr_by_hand() -> None:
    """The reference is in neither ranking; the group is the five other pictures."""
    names = ["reference", "a", "target", "b", "c", "d", "far", "near"]
    scores = np.array([0.99, 0.5, 0.8, 0.9, 0.4, 0.3, 0.1, 0.95])
    gallery = [i for i, name in enumerate(names) if name != "reference"]
    whole = rank([scores[gallery]], [[names[i] == "target" for i in gallery]])
    assert [metric(f"R@{k}")(whole)[0] for k in (1, 2, 3)] == [0, 0, 1]
    group = [1, 2, 3, 4, 5]
    subset = rank([scores[group]], [[names[i] == "target" for i in group]])
    found = [metric(f"subset recall@{k}")(subset)[0] for k in (1, 2, 3)]
    assert found == [0, 1, 1]
    chance = [metric(f"subset recall@{k}").chance(subset)[0] for k in (1, 2, 3)]
    assert chance == pytest.approx([0.2, 0.4, 0.6])


def test_k_means_is_that_of_the_seed(clustered, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn.metrics")
    vectors, labels = clustered
    first = cluster_agreement(vectors, labels, seed=7)
    assert first == cluster_agreement(vectors, labels, seed=7)
    assert (first.clusters, first.seed, first.iterations) == (len(set(labels)), 7, 20)
    assert first != cluster_agreement(vectors, labels, seed=8)
    assert first.nmi > first.nmi_chance + 0.1 and first.ami > 0.1
    noise = cluster_agreement(np.random.default_rng(0).normal(size=(300, 24)), labels)
    assert abs(noise.ami) < 0.06 and abs(noise.nmi - noise.nmi_chance) < 0.06
    # Lloyd's algorithm: every vector lies in the cluster of the nearest mean, or almost.
    found = k_means(vectors, 12)
    means = np.stack([vectors[found == c].mean(axis=0) for c in range(12)])
    nearest = ((vectors[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
    assert (nearest == found).mean() > 0.95
    with pytest.raises(ValueError, match="cannot make"):
        k_means(vectors[:3], 12)
    assert not capfd.readouterr().err
