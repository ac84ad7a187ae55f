"""The optimizer: Muon for matrices, AdamW for other parameters, and the learning rate schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from indexes.errors import ModelError

#: Steps of warm-up, and the share of a stage over which the learning rate decays.
WARM_UP, DECAY = 100, 0.3

#: Share of the learning rates for parameters that were trained in an earlier stage.
PRETRAINED_SHARE = 0.25


def decay_start(steps: int) -> int:
    """The step at which the learning rate begins to decay."""
    return steps - int(steps * DECAY)


def rate_at(number: int, steps: int) -> float:
    """Share of the full learning rate at a step: warm-up, a constant part, linear decay to 0.02.

    Before the decay the rate does not depend on ``steps``. A longer stage can therefore resume
    where a shorter one began to decay, and gives the same weights as if it had been planned so.
    """
    start = decay_start(steps)
    fall = max(0.0, (number - start + 1) / (steps - start)) if steps > start else 0.0
    return min(1.0, (number + 1) / WARM_UP) * (1 - 0.98 * fall)


class Optimizer:
    """Muon (Jordan et al., 2024) for weight matrices, AdamW for all other parameters.

    Muon's updates are scaled to the size of AdamW's (Liu et al., 2025, equation 4), so that both
    take learning rates of the same order. Embeddings and classifiers are left to AdamW.
    """

    def __init__(
        self,
        module: nn.Module,
        steps: int,
        matrix_rate: float,
        other_rate: float,
        pretrained: str = "",
    ):
        """Take the parameters of a module.

        Args:
            module: the module to train.
            steps: the number of steps of the whole stage.
            matrix_rate: full learning rate of Muon.
            other_rate: full learning rate of AdamW.
            pretrained: parameters with this text in their name were trained before; they get
                :data:`PRETRAINED_SHARE` of these rates, so that they are not overwritten.

        Raises:
            ModelError: if the installed torch has no Muon.
        """
        if not hasattr(torch.optim, "Muon"):
            raise ModelError(
                f"Training needs torch 2.9 or later for torch.optim.Muon, and {torch.__version__} "
                "is installed; run `pip install --upgrade torch`."
            )
        matrices: dict[float, list[nn.Parameter]] = {}
        others: dict[float, list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            inner = parameter.ndim == 2 and "embed" not in name and "heads" not in name
            share = PRETRAINED_SHARE if pretrained and pretrained in name else 1.0
            (matrices if inner else others).setdefault(share, []).append(parameter)
        muon = torch.optim.Muon(
            _groups(matrices),
            lr=matrix_rate,
            weight_decay=0.05,
            adjust_lr_fn="match_rms_adamw",
        )
        adam = torch.optim.AdamW(
            _groups(others), lr=other_rate, weight_decay=0.05, betas=(0.9, 0.98)
        )
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [
            (muon, matrix_rate),
            (adam, other_rate),
        ]
        self._parameters = list(module.parameters())
        self._steps = steps

    def step(self, loss: torch.Tensor, number: int) -> None:
        """Make one step; ``number`` counts from 0."""
        scale = rate_at(number, self._steps)
        for part, rate in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * scale * group["share"]
            part.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for part, _ in self._parts:
            part.step()

    def state(self) -> list[dict[str, Any]]:
        """The state to save in a checkpoint."""
        return [part.state_dict() for part, _ in self._parts]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Restore what :meth:`state` returned."""
        for (part, _), state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def _groups(by_share: dict[float, list[nn.Parameter]]) -> list[dict[str, Any]]:
    return [{"params": params, "share": share} for share, params in by_share.items()]
