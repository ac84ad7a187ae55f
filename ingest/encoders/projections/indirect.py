"""InDiReCT: a linear map learned from a condition's words alone.

Kobs et al., WACV 2023, section 3: texts that name the values of a condition differ in that
condition only, so a linear map to fewer dimensions from which the texts can best be reconstructed
keeps the condition. The same map is then applied to vectors of images by the same CLIP.
"""

from __future__ import annotations

import numpy as np

from indexes.vectors import Vectors

#: As published: dimensions kept, standard deviation of the initial map, learning rate, and the
#: number of steps without a better loss after which the fit ends.
COMPONENTS, DEVIATION, RATE, PATIENCE = 128, 0.1, 0.01, 100

#: Adam's decay rates and epsilon, as Kingma and Ba (ICLR 2015) recommend them.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8

_NEAR_ONE = np.float32(1 - 1e-7)


def initial_map(components: int, dimension: int, seed: int) -> Vectors:
    """The start of the descent: float32 [components, dimension], normal with deviation 0.1."""
    random = np.random.default_rng(seed)
    drawn: Vectors = DEVIATION * random.standard_normal((components, dimension), dtype=np.float32)
    return drawn


def fit(texts: Vectors, components: int = COMPONENTS, seed: int = 0) -> Vectors:
    """Learn a condition's map from the vectors of its texts.

    The loss is the mean angle between each text and its reconstruction, arccos of
    N(x) . N(N(x U^T) U), minimised by Adam over all texts at once. The gradient is written out:
    with z = U x and y = U^T z that cosine is |z|^2 / |y|, so a step is five matrix products.

    Args:
        texts: float32 [texts, dim], unit rows, one for each value of the condition.
        components: dimensions to keep.
        seed: the seed of the initial map.

    Returns:
        float32 [components, dim].
    """
    texts = np.ascontiguousarray(texts, dtype=np.float32)
    mapping = initial_map(components, texts.shape[1], seed)
    mean, square = np.zeros_like(mapping), np.zeros_like(mapping)
    gradient, buffer = np.empty_like(mapping), np.empty_like(mapping)
    best_loss, best_map, stale, step = np.inf, mapping.copy(), 0, 0
    while True:
        projected = texts @ mapping.T
        rebuilt = projected @ mapping
        squared = np.einsum("ij,ij->i", projected, projected)
        length = np.sqrt(np.einsum("ij,ij->i", rebuilt, rebuilt))
        raw = squared / length
        cosine = np.clip(raw, -_NEAR_ONE, _NEAR_ONE)
        loss = float(np.arccos(cosine).mean())
        if loss < best_loss:
            best_loss, stale = loss, 0
            best_map[:] = mapping
        else:
            stale += 1
            if stale == PATIENCE:
                return best_map
        # A cosine that is clamped has no gradient.
        weight = np.where(raw == cosine, -1 / np.sqrt(1 - cosine**2), 0) / np.float32(len(texts))
        rebuilt *= (-weight * squared / length**3)[:, None]
        direction = rebuilt @ mapping.T
        direction += projected * (2 * weight / length)[:, None]
        np.matmul(direction.T, texts, out=gradient)
        gradient += np.matmul(projected.T, rebuilt, out=buffer)
        # Adam, in place.
        step += 1
        mean *= _BETA1
        mean += np.multiply(gradient, 1 - _BETA1, out=buffer)
        np.multiply(gradient, gradient, out=gradient)
        square *= _BETA2
        square += np.multiply(gradient, 1 - _BETA2, out=gradient)
        np.sqrt(square, out=buffer)
        buffer /= np.sqrt(1 - _BETA2**step)
        buffer += _EPSILON
        np.divide(mean, buffer, out=buffer)
        buffer *= RATE / (1 - _BETA1**step)
        mapping -= buffer


def fit_maps(texts: Vectors, image_mean: Vectors | None) -> tuple[Vectors, Vectors, Vectors]:
    """See :data:`ingest.encoders.projections.base.PROJECTIONS`; ``image_mean`` is not used."""
    mapping = fit(texts)
    return mapping, mapping, np.zeros(len(mapping), dtype=np.float32)
