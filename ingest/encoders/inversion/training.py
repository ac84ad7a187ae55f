"""Trains the networks of textual inversion, and goes on where an earlier run was stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from indexes.errors import UsageError
from indexes.vectors import Vectors
from ingest.encoders.inversion.losses import Lesson, Lincir, Pic2Word, Searle
from ingest.encoders.inversion.networks import (
    NETWORKS,
    InversionNetwork,
    NetworkCard,
    make_network,
    published_width,
    save_network,
)
from ingest.encoders.inversion.oti import OtiPlan, invert
from ingest.encoders.inversion.palavra import Palavra
from ingest.encoders.inversion.phrases import Phrases
from ingest.encoders.inversion.pseudo_words import PseudoWords

#: Fewer pictures or texts teach nothing.
LEAST = 16

#: Told what is done: the stage, how much of it, its whole, and a loss, NaN where there is none.
Told = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class TrainingPlan:
    """How a network is trained.

    Attributes:
        steps: of gradient descent.
        batch: examples at each.
        rate: learning rate of AdamW; it rises over the first 20th and falls as half a cosine.
        decay: of AdamW.
        hidden: width of the network; as published if 0.
        oti_steps: of the optimisation that searle learns from.
        oti_batch: pictures that are optimised at once; they are kept when they are done.
        seed: of weights, order and draws.
    """

    steps: int = 3000
    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.01
    hidden: int = 0
    oti_steps: int = 350
    oti_batch: int = 256
    seed: int = 0


class Trainer:
    """Trains one network; all that a run has done is kept until the network is written."""

    CHECKPOINT_STEPS = 100

    def __init__(
        self,
        composer: str,
        words: PseudoWords,
        plan: TrainingPlan,
        folder: Path,
        told: Told = lambda stage, done, total, loss: None,
    ):
        """Train nothing yet.

        Args:
            composer: of :data:`ingest.encoders.inversion.networks.NETWORKS`.
            words: of the CLIP it is trained for.
            plan: how.
            folder: for what is kept while it goes on; made if need be.
            told: called with the stage, what is done of it, its whole, and the loss.

        Raises:
            UsageError: if there is no such network.
        """
        if composer not in NETWORKS:
            raise UsageError(
                f"There is no network of '{composer}' to train; choose one of "
                f"{', '.join(NETWORKS)}."
            )
        self.composer = composer
        self.words = words
        self.plan = plan
        self.folder = folder
        self._told = told
        self.phrases = Phrases.of(words)

    def train(
        self, examples: Vectors | Sequence[str], about: dict[str, Any], into: Path | None = None
    ) -> tuple[Path, InversionNetwork]:
        """Train on pictures or, for ``lincir``, on texts, and write the network.

        Args:
            examples: float32 [pictures, dim], unit rows: base vectors; or texts.
            about: what the network's description shall say of its data.
            into: a folder for it, in place of the user's own.

        Returns:
            Its description's file, and the network.

        Raises:
            UsageError: if there are too few examples.
        """
        plan = self.plan
        dimension = self.words.dual.dimension
        trained = {**asdict(plan), **about}
        hidden = plan.hidden or published_width(self.composer, dimension)
        card = NetworkCard(
            self.composer,
            self.words.name,
            self.words.revision,
            dimension,
            self.words.width,
            hidden,
            trained,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self._mark(card, examples)
        lesson = self._lesson(examples, mark)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            module = make_network(card)
            self._descend(module, lesson, mark)
        place = save_network(module, card, into)
        for kept in self.folder.glob(f"{mark}*"):
            kept.unlink()
        return place, InversionNetwork(card, module)

    # -- what it is trained on -----------------------------------------------------------------

    def _mark(self, card: NetworkCard, examples: Vectors | Sequence[str]) -> str:
        """A digest of all that decides the network, under which a run is kept."""
        whole = hashlib.sha256(json.dumps(asdict(card), sort_keys=True).encode())
        if isinstance(examples, np.ndarray):
            whole.update(np.ascontiguousarray(examples).tobytes())
        else:
            whole.update(json.dumps(list(examples)).encode())
        return whole.hexdigest()[:16]

    def _lesson(self, examples: Vectors | Sequence[str], mark: str) -> Lesson:
        what = "pictures" if isinstance(examples, np.ndarray) else "texts"
        if len(examples) < LEAST:
            raise UsageError(
                f"A network of {self.composer} is trained on {LEAST} {what} or more; these are "
                f"only {len(examples)}."
            )
        if not isinstance(examples, np.ndarray):
            lesson: Lesson = Lincir(self.words, self.phrases, examples)
        elif self.composer == "pic2word":
            lesson = Pic2Word(self.words, self.phrases, examples)
        elif self.composer == "palavra":
            lesson = Palavra(self.words, self.phrases, examples)
        else:
            tokens = self._optimised(examples, mark)
            lesson = Searle(self.words, self.phrases, examples, tokens, self.plan.seed)
        if lesson.count < LEAST:
            raise UsageError(
                f"Only {lesson.count} of the {what} name something; give {LEAST} or more that do."
            )
        return lesson

    def _optimised(self, vectors: Vectors, mark: str) -> NDArray[np.float32]:
        """The tokens of OTI for all pictures, batch by batch, each kept when it is done."""
        found = []
        size = self.plan.oti_batch
        plan = OtiPlan(steps=self.plan.oti_steps, seed=self.plan.seed)
        total = len(vectors) * plan.steps
        for start in range(0, len(vectors), size):
            part = vectors[start : start + size]
            place = self.folder / f"{mark}-tokens-{start}.npy"
            tokens = _kept(place)
            if tokens is None or tokens.shape != (len(part), self.words.width):

                def told(step: int, start: int = start, count: int = len(part)) -> None:
                    self._told("tokens", start * plan.steps + count * step, total, float("nan"))

                tokens = invert(self.words, self.phrases, part, plan, told).tokens
                fresh = place.with_suffix(f".{os.getpid()}")
                with fresh.open("wb") as file:
                    np.save(file, tokens)
                fresh.replace(place)
            found.append(tokens)
        return np.concatenate(found)

    # -- descent -------------------------------------------------------------------------------

    def _descend(self, module: nn.Module, lesson: Lesson, mark: str) -> None:
        plan = self.plan
        descent = torch.optim.AdamW(module.parameters(), lr=plan.rate, weight_decay=plan.decay)
        place = self.folder / f"{mark}-step"
        first = self._resume(module, descent, place)
        module.train()
        recent: list[float] = []
        size = min(plan.batch, lesson.count)
        step = first
        try:
            for step in range(first, plan.steps):
                random = np.random.default_rng([plan.seed, 3, step])
                torch.manual_seed(int(random.integers(2**62)))
                chosen = random.choice(lesson.count, size, replace=False)
                for group in descent.param_groups:
                    group["lr"] = plan.rate * _share(step, plan.steps)
                loss = lesson.loss(module, chosen, random)
                descent.zero_grad()
                torch.autograd.backward(loss)
                descent.step()
                recent = [*recent[-49:], loss.item()]
                self._told("network", step + 1, plan.steps, float(np.mean(recent)))
                if (step + 1) % self.CHECKPOINT_STEPS == 0:
                    self._remember(module, descent, place, step + 1)
        finally:
            # After a loss that failed half-way the weights are those of the step before.
            module.eval()

    def _remember(
        self, module: nn.Module, descent: torch.optim.Optimizer, place: Path, steps: int
    ) -> None:
        fresh = place.with_suffix(f".{os.getpid()}")
        state = {"steps": steps, "network": module.state_dict(), "descent": descent.state_dict()}
        torch.save(state, fresh)
        fresh.replace(place)

    def _resume(self, module: nn.Module, descent: torch.optim.Optimizer, place: Path) -> int:
        """Steps that an earlier run of the same plan on the same examples did."""
        with suppress(OSError, RuntimeError, LookupError, EOFError, UnpicklingError, ValueError):
            kept = torch.load(place, weights_only=True)
            module.load_state_dict(kept["network"])
            descent.load_state_dict(kept["descent"])
            return int(kept["steps"])
        return 0


def _share(step: int, steps: int) -> float:
    """Of the learning rate: a rise over the first 20th, then half a cosine."""
    rise = max(1, steps // 20)
    return min(1.0, (step + 1) / rise) * 0.5 * (1 + cos(pi * step / steps))


def _kept(place: Path) -> NDArray[np.float32] | None:
    with suppress(OSError, ValueError, EOFError):
        found: NDArray[np.float32] = np.load(place)
        return found
    return None
