"""``python -m eval.training.inversion``: train the built-in CLIP's networks of textual inversion.

The networks depend on the CLIP and must be trained again when it changes. The command renders
pictures of the world, trains one network for each composer and writes them into the package.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from eval.training.pictures import training_scenes
from eval.world.captions import caption
from eval.world.factors import Scene, sample_scenes
from eval.world.render import render
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.inversion.networks import NETWORKS, shipped_folder
from ingest.encoders.inversion.pseudo_words import PseudoWords
from ingest.encoders.inversion.training import Trainer, TrainingPlan

#: Of pictures and captions; no benchmark uses this seed.
SEED = 31

#: Numbers of training pictures and captions.
PICTURES, CAPTIONS = 3_000, 20_000

#: Pictures of these whose searle words are found by optimisation.
OPTIMISED = 768

#: Hidden size of palavra's network, whose layers have twice the weights.
_HIDDEN_OF_SETS = 128

#: Side of the pictures in pixels, the CLIP's input size.
_SIDE = 128

#: Small networks and few steps, since the pictures of the world differ in only ten factors.
PLAN = TrainingPlan(hidden=256, oti_steps=200, seed=SEED)
STEPS = {"searle": 1500, "pic2word": 1000, "lincir": 1000, "palavra": 1000}


def captions(count: int, seed: int = SEED) -> list[str]:
    """Captions of scenes of the rendered world, in random phrasings."""
    random = np.random.default_rng([seed, 5])
    return [caption(scene.labels, random).text for scene in sample_scenes(count, seed)]


def _draw(scene: Scene) -> Image.Image:
    return render(scene, _SIDE)


def main() -> None:
    """Train the networks of all composers, resuming an earlier run."""
    parser = argparse.ArgumentParser(prog="python -m eval.training.inversion", description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoints go here")
    parser.add_argument("--only", choices=tuple(NETWORKS), action="append")
    parser.add_argument("--into", type=Path, default=shipped_folder(), help="the networks' folder")
    given = parser.parse_args()
    started, last = time.monotonic(), [0.0]

    def report(line: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {line}", file=sys.stderr, flush=True)

    def step_done(stage: str, done: int, total: int, loss: float) -> None:
        if done == total or time.monotonic() - last[0] > 20:
            last[0] = time.monotonic()
            report(f"{stage} {done}/{total} loss {loss:.3f}")

    words = PseudoWords(DualEncoder.load("tiny-clip", "float32"))
    given.folder.mkdir(parents=True, exist_ok=True)
    place = given.folder / f"pictures-{words.revision}-{PICTURES}.npy"
    if not place.exists():
        with ProcessPoolExecutor() as pool:
            drawn = list(pool.map(_draw, training_scenes(PICTURES, SEED), chunksize=50))
        report(f"rendered {PICTURES} pictures")
        np.save(place, words.dual.encode_images(drawn))
    vectors = np.load(place)
    for composer in given.only or NETWORKS:
        began = time.monotonic()
        hidden = _HIDDEN_OF_SETS if composer == "palavra" else PLAN.hidden
        plan = replace(PLAN, steps=STEPS[composer], hidden=hidden)
        trainer = Trainer(composer, words, plan, given.folder, step_done)
        if composer == "lincir":
            made, _ = trainer.train(captions(CAPTIONS), {"texts": CAPTIONS}, given.into)
        else:
            count = OPTIMISED if composer == "searle" else PICTURES
            made, _ = trainer.train(vectors[:count], {"pictures": count}, given.into)
        for old in made.parent.iterdir():
            if old.stem != made.stem:  # belongs to an earlier CLIP
                old.unlink()
        report(f"{composer}: {made}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
