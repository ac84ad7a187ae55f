"""Trains the networks of textual inversion, and resumes interrupted runs."""

from __future__ import annotations

import hashlib
import json
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
from indexes.files import replacing
from indexes.vectors import Vectors
from ingest.encoders.inversion.losses import InversionLoss, LincirLoss, Pic2WordLoss, SearleLoss
from ingest.encoders.inversion.networks import (
    NETWORKS,
    InversionNetwork,
    NetworkCard,
    make_network,
    published_width,
    save_network,
)
from ingest.encoders.inversion.oti import OtiPlan, invert
from ingest.encoders.inversion.palavra import PalavraLoss
from ingest.encoders.inversion.phrases import Phrases
from ingest.encoders.inversion.pseudo_words import PseudoWords

#: Fewest images or texts to train on.
MIN_EXAMPLES = 16

#: Called with the stage, finished steps, all steps, and the loss, NaN where there is none.
TrainingProgress = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class TrainingPlan:
    """Training parameters of a network.

    Attributes:
        steps: the number of steps of gradient descent.
        batch: examples in a step.
        rate: learning rate of AdamW; it rises over the first 20th and falls as half a cosine.
        decay: weight decay of AdamW.
        hidden: width of the network; as published if 0.
        oti_steps: the number of steps of the optimisation whose tokens are distilled into searle.
        oti_batch: images that are optimised at once, and then stored.
        seed: the seed of weights, order and random draws.
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
    """Trains one network; intermediate results are stored until the network is written."""

    CHECKPOINT_STEPS = 100

    def __init__(
        self,
        composer: str,
        words: PseudoWords,
        plan: TrainingPlan,
        folder: Path,
        progress: TrainingProgress = lambda stage, done, total, loss: None,
    ):
        """Choose what to train; :meth:`train` starts.

        Args:
            composer: a name of :data:`ingest.encoders.inversion.networks.NETWORKS`.
            words: the words of the CLIP it is trained for.
            plan: training parameters.
            folder: the folder of intermediate results; created if it does not exist.
            progress: called with the stage, finished steps, all steps, and the loss.

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
        self._progress = progress
        self.phrases = Phrases.of(words)

    def train(
        self, examples: Vectors | Sequence[str], about: dict[str, Any], into: Path | None = None
    ) -> tuple[Path, InversionNetwork]:
        """Train on images or, for ``lincir``, on texts, and write the network.

        Args:
            examples: float32 [images, dim], unit rows: base vectors; or texts.
            about: added to the network's description.
            into: the folder to write to, in place of the user's own.

        Returns:
            The file of its description, and the network.

        Raises:
            UsageError: if there are too few examples.
        """
        plan = self.plan
        dimension = self.words.dual.dimension
        card = NetworkCard(
            composer=self.composer,
            model=self.words.name,
            revision=self.words.revision,
            dimension=dimension,
            width=self.words.width,
            hidden=plan.hidden or published_width(self.composer, dimension),
            trained={**asdict(plan), **about},
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        run_id = self._run_id(card, examples)
        training_loss = self._training_loss(examples, run_id)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            module = make_network(card)
            self._descend(module, training_loss, run_id)
        path = save_network(module, card, into)
        for stored in self.folder.glob(f"{run_id}*"):
            stored.unlink()
        return path, InversionNetwork(card, module)

    # -- the examples --------------------------------------------------------------------------

    def _run_id(self, card: NetworkCard, examples: Vectors | Sequence[str]) -> str:
        """A digest of everything that determines the network; names the intermediate files."""
        digest = hashlib.sha256(json.dumps(asdict(card), sort_keys=True).encode())
        if isinstance(examples, np.ndarray):
            digest.update(np.ascontiguousarray(examples).tobytes())
        else:
            digest.update(json.dumps(list(examples)).encode())
        return digest.hexdigest()[:16]

    def _training_loss(self, examples: Vectors | Sequence[str], run_id: str) -> InversionLoss:
        what = "pictures" if isinstance(examples, np.ndarray) else "texts"
        if len(examples) < MIN_EXAMPLES:
            raise UsageError(
                f"A network of {self.composer} is trained on {MIN_EXAMPLES} {what} or more; these "
                f"are only {len(examples)}."
            )
        loss: InversionLoss
        if not isinstance(examples, np.ndarray):
            loss = LincirLoss(self.words, self.phrases, examples)
        elif self.composer == "pic2word":
            loss = Pic2WordLoss(self.words, self.phrases, examples)
        elif self.composer == "palavra":
            loss = PalavraLoss(self.words, self.phrases, examples)
        else:
            tokens = self._optimised_tokens(examples, run_id)
            loss = SearleLoss(self.words, self.phrases, examples, tokens, self.plan.seed)
        if loss.count < MIN_EXAMPLES:
            raise UsageError(
                f"Only {loss.count} of the {what} name something; give {MIN_EXAMPLES} or more that "
                "do."
            )
        return loss

    def _optimised_tokens(self, vectors: Vectors, run_id: str) -> NDArray[np.float32]:
        """The OTI tokens of all images, batch by batch; finished batches are stored."""
        batches = []
        size = self.plan.oti_batch
        plan = OtiPlan(steps=self.plan.oti_steps, seed=self.plan.seed)
        total = len(vectors) * plan.steps
        for start in range(0, len(vectors), size):
            batch = vectors[start : start + size]
            path = self.folder / f"{run_id}-tokens-{start}.npy"
            tokens = _stored_array(path)
            if tokens is None or tokens.shape != (len(batch), self.words.width):

                def progress(step: int, start: int = start, count: int = len(batch)) -> None:
                    done = start * plan.steps + count * step
                    self._progress("tokens", done, total, float("nan"))

                tokens = invert(self.words, self.phrases, batch, plan, progress).tokens
                with replacing(path) as temporary:
                    np.save(temporary, tokens)
            batches.append(tokens)
        return np.concatenate(batches)

    # -- gradient descent ----------------------------------------------------------------------

    def _descend(self, module: nn.Module, training_loss: InversionLoss, run_id: str) -> None:
        plan = self.plan
        optimizer = torch.optim.AdamW(module.parameters(), lr=plan.rate, weight_decay=plan.decay)
        path = self.folder / f"{run_id}-step"
        first = self._resume(module, optimizer, path)
        module.train()
        recent: list[float] = []
        size = min(plan.batch, training_loss.count)
        try:
            for step in range(first, plan.steps):
                random = np.random.default_rng([plan.seed, 3, step])
                torch.manual_seed(int(random.integers(2**62)))
                chosen = random.choice(training_loss.count, size, replace=False)
                for group in optimizer.param_groups:
                    group["lr"] = plan.rate * _rate_factor(step, plan.steps)
                loss = training_loss.loss(module, chosen, random)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                recent = [*recent[-49:], loss.item()]
                self._progress("network", step + 1, plan.steps, float(np.mean(recent)))
                if (step + 1) % self.CHECKPOINT_STEPS == 0:
                    self._checkpoint(module, optimizer, path, step + 1)
        finally:
            # If the loss raises, the weights are those of the step before.
            module.eval()

    def _checkpoint(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, path: Path, steps: int
    ) -> None:
        state = {"steps": steps, "network": module.state_dict(), "descent": optimizer.state_dict()}
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def _resume(self, module: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> int:
        """Load a checkpoint of the same run; returns its number of steps."""
        with suppress(OSError, RuntimeError, LookupError, EOFError, UnpicklingError, ValueError):
            state = torch.load(path, weights_only=True)
            module.load_state_dict(state["network"])
            optimizer.load_state_dict(state["descent"])
            return int(state["steps"])
        return 0


def _rate_factor(step: int, steps: int) -> float:
    """The factor of the learning rate: a linear rise over the first 20th, then half a cosine."""
    rise = max(1, steps // 20)
    return min(1.0, (step + 1) / rise) * 0.5 * (1 + cos(pi * step / steps))


def _stored_array(path: Path) -> NDArray[np.float32] | None:
    with suppress(OSError, ValueError, EOFError):
        array: NDArray[np.float32] = np.load(path)
        return array
    return None
