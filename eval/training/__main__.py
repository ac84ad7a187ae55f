"""``python -m eval.training FOLDER``: train and measure the built-in models."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from eval.bench.methods.compare import OWN, compare_methods
from eval.bench.methods.page import markdown, quality_rows, text_rows
from eval.training.checkpoints import OtherTrainingError, TrainingConfig
from eval.training.train import TrainingRun
from indexes.errors import ModelError

#: Pictures that the models are measured on at the end, and their seed, which no training uses.
_PICTURES, _UNSEEN = 2_000, 4711

#: Methods that the models are measured by.
_METHODS = ("dior", "generative", "clip", "indirect")


def main() -> None:
    """Train, resuming an earlier run; write the models and measure them."""
    defaults = TrainingConfig()
    parser = argparse.ArgumentParser(prog="python -m eval.training", description=__doc__)
    parser.add_argument("folder", type=Path, help="gets the checkpoints, and the models in models/")
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
    config = TrainingConfig(
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

    training = TrainingRun(config, given.folder, report)
    try:
        training.run()
    except (OtherTrainingError, ModelError) as error:
        parser.error(str(error))
    models = training.save_models()
    report(f"the models are in {models}")
    lvlm, clip = str(models / "tiny-lvlm"), str(models / "tiny-clip")
    found = compare_methods(lvlm, clip, _PICTURES, _UNSEEN, methods=_METHODS, progress=report)
    print(markdown(quality_rows(found, OWN), 2), markdown(text_rows(found), 2), sep="\n\n")


if __name__ == "__main__":
    main()
