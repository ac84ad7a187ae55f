"""Clusters of vectors against labels: k-means, and how much the two tell of each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexes.errors import UsageError
from indexes.search.vectors import Vectors

#: As pytorch-metric-learning clusters, except that the seed is stated.
ITERATIONS = 20
SEED = 1234

#: Definitions, for reports.
DEFINITIONS = {
    "NMI": "Mutual information of k-means clusters and labels over the mean of their entropies.",
    "AMI": "NMI with what chance gives for clusters of these sizes taken off, so that chance is 0.",
}


@dataclass(frozen=True)
class Agreement:
    """How much clusters and labels tell of each other.

    Attributes:
        clusters: how many were made, as many as there are labels.
        seed: of k-means.
        iterations: of k-means.
        nmi: normalised mutual information, 0 to 1.
        ami: adjusted mutual information, 0 by chance, at most 1.
        nmi_chance: NMI of the same clusters with the labels shuffled, the mean of some shuffles.
    """

    clusters: int
    seed: int
    iterations: int
    nmi: float
    ami: float
    nmi_chance: float


def k_means(
    vectors: Vectors, clusters: int, seed: int = SEED, iterations: int = ITERATIONS
) -> NDArray[np.int64]:
    """Cluster by FAISS k-means: int64 [n], each vector's cluster.

    Args:
        vectors: float32 [n, dim], at least as many as clusters; all of them train.
        clusters: how many.
        seed: of the first centers.
        iterations: of Lloyd's algorithm.

    Raises:
        UsageError: if FAISS is missing.
        ValueError: if there are fewer vectors than clusters.
    """
    try:
        import faiss
    except ImportError as error:
        raise UsageError(
            "NMI and AMI need FAISS; install it with `pip install 'cies[cpu]'`."
        ) from error
    if len(vectors) < clusters:
        raise ValueError(f"{len(vectors)} vectors cannot make {clusters} clusters")
    data = np.ascontiguousarray(vectors, dtype=np.float32)
    training = faiss.ClusteringParameters()
    training.niter, training.seed = iterations, seed
    # All vectors train, and few of them are no reason for a warning on stderr.
    training.max_points_per_centroid, training.min_points_per_centroid = len(data), 1
    index = faiss.IndexFlatL2(data.shape[1])
    faiss.Clustering(data.shape[1], clusters, training).train(data, index)
    nearest: NDArray[np.int64] = index.search(data, 1)[1][:, 0]
    return nearest


def cluster_agreement(
    vectors: Vectors,
    labels: ArrayLike,
    seed: int = SEED,
    iterations: int = ITERATIONS,
    shuffles: int = 10,
) -> Agreement:
    """Cluster into as many clusters as there are labels, and compare.

    Args:
        vectors: float32 [n, dim].
        labels: [n], of any type that sorts.
        seed: of k-means and of the shuffles.
        iterations: of k-means.
        shuffles: of the labels, for the chance level of NMI.

    Raises:
        UsageError: if FAISS is missing.
    """
    numbers = _numbered(labels)
    count = int(numbers.max()) + 1
    found = k_means(vectors, count, seed, iterations)
    random = np.random.default_rng(seed)
    chance = [nmi(random.permutation(numbers), found) for _ in range(shuffles)]
    return Agreement(
        count, seed, iterations, nmi(numbers, found), ami(numbers, found), float(np.mean(chance))
    )


def nmi(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Normalised mutual information, by the arithmetic mean of the entropies; 1 if both are 0."""
    table = _contingency(labels, clusters)
    spread = (_entropy(table.sum(axis=1)) + _entropy(table.sum(axis=0))) / 2
    return min(1.0, _information(table) / spread) if spread else 1.0


def ami(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Adjusted mutual information: (MI - E[MI]) / (mean entropy - E[MI]).

    The expectation is over all ways to deal out the labels to clusters of these sizes: Vinh, Epps
    and Bailey, Information Theoretic Measures for Clusterings Comparison, JMLR 2010.
    """
    table = _contingency(labels, clusters)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if len(rows) == len(columns) and len(rows) in (1, len(np.asarray(labels))):
        return 1.0
    spread = (_entropy(rows) + _entropy(columns)) / 2
    expected = _expected_information(rows, columns)
    rest = spread - expected
    # As many labels as pictures leave nothing to adjust; the sign keeps the ratio finite.
    rest = min(rest, -np.finfo(float).eps) if rest < 0 else max(rest, np.finfo(float).eps)
    return float((_information(table) - expected) / rest)


def _numbered(values: ArrayLike) -> NDArray[np.int64]:
    return np.unique(np.asarray(values), return_inverse=True)[1].reshape(-1)


def _contingency(labels: ArrayLike, clusters: ArrayLike) -> NDArray[np.int64]:
    rows, columns = _numbered(labels), _numbered(clusters)
    width = int(columns.max()) + 1
    counts = np.bincount(rows * width + columns, minlength=(int(rows.max()) + 1) * width)
    return counts.reshape(-1, width)


def _entropy(counts: NDArray[np.int64]) -> float:
    share = counts / counts.sum()
    return float(-np.sum(share * np.log(share)))


def _information(table: NDArray[np.int64]) -> float:
    """Mutual information in nats."""
    total = table.sum()
    row, column = np.nonzero(table)
    count = table[row, column]
    independent = table.sum(axis=1)[row] * table.sum(axis=0)[column] / total
    return max(0.0, float(np.sum(count / total * np.log(count / independent))))


def _expected_information(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
    """E[MI]: each cell is hypergeometric, and only pairs of distinct sizes differ."""
    total = int(rows.sum())
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    expected = 0.0
    for a, of_a in zip(*np.unique(rows, return_counts=True), strict=True):
        for b, of_b in zip(*np.unique(columns, return_counts=True), strict=True):
            n = np.arange(max(1, a + b - total), min(a, b) + 1)
            log_probability = (
                log_factorial[[a, b, total - a, total - b]].sum()
                - log_factorial[total]
                - log_factorial[n]
                - log_factorial[a - n]
                - log_factorial[b - n]
                - log_factorial[total - a - b + n]
            )
            cells = n / total * np.log(total * n / (a * b)) * np.exp(log_probability)
            expected += of_a * of_b * float(cells.sum())
    return expected
