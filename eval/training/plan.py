"""How long and how hard to school."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

#: What may differ between a plan and one that goes on with its checkpoints.
_FREE = ("vision_steps", "joint_steps", "workers", "device")


@dataclass(frozen=True)
class Plan:
    """How long and how hard to school.

    Attributes:
        pictures: how many pictures are rendered once and shown again and again.
        seed: of the pictures, the weights and the order.
        vision_steps: steps of the first term, 96 pictures each.
        joint_steps: steps of the second term, 48 pictures each.
        matrix_rate: learning rate of Muon, for the weight matrices.
        other_rate: learning rate of AdamW, for everything else.
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

    def apart_from_length(self) -> dict[str, Any]:
        """What another plan must share to go on with this one's checkpoints."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}
