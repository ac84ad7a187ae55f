"""Trains the built-in LVLM from random weights, on pictures rendered for the purpose.

Two terms. In the first only the vision tower learns, from plain classifiers over its patch
tokens: that costs a third of a full step, and form takes many pictures to be learned. In the
second the whole model learns to answer all conditions of a picture in one packed pass, which
gives several times the signal of one question a picture at the same price.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from eval.school.curriculum import (
    UNCONDITIONAL_FACTOR,
    WORDINGS,
    Pictures,
    draw_pictures,
)
from eval.school.model import IMAGE_SIZE, PATCH_SIZE, make_model, make_processor
from eval.world.factors import FACTORS
from ingest.conditions import Condition, PromptTemplate, prompt_templates
from ingest.encoders.packing import pack, packed_positions

Report = Callable[[str], None]

_NAMES = list(FACTORS)


@dataclass(frozen=True)
class Plan:
    """How long and how hard to school.

    Attributes:
        pictures: how many pictures are rendered once and shown again and again.
        seed: of the pictures, the weights and the order.
        vision_steps: steps of the first term, 64 pictures each.
        joint_steps: steps of the second term, 48 pictures each.
        matrix_rate: learning rate of Muon, for the weight matrices.
        other_rate: learning rate of AdamW, for everything else.
        workers: processes that render.
    """

    pictures: int = 70_000
    seed: int = 1
    vision_steps: int = 8_000
    joint_steps: int = 3_200
    matrix_rate: float = 4e-3
    other_rate: float = 1e-3
    workers: int = 2


class _Optimizer:
    """Muon for weight matrices, AdamW for the rest; warm-up, then cosine to a fiftieth."""

    def __init__(self, module: nn.Module, steps: int, plan: Plan):
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in module.named_parameters():
            inner = parameter.ndim == 2 and "embed" not in name and "heads" not in name
            (matrices if inner else others).append(parameter)
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [
            (
                torch.optim.Muon(
                    matrices,
                    lr=plan.matrix_rate,
                    weight_decay=0.05,
                    adjust_lr_fn="match_rms_adamw",
                ),
                plan.matrix_rate,
            ),
            (
                torch.optim.AdamW(others, lr=plan.other_rate, weight_decay=0.05, betas=(0.9, 0.98)),
                plan.other_rate,
            ),
        ]
        self._parameters = [*matrices, *others]
        self._steps = steps

    def step(self, loss: torch.Tensor, number: int) -> None:
        """One step down ``loss``; ``number`` counts from 0."""
        share = number / self._steps
        scale = min(1.0, (number + 1) / 100) * (0.49 * (1 + math.cos(math.pi * share)) + 0.02)
        for part, rate in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * scale
            part.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for part, _ in self._parts:
            part.step()

    def state(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part, _ in self._parts]

    def load(self, states: list[dict[str, Any]]) -> None:
        for (part, _), state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


class _Heads(nn.Module):
    """One classifier a factor over the mean and the maximum of the patch tokens."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, len(FACTORS[name])))
            for name in _NAMES
        )

    def loss(self, tokens: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over factors.

        Args:
            tokens: [batch, patches, width].
            answers: int64 [batch, factors].
        """
        wide = tokens.float()
        pooled = torch.cat([wide.mean(1), wide.amax(1)], dim=1)
        losses = [
            functional.cross_entropy(head(pooled), answers[:, column])
            for column, head in enumerate(self.heads)
        ]
        return torch.stack(losses).mean()


class School:
    """Trains one model, remembering after every few hundred steps where it was."""

    CHECKPOINT_STEPS = 500

    def __init__(self, plan: Plan, folder: Path, report: Report):
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.folder = folder
        self.report = report
        self.processor = make_processor()
        self.tokenizer = self.processor.tokenizer
        self.model = make_model(self.tokenizer)
        self.model.train()
        width = self.model.config.vision_config.hidden_size
        self.vision_heads, self.joint_heads = _Heads(width), _Heads(width)
        images = self.processor.image_processor
        self._mean = torch.tensor(images.image_mean).view(3, 1, 1)
        self._std = torch.tensor(images.image_std).view(3, 1, 1)
        self._answers = [
            torch.tensor(self.tokenizer.convert_tokens_to_ids(list(FACTORS[name])))
            for name in _NAMES
        ]

    # -- running ---------------------------------------------------------------------------

    def run(self) -> None:
        """Both terms; goes on where an earlier run of the same plan stopped."""
        plan = self.plan
        started = time.monotonic()
        pictures = draw_pictures(
            plan.pictures,
            plan.seed,
            IMAGE_SIZE,
            plan.workers,
            lambda done: self.report(f"rendered {done} of {plan.pictures}"),
        )
        self.report(f"rendering took {time.monotonic() - started:.0f} s")
        vision = nn.ModuleDict({"tower": self.model.model.vision_tower, "h": self.vision_heads})
        self._term("vision", vision, plan.vision_steps, 64, pictures, self._vision_loss)
        joint = nn.ModuleDict({"model": self.model, "h": self.joint_heads})
        self._term("joint", joint, plan.joint_steps, 48, pictures, self._joint_loss)

    def _term(
        self,
        name: str,
        module: nn.Module,
        steps: int,
        batch: int,
        pictures: Pictures,
        loss_of: Callable[[torch.Tensor, torch.Tensor, np.random.Generator], torch.Tensor],
    ) -> None:
        optimizer = _Optimizer(module, steps, self.plan)
        first = self._resume(name, module, optimizer)
        recent: list[float] = []
        started = time.monotonic()
        for number in range(first, steps):
            random = np.random.default_rng([self.plan.seed, len(name), number])
            chosen = random.integers(0, len(pictures.pixels), batch)
            pixels = pictures.pixels[chosen]
            if random.random() < 0.5:
                pixels = pixels[:, :, ::-1]
            loss = loss_of(
                self._normalise(pixels), torch.from_numpy(pictures.answers[chosen]), random
            )
            optimizer.step(loss, number)
            recent.append(loss.item())
            if (number + 1) % 200 == 0:
                rate = (number + 1 - first) * batch / (time.monotonic() - started)
                mean = np.mean(recent[-200:])
                self.report(f"{name} {number + 1}/{steps} loss {mean:.3f}, {rate:.0f} pictures/s")
            if (number + 1) % self.CHECKPOINT_STEPS == 0 or number + 1 == steps:
                self._remember(name, module, optimizer, number + 1)

    def _normalise(self, pixels: np.ndarray) -> torch.Tensor:
        scaled = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
        return ((scaled - self._mean) / self._std).contiguous()

    def _vision_loss(
        self, pixels: torch.Tensor, answers: torch.Tensor, random: np.random.Generator
    ) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tokens = self.model.model.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
        return self.vision_heads.loss(tokens, answers)

    def _joint_loss(
        self, pixels: torch.Tensor, answers: torch.Tensor, random: np.random.Generator
    ) -> torch.Tensor:
        templates = list(prompt_templates().values())
        template = templates[0]
        if random.random() < 0.15:
            template = templates[int(random.integers(len(templates)))]
        ids, mask, positions, asked, said = self._packed(template, random)
        batch = len(pixels)
        columns = [*range(len(_NAMES)), _NAMES.index(UNCONDITIONAL_FACTOR)]
        words = torch.stack([self._answers[c][answers[:, c]] for c in columns], dim=1)
        batch_ids = ids.expand(batch, -1).clone()
        batch_ids[:, said] = words
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = self.model.model.get_image_features(pixel_values=pixels).pooler_output
            tokens = torch.stack(list(features))
            embedded = self.model.get_input_embeddings()(batch_ids)
            places = (ids == self.model.config.image_token_id).nonzero()[:, 0]
            embedded = embedded.index_copy(1, places, tokens.to(embedded.dtype))
            states = self.model.model.language_model(
                inputs_embeds=embedded,
                attention_mask=mask,
                position_ids=positions.expand(batch, -1),
                use_cache=False,
            ).last_hidden_state
            ends = torch.cat([asked, said])
            logits = self.model.lm_head(states[:, ends]).float()
        count = len(columns)
        word_loss = functional.cross_entropy(logits[:, :count].flatten(0, 1), words.flatten())
        stop = torch.full((batch * count,), self.tokenizer.eos_token_id)
        stop_loss = functional.cross_entropy(logits[:, count:].flatten(0, 1), stop)
        return word_loss + 0.05 * stop_loss + 0.3 * self.joint_heads.loss(tokens, answers)

    def _packed(
        self, template: PromptTemplate, random: np.random.Generator
    ) -> tuple[torch.Tensor, ...]:
        """All questions about one picture: ids, mask, positions, last prompt and answer places."""
        prompts = []
        for name in [*_NAMES, ""]:
            wordings = WORDINGS.get(name, ("",))
            # The plain name is what most people type, so it is half of what is asked.
            plain = random.random() < 0.5
            wording = wordings[0 if plain else int(random.integers(len(wordings)))]
            prompts.append([*self._question(template, wording), self.tokenizer.pad_token_id])
        packed = pack(prompts)
        plain_positions = [torch.arange(len(prompt)) for prompt in prompts]
        blocked = torch.zeros(packed.mask.shape).masked_fill(~packed.mask, -1e9)
        return (
            packed.ids,
            blocked[None, None],
            packed_positions(packed, plain_positions),
            packed.last - 1,
            packed.last,
        )

    def _question(self, template: PromptTemplate, wording: str) -> list[int]:
        text = template.text(Condition(wording, wording))
        turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
        shown = self.processor.apply_chat_template(turn, add_generation_prompt=True)
        shown = shown.replace("<image>", "<image>" * (IMAGE_SIZE // PATCH_SIZE) ** 2)
        return list(self.tokenizer(shown, add_special_tokens=False)["input_ids"])

    # -- remembering -----------------------------------------------------------------------

    def _remember(self, name: str, module: nn.Module, optimizer: _Optimizer, step: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "plan": asdict(self.plan),
            "step": step,
            "weights": module.state_dict(),
            "optimizer": optimizer.state(),
        }
        partial = self.folder / f"{name}.partial"
        torch.save(state, partial)
        partial.replace(self.folder / f"{name}.checkpoint")

    def _resume(self, name: str, module: nn.Module, optimizer: _Optimizer) -> int:
        path = self.folder / f"{name}.checkpoint"
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True)
        if state["plan"] != asdict(self.plan):
            raise ValueError(
                f"{path} belongs to another plan; name another folder or remove the checkpoint"
            )
        module.load_state_dict(state["weights"])
        optimizer.load(state["optimizer"])
        self.report(f"{name} goes on at step {state['step']}")
        return int(state["step"])

    # -- leaving ---------------------------------------------------------------------------

    def graduate(self) -> Path:
        """Write the model in fp16, its processor, and what it was schooled in.

        Returns:
            The folder, which ``from_pretrained`` of plain transformers loads.
        """
        folder = self.folder / "model"
        self.model.eval()
        self.model.config._attn_implementation = "sdpa"
        self.model.half().save_pretrained(folder)
        self.processor.save_pretrained(folder)
        about = {
            "conditions": {name: list(wordings) for name, wordings in WORDINGS.items()},
            "plan": asdict(self.plan),
        }
        (folder / "cies.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        return folder
