"""The losses: classification of factors, contrastive losses, and CLIP's loss."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import nn
from torch.nn import functional

from eval.training.pictures import UNKNOWN

#: Temperature of the contrastive losses.
_TEMPERATURE = 0.1


class FactorClassifiers(nn.Module):
    """One classifier per factor, over the mean and the maximum of the patch tokens."""

    def __init__(self, width: int, sizes: Sequence[int]):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, size)) for size in sizes
        )

    def loss(self, tokens: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over factors.

        Args:
            tokens: [batch, patches, width].
            answers: int64 [batch, factors], ``UNKNOWN`` where there is none.
        """
        wide = tokens.float()
        pooled = torch.cat([wide.mean(1), wide.amax(1)], dim=1)
        losses = [
            functional.cross_entropy(head(pooled), answers[:, column], ignore_index=UNKNOWN)
            for column, head in enumerate(self.heads)
        ]
        return torch.stack(losses).mean()


class Proxies(nn.Module):
    """A learned direction for every answer, which the states of that answer are pulled towards.

    A batch seldom has two pictures of one shape, so that a contrastive loss within the batch says
    little about shapes. The learned direction represents all pictures of that answer.
    """

    def __init__(self, width: int, sizes: Sequence[int]):
        super().__init__()
        self.heads = nn.ParameterList(torch.randn(size, width) for size in sizes)

    def loss(
        self, states: torch.Tensor, answers: torch.Tensor, columns: Sequence[int]
    ) -> torch.Tensor:
        """Normalised softmax loss (Zhai and Wu, BMVC 2019, equation 3), a mean over questions.

        Args:
            states: [batch, questions, width].
            answers: int64 [batch, questions], ``UNKNOWN`` where there is none.
            columns: the factor of each question.
        """
        unit = functional.normalize(states.float(), dim=-1)
        losses = []
        for place, column in enumerate(columns):
            known = answers[:, place] != UNKNOWN
            if known.any():
                logits = unit[known, place] @ functional.normalize(self.heads[column], dim=-1).T
                losses.append(
                    functional.cross_entropy(logits / _TEMPERATURE, answers[known, place])
                )
        return torch.stack(losses).mean()


def contrastive_loss(states: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020, equation 2), a mean over questions.

    Under each question it pulls states of equal answers together and pushes others apart,
    whatever else the pictures share.

    Args:
        states: [batch, questions, dim].
        answers: int64 [batch, questions], ``UNKNOWN`` where there is none.
    """
    unit = functional.normalize(states.float(), dim=-1).transpose(0, 1)
    logits = unit @ unit.transpose(1, 2) / _TEMPERATURE
    known = (answers != UNKNOWN).T
    itself = torch.eye(len(states), dtype=torch.bool, device=states.device)
    compared = known[:, None, :] & known[:, :, None] & ~itself
    alike = (answers.T[:, :, None] == answers.T[:, None, :]) & compared
    log_shares = logits - logits.masked_fill(~compared, -1e9).logsumexp(-1, keepdim=True)
    count = alike.sum(-1)
    losses = -(log_shares * alike).sum(-1) / count.clamp(min=1)
    return losses[count > 0].mean()


def clip_loss(
    pictures: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, true: torch.Tensor
) -> torch.Tensor:
    """CLIP's loss, with every picture of the batch that a caption is true of as a positive.

    Args:
        pictures: [batch, dim], unit rows.
        texts: [batch, dim], unit rows.
        scale: the learned inverse temperature, a scalar.
        true: bool [texts, pictures], from :func:`true_captions`.
    """
    logits = scale * texts @ pictures.T
    wanted = true.float()
    by_text = functional.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True))
    by_picture = functional.cross_entropy(logits.T, wanted.T / wanted.T.sum(1, keepdim=True))
    return (by_text + by_picture) / 2


def true_captions(answers: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
    """Which caption is true of which picture: bool [captions, pictures].

    Args:
        answers: int64 [batch, factors]; caption ``i`` was written for picture ``i``.
        named: bool [batch, factors], the factors whose values each caption names.
    """
    equal = answers[:, None, :] == answers[None, :, :]
    return (equal | ~named[:, None, :]).all(-1)
