"""Where a school was when it stopped, and whether a folder is that school's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from eval.training.optimizer import Optimizer, decay_start
from eval.training.plan import Plan


class OtherTrainingError(ValueError):
    """A folder holds the checkpoint of another plan, or of other pictures."""


class Checkpoints:
    """The states of both terms in a folder: the newest, and that where the rate begins to fall.

    Args:
        folder: where they are.
        plan: whose they are.
        digest: of the pictures, as :func:`eval.training.pictures.digest_of` makes it.

    Raises:
        OtherSchoolError: if one in the folder is of another plan or of other pictures.
    """

    def __init__(self, folder: Path, plan: Plan, digest: str):
        self._folder = folder
        self._plan = plan
        self._digest = digest
        for path in sorted(folder.glob("*.level")) + sorted(folder.glob("*.checkpoint")):
            state = torch.load(path, weights_only=True, map_location="cpu")
            plans = Plan(**state["plan"]).apart_from_length(), plan.apart_from_length()
            if plans[0] != plans[1] or state.get("pictures") != digest:
                raise OtherTrainingError(
                    f"{path} belongs to another plan or to other pictures; "
                    "name another folder or remove the checkpoint"
                )

    def begun(self, term: str) -> bool:
        """Whether a term has been remembered."""
        return (self._folder / f"{term}.checkpoint").exists()

    def remember(
        self, term: str, module: nn.Module, optimizer: Optimizer, step: int, kind: str
    ) -> None:
        """Keep a state in place of an earlier one of its kind, ``checkpoint`` or ``level``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        state = {
            "plan": asdict(self._plan),
            "pictures": self._digest,
            "step": step,
            "weights": module.state_dict(),
            "optimizer": optimizer.state(),
        }
        partial = self._folder / f"{term}.partial"
        torch.save(state, partial)
        partial.replace(self._folder / f"{term}.{kind}")

    def resume(self, term: str, module: nn.Module, optimizer: Optimizer, steps: int) -> int:
        """Take up the newest state that a term of this length would have passed through.

        Returns:
            The step to go on at; 0 if there is no such state.
        """
        for kind in ("checkpoint", "level"):
            path = self._folder / f"{term}.{kind}"
            if not path.exists():
                continue
            state = torch.load(path, weights_only=True, map_location=self._plan.device)
            planned = state["plan"][f"{term}_steps"]
            if planned == steps or state["step"] <= decay_start(min(steps, planned)):
                module.load_state_dict(state["weights"])
                optimizer.load(state["optimizer"])
                return int(state["step"])
        return 0
