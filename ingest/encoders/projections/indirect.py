"""InDiReCT: what a condition is about, learned from its words alone.

Kobs et al., WACV 2023, section 3: texts that name the values of a condition differ in that
condition only, so a linear map to fewer dimensions from which the texts can best be rebuilt keeps
what the condition is about. The same map is then applied to vectors of pictures of the same CLIP.
"""

from __future__ import annotations

import numpy as np

from indexes.search.vectors import Vectors, unit

#: As published: dimensions kept, spread of the first map, learning rate, and after how many
#: steps without a better loss the fit is over.
COMPONENTS, SPREAD, RATE, PATIENCE = 128, 0.1, 0.01, 100

#: Adam's, as Kingma and Ba (ICLR 2015) recommend them.
_MEMORY, _SQUARE_MEMORY, _TINY = 0.9, 0.999, 1e-8

_NEAR_ONE = np.float32(1 - 1e-7)


def first_map(components: int, dimension: int, seed: int) -> Vectors:
    """Where the descent starts: float32 [components, dimension], normal of spread 0.1."""
    random = np.random.default_rng(seed)
    drawn: Vectors = SPREAD * random.standard_normal((components, dimension), dtype=np.float32)
    return drawn


def fit(texts: Vectors, components: int = COMPONENTS, seed: int = 0) -> Vectors:
    """Learn a condition's map from the vectors of its texts.

    The loss is the mean angle between each text and what the map's transpose makes of its image,
    arccos of N(x) . N(N(x U^T) U), minimised by Adam over all texts at once. The gradient is
    written out: with z = U x and y = U^T z that cosine is |z|^2 / |y|, so that a step is five
    products of matrices.

    Args:
        texts: float32 [texts, dim], unit rows, one a value of the condition.
        components: dimensions to keep.
        seed: of the first map.

    Returns:
        float32 [components, dim].
    """
    texts = np.ascontiguousarray(texts, dtype=np.float32)
    mapping = first_map(components, texts.shape[1], seed)
    mean, square = np.zeros_like(mapping), np.zeros_like(mapping)
    slope, spare = np.empty_like(mapping), np.empty_like(mapping)
    best, kept, since, step = np.inf, mapping.copy(), 0, 0
    while True:
        small = texts @ mapping.T
        rebuilt = small @ mapping
        squared = np.einsum("ij,ij->i", small, small)
        length = np.sqrt(np.einsum("ij,ij->i", rebuilt, rebuilt))
        raw = squared / length
        cosine = np.clip(raw, -_NEAR_ONE, _NEAR_ONE)
        loss = float(np.arccos(cosine).mean())
        if loss < best:
            best, since = loss, 0
            kept[:] = mapping
        else:
            since += 1
            if since == PATIENCE:
                return kept
        # A cosine that is clamped has no slope.
        steep = np.where(raw == cosine, -1 / np.sqrt(1 - cosine**2), 0) / np.float32(len(texts))
        rebuilt *= (-steep * squared / length**3)[:, None]
        towards = rebuilt @ mapping.T
        towards += small * (2 * steep / length)[:, None]
        np.matmul(towards.T, texts, out=slope)
        slope += np.matmul(small.T, rebuilt, out=spare)
        # Adam, in place.
        step += 1
        mean *= _MEMORY
        mean += np.multiply(slope, 1 - _MEMORY, out=spare)
        np.multiply(slope, slope, out=slope)
        square *= _SQUARE_MEMORY
        square += np.multiply(slope, 1 - _SQUARE_MEMORY, out=slope)
        np.sqrt(square, out=spare)
        spare /= np.sqrt(1 - _SQUARE_MEMORY**step)
        spare += _TINY
        np.divide(mean, spare, out=spare)
        spare *= RATE / (1 - _MEMORY**step)
        mapping -= spare


def project(vectors: Vectors, mapping: Vectors) -> Vectors:
    """Vectors of pictures or texts under a condition: float32 [n, components], unit rows.

    Args:
        vectors: float32 [n, dim], unit rows.
        mapping: from :func:`fit`.
    """
    return unit(vectors @ mapping.T)
