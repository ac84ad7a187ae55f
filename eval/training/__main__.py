"""``python -m eval.training FOLDER``: train the built-in models from nothing, and measure them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from eval.bench.quality import as_markdown, compare
from eval.training.checkpoints import OtherTrainingError
from eval.training.plan import Plan
from eval.training.train import TrainingRun

#: What the models are measured on at the end: as many pictures of a seed no school begins with.
_PICTURES, _UNSEEN = 2_000, 4711


def main() -> None:
    """Train, going on where an earlier run stopped; write the models and measure them."""
    defaults = Plan()
    parser = argparse.ArgumentParser(prog="python -m eval.training", description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoints go here, the models into models/")
    parser.add_argument("--pictures", type=int, default=defaults.pictures)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--vision-steps", type=int, default=defaults.vision_steps)
    parser.add_argument("--joint-steps", type=int, default=defaults.joint_steps)
    parser.add_argument("--workers", type=int, default=defaults.workers)
    parser.add_argument("--device", default=defaults.device, choices=("cpu", "cuda"))
    given = parser.parse_args()
    for name in ("pictures", "vision_steps", "joint_steps", "workers"):
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU; leave it out to train on the CPU")
    plan = Plan(
        pictures=given.pictures,
        seed=given.seed,
        vision_steps=given.vision_steps,
        joint_steps=given.joint_steps,
        workers=given.workers,
        device=given.device,
    )
    torch.set_num_threads(given.workers)
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {line}", file=sys.stderr, flush=True)

    school = TrainingRun(plan, given.folder, report)
    try:
        school.run()
    except OtherTrainingError as error:
        parser.error(str(error))
    models = school.graduate()
    report(f"the models are in {models}")
    lvlm, clip = str(models / "tiny-lvlm"), str(models / "tiny-clip")
    print(as_markdown(compare(lvlm, clip, _PICTURES, _UNSEEN, progress=report)))


if __name__ == "__main__":
    main()
