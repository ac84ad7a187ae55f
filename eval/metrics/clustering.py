"""NMI and AMI of k-means clusters and labels; needs FAISS and scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexes.errors import UsageError
from indexes.vectors import Vectors

#: As pytorch-metric-learning clusters, with a fixed seed.
ITERATIONS = 20
SEED = 1234

#: Metrics of clusters and not of queries: they have no interval and are not tested.
CLUSTER_METRICS = ("NMI", "AMI")

#: Pictures times clusters up to which pictures are clustered.
_MOST_CLUSTERING = 20_000_000


@dataclass(frozen=True)
class ClusterAgreement:
    """Mutual information of clusters and labels.

    Attributes:
        clusters: number of clusters, which is the number of labels.
        seed: the seed of k-means.
        iterations: the number of iterations of k-means.
        nmi: normalized mutual information, 0 to 1: mutual information over the arithmetic mean of
            the entropies.
        ami: adjusted mutual information, 0 by chance, at most 1: Vinh, Epps and Bailey,
            Information Theoretic Measures for Clusterings Comparison, JMLR 2010.
        nmi_chance: mean NMI of the same clusters with shuffled labels.
    """

    clusters: int
    seed: int
    iterations: int
    nmi: float
    ami: float
    nmi_chance: float

    def to_json(self) -> dict[str, Any]:
        """For documents."""
        return {
            "count": self.clusters,
            "NMI": {
                "value": self.nmi,
                "chance": self.nmi_chance,
                "corrected": (self.nmi - self.nmi_chance) / (1 - self.nmi_chance),
            },
            "AMI": {"value": self.ami, "chance": 0.0, "corrected": self.ami},
        }


def missing_libraries() -> str:
    """What NMI and AMI lack here and how to install it, as one sentence; empty if nothing."""
    lacking = {
        name: extra
        for module, name, extra in (
            ("faiss", "FAISS", "cpu"),
            ("sklearn", "scikit-learn", "eval"),
        )
        if find_spec(module) is None
    }
    if not lacking:
        return ""
    names, extras = " and ".join(lacking), ",".join(lacking.values())
    return f"NMI and AMI need {names}; install with `pip install 'cies[{extras}]'`."


def is_feasible(pictures: int, clusters: int) -> bool:
    """Whether pictures can be put into as many clusters as they have labels.

    Not with a single label, with a label for each picture, or if it would take minutes.
    """
    return 1 < clusters < pictures and pictures * clusters <= _MOST_CLUSTERING


def k_means(
    vectors: Vectors, clusters: int, seed: int = SEED, iterations: int = ITERATIONS
) -> NDArray[np.int64]:
    """Cluster by FAISS k-means: int64 [n], each vector's cluster.

    Args:
        vectors: float32 [n, dim], at least as many as clusters; all of them train.
        clusters: number of clusters.
        seed: the seed of the first centers.
        iterations: the number of iterations of Lloyd's algorithm.

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
    # Train on all vectors, and do not warn on stderr when they are few.
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
) -> ClusterAgreement:
    """Cluster into as many clusters as there are labels, and compare clusters and labels.

    Args:
        vectors: float32 [n, dim].
        labels: [n], of any type that sorts.
        seed: the seed of k-means and of the shuffles.
        iterations: the number of iterations of k-means.
        shuffles: the number of shuffles of the labels, for the chance level of NMI.

    Raises:
        UsageError: if FAISS or scikit-learn is missing.
    """
    try:
        from sklearn.metrics import adjusted_mutual_info_score as ami
        from sklearn.metrics import normalized_mutual_info_score as nmi
    except ImportError as error:
        raise UsageError(
            "NMI and AMI need scikit-learn; install it with `pip install 'cies[eval]'`."
        ) from error
    numbers = np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    count = int(numbers.max()) + 1
    found = k_means(vectors, count, seed, iterations)
    random = np.random.default_rng(seed)
    chance = [float(nmi(random.permutation(numbers), found)) for _ in range(shuffles)]
    return ClusterAgreement(
        clusters=count,
        seed=seed,
        iterations=iterations,
        nmi=float(nmi(numbers, found)),
        ami=float(ami(numbers, found)),
        nmi_chance=float(np.mean(chance)),
    )
