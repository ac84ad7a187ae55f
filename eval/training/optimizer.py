"""How the weights move: Muon for matrices, AdamW for the rest, one course of the learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

#: Steps over which the learning rate rises, and the share of a term over which it falls.
WARM_UP, DECAY = 100, 0.3

#: Share of the learning rates for what was schooled in an earlier term.
SCHOOLED = 0.25


def decay_start(steps: int) -> int:
    """The step at which the learning rate begins to fall."""
    return steps - int(steps * DECAY)


def rate_at(number: int, steps: int) -> float:
    """Share of the full learning rate at a step: a rise, a long level, a straight fall to 0.02.

    Up to the fall the course does not depend on ``steps``, so a longer term can go on from where
    a shorter one began to fall, as if it had been planned so.
    """
    start = decay_start(steps)
    fall = max(0.0, (number - start + 1) / (steps - start)) if steps > start else 0.0
    return min(1.0, (number + 1) / WARM_UP) * (1 - 0.98 * fall)


class StackedMuon(torch.optim.Muon):
    """Muon (Jordan et al., 2024) that moves all matrices of one shape together.

    It does what :class:`torch.optim.Muon` with ``adjust_lr_fn="match_rms_adamw"`` does, and their
    states are interchangeable. Matrices as small as the school's, one by one, keep a CPU busier
    with calls than with multiplying.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every matrix that has a gradient, and return what the closure, if any, returns."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            stacks: dict[torch.Size, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    stacks.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in stacks.items():
                ways = _orthogonal(self._momenta(parameters, group), group)
                rate = group["lr"] * 0.2 * max(shape) ** 0.5  # Liu et al., 2025, equation 4
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(ways.to(parameters[0].dtype)), alpha=-rate)
        return loss

    def _momenta(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> torch.Tensor:
        """Nesterov's momenta, float32 [matrices, rows, columns], of matrices of one shape."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        held = [
            self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
            for parameter in parameters
        ]
        torch._foreach_lerp_(held, gradients, 1 - group["momentum"])
        return torch.stack(torch._foreach_lerp(gradients, held, group["momentum"]))


def _orthogonal(stack: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """Newton-Schulz steps towards the orthogonal matrix nearest to each (Jordan et al., 2024).

    Args:
        stack: float32 [matrices, rows, columns].
        group: of a Muon: the coefficients and number of steps, and the least norm.

    Returns:
        bfloat16 of the same shape.
    """
    first, second, third = group["ns_coefficients"]
    tall = stack.shape[1] > stack.shape[2]
    ways = stack.bfloat16()
    ways = ways.mT if tall else ways
    ways = ways / ways.norm(dim=(1, 2), keepdim=True).clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = ways @ ways.mT
        ways = torch.baddbmm(
            ways, torch.baddbmm(gram, gram, gram, beta=second, alpha=third), ways, beta=first
        )
    return ways.mT if tall else ways


class Optimizer:
    """Muon for weight matrices inside the networks, AdamW for all other parameters."""

    def __init__(
        self,
        module: nn.Module,
        steps: int,
        matrix_rate: float,
        other_rate: float,
        schooled: str = "",
    ):
        """Take the parameters of a module.

        Args:
            module: what is trained.
            steps: of the whole term.
            matrix_rate: full learning rate of Muon.
            other_rate: full learning rate of AdamW.
            schooled: parameters with this in their name were schooled before, and move at
                :data:`SCHOOLED` of these rates, since at the full one they would forget.
        """
        matrices: dict[float, list[nn.Parameter]] = {}
        others: dict[float, list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            inner = parameter.ndim == 2 and "embed" not in name and "heads" not in name
            share = SCHOOLED if schooled and schooled in name else 1.0
            (matrices if inner else others).setdefault(share, []).append(parameter)
        muon = StackedMuon(_groups(matrices), lr=matrix_rate, weight_decay=0.05)
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
        """One step down ``loss``; ``number`` counts from 0."""
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
        """What must be kept to go on later."""
        return [part.state_dict() for part, _ in self._parts]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Take up what :meth:`state` kept."""
        for (part, _), state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def _groups(by_share: dict[float, list[nn.Parameter]]) -> list[dict[str, Any]]:
    return [{"params": params, "share": share} for share, params in by_share.items()]
