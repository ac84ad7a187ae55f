"""Checkpoints of a training run, and the configuration that they belong to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eval.training.optimizer import Optimizer, decay_start
from indexes.files import replacing

#: Settings that may differ between a run and the checkpoints it resumes.
_FREE = ("vision_steps", "joint_steps", "workers", "device")


@dataclass(frozen=True)
class TrainingConfig:
    """How the built-in models are trained.

    Attributes:
        pictures: number of pictures, rendered once and reused.
        seed: the seed of the pictures, the weights and the order.
        vision_steps: steps of the first stage, 96 pictures each.
        joint_steps: steps of the second stage, 48 pictures each.
        matrix_rate: learning rate of Muon, for the weight matrices.
        other_rate: learning rate of AdamW, for all other parameters.
        workers: processes that render.
        device: where to train, ``cpu`` or ``cuda``.
    """

    pictures: int = 80_000
    seed: int = 1
    vision_steps: int = 15_000
    joint_steps: int = 5_200
    matrix_rate: float = 4e-3
    other_rate: float = 1e-3
    workers: int = 2
    device: str = "cpu"

    def without_length(self) -> dict[str, Any]:
        """The settings that must be equal to resume this configuration's checkpoints."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}


class OtherTrainingError(ValueError):
    """A folder has checkpoints of another configuration or of other pictures."""


class Checkpoints:
    """The states of both stages in a folder: the newest, and that before the rate decays."""

    def __init__(self, folder: Path, config: TrainingConfig, digest: str):
        """Open a folder and check that its checkpoints belong to this run.

        Args:
            folder: the folder of the checkpoints; made when the first one is saved.
            config: the configuration of the run.
            digest: the digest of the pictures, from :func:`eval.training.pictures.digest_of`.

        Raises:
            OtherTrainingError: if a checkpoint is of another configuration or of other pictures.
        """
        self._folder = folder
        self._config = config
        self._digest = digest
        for path in sorted(folder.glob("[!.]*.level")) + sorted(folder.glob("[!.]*.checkpoint")):
            state = torch.load(path, weights_only=True, map_location="cpu")
            saved = TrainingConfig(**state["plan"]).without_length()
            if saved != config.without_length() or state.get("pictures") != digest:
                raise OtherTrainingError(
                    f"{path} belongs to another configuration or to other pictures; "
                    "name another folder or remove the checkpoint"
                )

    def has(self, stage: str) -> bool:
        """Whether a state of a stage was saved."""
        return (self._folder / f"{stage}.checkpoint").exists()

    def save(
        self, stage: str, module: nn.Module, optimizer: Optimizer, step: int, kind: str
    ) -> None:
        """Save a state, replacing the earlier one of its kind, ``checkpoint`` or ``level``."""
        state = {
            "plan": asdict(self._config),
            "pictures": self._digest,
            "step": step,
            "weights": module.state_dict(),
            "optimizer": optimizer.state(),
        }
        with replacing(self._folder / f"{stage}.{kind}") as partial:
            torch.save(state, partial)

    def resume(self, stage: str, module: nn.Module, optimizer: Optimizer, steps: int) -> int:
        """Load the newest state that a stage of this length would have passed through.

        Returns:
            The step to continue at; 0 if there is no such state.
        """
        for kind in ("checkpoint", "level"):
            path = self._folder / f"{stage}.{kind}"
            if not path.exists():
                continue
            state = torch.load(path, weights_only=True, map_location=self._config.device)
            planned = state["plan"][f"{stage}_steps"]
            if planned == steps or state["step"] <= decay_start(min(steps, planned)):
                module.load_state_dict(state["weights"])
                optimizer.load(state["optimizer"])
                return int(state["step"])
        return 0
