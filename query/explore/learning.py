"""Learns a condition from examples: how much each stored condition matters to a user's groups.

A pair of examples is either in one group or in two. The probability that it is in one is modelled
as sigma(sum_p u_p c_p / s_p + b), where c_p is the pair's centred cosine under condition p and s_p
the standard deviation of c_p over random pairs of the gallery. The u_p >= 0 maximise the
likelihood, pairs of both kinds weighing the same in total, less ``SHRINKAGE / sqrt(pairs of one
group) * sum_p u_p^2``. The weight of p is then u_p / s_p, divided by the sum of all.

Weights carry over to groups that were never shown, unlike a classifier: the result is a metric.

With many examples a group, Fisher's linear discriminants are added
(:class:`ingest.encoders.methods.learned.Discriminants`): the directions S^-1 (m_g - m), where m_g
is the mean of group g and S the covariance within groups, shrunk towards a multiple of the
identity. They are kept where cross-validation says that they help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.vectors import Vectors
from ingest.encoders.methods.learned import Discriminants, LearnedCondition, LearnedPart

#: How strongly weights are drawn to 0. Of 0.02, 0.05 and 0.2, which differ by less than 0.01 on 797
#: labelled photographs of clothes, 2 to 10 examples a value.
SHRINKAGE = 0.05

#: Discriminants are tried from this mean number of examples a group on. With fewer they make groups
#: that were never shown harder to find (clothes, 3 and 5 examples: precision@10 lower by 0.02 to
#: 0.04), and gain less than 0.02 on those that were.
_ENOUGH = 8

#: How far the covariance is shrunk, and the share of the discriminants in the cosine. Chosen on
#: the clothes, as above.
_COVARIANCE_SHRINKAGE, _SHARE = 0.7, 0.3

#: Parts with a smaller weight are left out.
_LEAST_WEIGHT = 0.03

#: The most examples whose pairs are compared.
MAX_EXAMPLES = 1000

#: The fewest examples of a cross-validation.
_FEWEST = 6

_STEPS, _FOLDS, _RESAMPLES = 400, 5, 1000


@dataclass(frozen=True)
class CandidatePart:
    """A stored condition that may matter.

    Attributes:
        name: the condition.
        made_by: of its table.
        mean: float32 [dim], the mean of the gallery's vectors.
        spread: standard deviation of the centred cosine of random pairs of the gallery.
        vectors: float32 [examples, dim], unit rows, as stored.
    """

    name: str
    made_by: Mapping[str, Any]
    mean: NDArray[np.float32]
    spread: float
    vectors: Vectors

    def centred(self) -> Vectors:
        """The examples' centred vectors, unit rows."""
        part = LearnedPart(self.made_by, self.name, 1.0, self.mean)
        none = np.zeros((0, len(self.mean)), dtype=np.float32)
        return LearnedCondition((part,), (), none, none[:, 0], 0.0).vectors([self.vectors])


@dataclass(frozen=True)
class CrossValidation:
    """How well examples that were not used find their own group among the others.

    The figure is the share of an example's nearest R examples that are in its group, where R is
    the number of the others in its group (R-precision), averaged over the examples.

    Attributes:
        learned: with learned weights.
        interval: of ``learned``, 95 %, by resampling the examples.
        equal: with equal weights, without learning.
        best_single: with the best single condition, chosen on the same examples that the weights
            were learned from.
        chance: for random order.
        examples: how many are averaged.
    """

    learned: float
    interval: tuple[float, float]
    equal: float
    best_single: float
    chance: float
    examples: int

    @property
    def distinguishable(self) -> bool:
        """Whether the groups can be told apart better than by chance."""
        return self.interval[0] > self.chance


@dataclass(frozen=True)
class LearningResult:
    """A learned condition and how good it is.

    Attributes:
        learned: the condition.
        validation: its cross-validation; ``None`` if the groups are too small for one.
    """

    learned: LearnedCondition
    validation: CrossValidation | None


def learn_condition(
    candidates: Sequence[CandidatePart],
    groups: NDArray[np.int64],
    names: Sequence[str],
    seed: int = 0,
) -> LearningResult:
    """Learn a condition from examples.

    Args:
        candidates: the conditions that may matter, each with the vectors of the same examples.
        groups: int64 [examples], the group of each; -1 for an example that is in none, such as a
            disliked one, and differs from all others.
        names: the groups' names.
        seed: of the draws of cross-validation.

    Raises:
        UsageError: if there are no two examples of one group, or no two groups.
    """
    if len(groups) > MAX_EXAMPLES:
        raise UsageError(f"{len(groups)} examples are too many; give at most {MAX_EXAMPLES}.")
    same, other = _pairs(groups)
    if not len(same) or not len(other):
        raise UsageError(
            "The examples are too few; give at least two groups, one of them with two pictures or "
            "more, or --like and --dislike."
        )
    vectors = [candidate.centred() for candidate in candidates]
    spreads = np.array([candidate.spread for candidate in candidates])
    validation, discriminants_help = _validate(vectors, groups, spreads, seed)
    weights = learned_weights(_cosines(vectors), groups, spreads)
    kept = [n for n, weight in enumerate(weights) if weight >= _LEAST_WEIGHT]
    total = float(sum(weights[n] for n in kept))
    parts = tuple(
        LearnedPart(
            candidates[n].made_by, candidates[n].name, float(weights[n]) / total, candidates[n].mean
        )
        for n in kept
    )
    none = np.zeros((0, 0), dtype=np.float32)
    learned = LearnedCondition(parts, (), none, none.reshape(0), 0.0)
    stored = [candidates[n].vectors for n in kept]
    if discriminants_help:
        learned = replace(learned, discriminants=fit_discriminants(learned.vectors(stored), groups))
    words, prototypes, nearness, sharpness = _prototypes(learned.vectors(stored), groups, names)
    learned = replace(
        learned, words=words, prototypes=prototypes, nearness=nearness, sharpness=sharpness
    )
    return LearningResult(learned, validation)


def fit_discriminants(vectors: Vectors, groups: NDArray[np.int64]) -> Discriminants:
    """Fisher's discriminants of the groups; see above.

    Args:
        vectors: float32 [examples, dim], unit rows.
        groups: int64 [examples]; -1 for none. At least two groups have two examples.
    """
    own = [vectors[groups == group].astype(np.float64) for group in np.unique(groups[groups >= 0])]
    own = [one for one in own if len(one) > 1]
    means = np.stack([one.mean(axis=0) for one in own])
    within = np.concatenate([one - mean for one, mean in zip(own, means, strict=True)])
    between = means - means.mean(axis=0)
    freedom = max(len(within) - len(own), 1)
    # S = A^T A + ridge I, inverted by the Woodbury identity, because dim is larger than examples.
    ridge = _COVARIANCE_SHRINKAGE * float((within**2).sum()) / freedom / within.shape[1]
    root = np.sqrt((1 - _COVARIANCE_SHRINKAGE) / freedom) * within
    inner = np.linalg.inv(np.eye(len(root)) + root @ root.T / ridge)
    directions = (between - (between @ root.T) @ inner @ root / ridge) / ridge
    # White within groups, so that all directions count alike; those without spread are dropped.
    spread = directions @ root.T
    values, axes = np.linalg.eigh(spread @ spread.T + ridge * directions @ directions.T)
    chosen = values > values.max() * 1e-6
    directions = (axes[:, chosen] / np.sqrt(values[chosen])).T @ directions
    return Discriminants(
        directions.astype(np.float32),
        (directions @ means.mean(axis=0)).astype(np.float32),
        _SHARE,
    )


def learned_weights(
    cosines: NDArray[np.float64], groups: NDArray[np.int64], spreads: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weights of conditions: the mean of the likelihood's and of the vote; see above.

    Args:
        cosines: float64 [conditions, examples, examples].
        groups: int64 [examples]; -1 for none.
        spreads: float64 [conditions].

    Returns:
        float64 [conditions], at least 0, with sum 1.
    """
    everyone = np.arange(len(groups))
    precision = np.array([np.mean(_r_precision(one, groups, everyone)) for one in cosines])
    votes = np.exp(2 * np.sqrt(len(groups)) * (precision - precision.max()))
    found: NDArray[np.float64] = (fit_weights(cosines, groups, spreads) + votes / votes.sum()) / 2
    return found


def fit_weights(
    cosines: NDArray[np.float64], groups: NDArray[np.int64], spreads: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weights of conditions that maximise the likelihood above.

    Args:
        cosines: float64 [conditions, examples, examples].
        groups: int64 [examples]; -1 for none.
        spreads: float64 [conditions].

    Returns:
        float64 [conditions], at least 0, with sum 1.
    """
    same, other = _pairs(groups)
    chosen = np.concatenate([same, other])
    features = (cosines[:, chosen[:, 0], chosen[:, 1]] / spreads[:, None]).T
    target = np.concatenate([np.ones(len(same)), np.zeros(len(other))])
    share = np.concatenate(
        [np.full(len(same), 0.5 / len(same)), np.full(len(other), 0.5 / len(other))]
    )
    shrinkage = SHRINKAGE / np.sqrt(len(same))
    slope = np.zeros(len(spreads))
    bias = 0.0
    # A step of 1 over the curvature's upper bound never overshoots.
    bound = 0.25 * float(share @ (features**2).sum(axis=1) + 1) + 2 * shrinkage
    at, at_bias, momentum = slope.copy(), bias, 1.0
    for _ in range(_STEPS):
        error = share * (1 / (1 + np.exp(-(features @ at + at_bias))) - target)
        new = np.maximum(0, at - (features.T @ error + 2 * shrinkage * at) / bound)
        new_bias = at_bias - float(error.sum()) / bound
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        pace = (momentum - 1) / following
        at, at_bias = new + pace * (new - slope), new_bias + pace * (new_bias - bias)
        slope, bias, momentum = new, new_bias, following
    weights = slope / spreads
    total = weights.sum()
    if total <= 0:  # no condition tells these groups apart
        weights, total = 1 / spreads, (1 / spreads).sum()
    found: NDArray[np.float64] = weights / total
    return found


def _pairs(groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of examples of the same group and of different ones: int64 [n, 2] each.

    Two examples that are in no group make no pair.
    """
    first, second = np.triu_indices(len(groups), k=1)
    known = (groups[first] >= 0) | (groups[second] >= 0)
    is_same = (groups[first] == groups[second]) & (groups[first] >= 0)
    pairs = np.stack([first, second], axis=1)
    return pairs[is_same], pairs[known & ~is_same]


def _cosines(vectors: Sequence[Vectors]) -> NDArray[np.float64]:
    """The cosines of all pairs under each condition: float64 [conditions, n, n]."""
    return np.stack([one.astype(np.float64) @ one.T for one in vectors])


def _prototypes(
    vectors: Vectors, groups: NDArray[np.int64], names: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32], float]:
    """The groups' mean vectors, how near their pictures are, and the sharpness of words.

    A picture belongs to a group if it is at least as near as the least near example of it is to
    the mean of the group's others, less one standard deviation of those.
    """
    found, prototypes, nearness, gaps = [], [], [], []
    for group, name in enumerate(names):
        own = vectors[groups == group]
        if not len(own):
            continue
        total = own.sum(axis=0)
        mean = total / max(float(np.linalg.norm(total)), 1e-12)
        others = total - own
        norms = np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1e-12)
        cosines = (own * (others / norms)).sum(axis=1) if len(own) > 1 else np.ones(1)
        found.append(name)
        prototypes.append(mean)
        nearness.append(float(cosines.min() - cosines.std()) if len(own) > 1 else -1.0)
        gaps += list(1 - cosines)
    sharpness = 1 / max(float(np.mean(gaps)) / 2, 0.02)
    return (
        tuple(found),
        np.array(prototypes, dtype=np.float32),
        np.array(nearness, dtype=np.float32),
        sharpness,
    )


def _validate(
    vectors: Sequence[Vectors],
    groups: NDArray[np.int64],
    spreads: NDArray[np.float64],
    seed: int,
) -> tuple[CrossValidation | None, bool]:
    """Cross-validation: what an example is judged by is learned without the examples of its fold.

    Returns:
        The figures, ``None`` if there are too few examples; and whether discriminants help.
    """
    counts = np.bincount(groups[groups >= 0])
    grouped = np.flatnonzero((groups >= 0) & (counts[np.maximum(groups, 0)] > 1))
    if len(grouped) < _FEWEST:
        return None, False
    with_discriminants = len(counts) > 1 and counts[counts > 0].mean() >= _ENOUGH
    random = np.random.default_rng(seed)
    fold = np.zeros(len(groups), dtype=np.int64)
    fold[random.permutation(len(groups))] = np.arange(len(groups)) % _FOLDS
    cosines = _cosines(vectors)
    equal = (1 / spreads) / (1 / spreads).sum()
    singles = [_r_precision(one, groups, np.arange(len(groups))) for one in cosines]
    single = cosines[int(np.argmax([np.mean(one) for one in singles]))]
    scores: dict[str, list[float]] = {"weights": [], "discriminants": [], "equal": [], "single": []}
    for number in range(_FOLDS):
        judged = grouped[fold[grouped] == number]
        used = np.flatnonzero(fold != number)
        same, other = _pairs(groups[used])
        if not len(same) or not len(other) or not len(judged):
            continue
        weights = learned_weights(cosines[:, used][:, :, used], groups[used], spreads)
        scores["weights"] += _r_precision(np.tensordot(weights, cosines, 1), groups, judged)
        scores["equal"] += _r_precision(np.tensordot(equal, cosines, 1), groups, judged)
        scores["single"] += _r_precision(single, groups, judged)
        if with_discriminants:
            scaled = [np.sqrt(w) * one for w, one in zip(weights, vectors, strict=True)]
            joined = np.concatenate(scaled, axis=1)
            further = fit_discriminants(joined[used], groups[used]).continued(joined)
            scores["discriminants"] += _r_precision(further @ further.T, groups, judged)
    if not scores["weights"]:
        return None, False
    is_better = with_discriminants and np.mean(scores["discriminants"]) > np.mean(scores["weights"])
    values = np.array(scores["discriminants" if is_better else "weights"])
    draws = random.integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    figures = CrossValidation(
        float(values.mean()),
        (float(low), float(high)),
        float(np.mean(scores["equal"])),
        float(np.mean(scores["single"])),
        float(((counts[groups[grouped]] - 1) / (len(groups) - 1)).mean()),
        len(values),
    )
    return figures, bool(is_better)


def _r_precision(
    scores: NDArray[np.floating], groups: NDArray[np.int64], queries: NDArray[np.int64]
) -> list[float]:
    """R-precision of some examples among all others; see :class:`CrossValidation`."""
    found = []
    for query in queries:
        relevant = int((groups == groups[query]).sum()) - 1
        if groups[query] < 0 or relevant < 1:
            continue
        order = np.argsort(-scores[query], kind="stable")
        nearest = order[order != query][:relevant]
        found.append(float((groups[nearest] == groups[query]).mean()))
    return found
