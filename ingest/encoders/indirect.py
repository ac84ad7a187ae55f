"""InDiReCT: what a condition is about, learned from its words alone.

Kobs et al., WACV 2023, section 3: texts that name the values of a condition differ in that
condition only, so a linear map to fewer dimensions from which the texts can best be rebuilt keeps
what the condition is about. The same map is then applied to vectors of pictures of the same CLIP.
"""

from __future__ import annotations

import torch

from indexes.vectors import Vectors, unit

#: As published: dimensions kept, spread of the first map, learning rate, and after how many
#: steps without a better loss the fit is over.
COMPONENTS, SPREAD, RATE, PATIENCE = 128, 0.1, 0.01, 100

_NEAR_ONE = 1 - 1e-7


def fit(texts: Vectors, components: int = COMPONENTS, seed: int = 0) -> Vectors:
    """Learn a condition's map from the vectors of its texts.

    The loss is the mean angle between each text and what the map's transpose makes of its image,
    arccos of N(x) . N(N(x U^T) U), minimised by Adam over all texts at once.

    Args:
        texts: float32 [texts, dim], unit rows, one a value of the condition.
        components: dimensions to keep.
        seed: of the first map.

    Returns:
        float32 [components, dim].
    """
    given = torch.from_numpy(texts)
    first = torch.randn(components, given.shape[1], generator=torch.Generator().manual_seed(seed))
    mapping = (SPREAD * first).requires_grad_()
    adam = torch.optim.Adam([mapping], lr=RATE)
    best, kept, since = float("inf"), mapping.detach().clone(), 0
    while since < PATIENCE:
        adam.zero_grad()
        small = torch.nn.functional.normalize(given @ mapping.T, dim=1)
        rebuilt = torch.nn.functional.normalize(small @ mapping, dim=1)
        cosine = (given * rebuilt).sum(1).clamp(-_NEAR_ONE, _NEAR_ONE)
        loss = cosine.arccos().mean()
        if loss.item() < best:
            best, kept, since = loss.item(), mapping.detach().clone(), 0
        else:
            since += 1
        torch.autograd.backward(loss)
        adam.step()
    return kept.numpy()


def project(vectors: Vectors, mapping: Vectors) -> Vectors:
    """Vectors of pictures or texts under a condition: float32 [n, components], unit rows.

    Args:
        vectors: float32 [n, dim], unit rows.
        mapping: from :func:`fit`.
    """
    return unit(vectors @ mapping.T)
