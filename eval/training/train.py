"""Trains the built-in models from random weights, on pictures rendered for the purpose.

Two terms. In the first the CLIP learns which caption belongs to which picture, and its vision
tower, from plain classifiers over the patch tokens, to see every factor: that costs a third of a
full step, and form takes many pictures to be learned. In the second the LLaVA, which sees through
a copy of that tower, learns to answer all questions about a picture in one packed pass, to tell
texts likewise, and to keep together what is alike under a condition.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from eval.training.checkpoints import Checkpoints
from eval.training.curriculum import (
    DESCRIBE,
    DESCRIBE_CHANGED,
    UNCONDITIONAL_FACTOR,
    WORDINGS,
)
from eval.training.losses import Heads, Proxies, agreement, likeness, truths
from eval.training.model import (
    IMAGE_SIZE,
    PATCH_SIZE,
    TEXT_LENGTH,
    WIDTH,
    make_clip,
    make_clip_processor,
    make_model,
    make_processor,
)
from eval.training.optimizer import Optimizer, decay_start
from eval.training.pictures import (
    SEEN,
    UNKNOWN,
    barred,
    digest_of,
    draw_pictures,
    school_scenes,
    shifted,
)
from eval.training.plan import Plan
from eval.training.questions import SENTENCE, Examiner, Questions
from eval.world.captions import caption, change, describe, short_texts
from eval.world.factors import FACTORS
from ingest.conditions import prompt_templates

Report = Callable[[str], None]

_NAMES = list(FACTORS)

#: Share of the batches whose pictures are of another format than the square.
_BARRED = 0.25


class TrainingRun:
    """Trains the models, remembering after every few hundred steps where it was."""

    CHECKPOINT_STEPS = 250

    def __init__(self, plan: Plan, folder: Path, report: Report):
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.folder = folder
        self.report = report
        self.device = torch.device(plan.device)
        self.processor, self.clip_processor = make_processor(), make_clip_processor()
        self.tokenizer = self.processor.tokenizer
        self.examiner = Examiner(self.processor, (IMAGE_SIZE // PATCH_SIZE) ** 2)
        self.clip = make_clip(self.clip_processor.tokenizer).to(self.device)
        self.model = make_model(self.tokenizer).to(self.device)
        sizes = [SEEN[name] for name in _NAMES]
        self.vision_heads = Heads(WIDTH, sizes).to(self.device)
        self.joint_heads = Heads(WIDTH, sizes).to(self.device)
        self.proxies = Proxies(WIDTH, sizes).to(self.device)
        images = self.processor.image_processor
        mean = torch.tensor(images.image_mean, device=self.device).view(3, 1, 1)
        std = torch.tensor(images.image_std, device=self.device).view(3, 1, 1)
        self._scale, self._offset = 1 / (255 * std), mean / std
        self._words = [
            torch.tensor([*self.tokenizer.convert_tokens_to_ids(list(values)), UNKNOWN])
            for values in FACTORS.values()
        ]

    # -- running ---------------------------------------------------------------------------

    def run(self) -> None:
        """Both terms; goes on where an earlier run of the same plan stopped.

        Raises:
            OtherSchoolError: if the folder's checkpoints are of another plan or other pictures.
        """
        plan = self.plan
        scenes = school_scenes(plan.pictures, plan.seed)
        # Before anything in the folder is written over.
        checkpoints = Checkpoints(self.folder, plan, digest_of(scenes, IMAGE_SIZE))
        started = time.monotonic()
        self.pictures = draw_pictures(
            plan.pictures,
            plan.seed,
            IMAGE_SIZE,
            plan.workers,
            self.folder,
            lambda done: self.report(f"rendered {done} of {plan.pictures}"),
        )
        self.report(f"the pictures took {time.monotonic() - started:.0f} s")
        vision = nn.ModuleDict({"clip": self.clip, "h": self.vision_heads})
        self._term(checkpoints, "vision", vision, plan.vision_steps, 96, self._vision_loss)
        joint = nn.ModuleDict({"model": self.model, "h": self.joint_heads, "p": self.proxies})
        if not checkpoints.begun("joint"):
            self.model.model.vision_tower.load_state_dict(self.clip.vision_model.state_dict())
            self.joint_heads.load_state_dict(self.vision_heads.state_dict())
        self._term(
            checkpoints, "joint", joint, plan.joint_steps, 48, self._joint_loss, "vision_tower"
        )

    def _term(
        self,
        checkpoints: Checkpoints,
        name: str,
        module: nn.Module,
        steps: int,
        batch: int,
        loss_of: Callable[[Any, torch.Tensor, np.random.Generator], torch.Tensor],
        schooled: str = "",
    ) -> None:
        module.train()
        rates = self.plan.matrix_rate, self.plan.other_rate
        optimizer = Optimizer(module, steps, *rates, schooled)
        first = checkpoints.resume(name, module, optimizer, steps)
        if first:
            self.report(f"{name} goes on at step {first}")
        recent: list[float] = []
        started = time.monotonic()
        for number in range(first, steps):
            random = np.random.default_rng([self.plan.seed, len(name), number])
            chosen = random.integers(0, len(self.pictures.pixels), batch)
            if number == decay_start(steps):
                checkpoints.remember(name, module, optimizer, number, "level")
            loss = loss_of(chosen, self._pixels(chosen, random), random)
            optimizer.step(loss, number)
            recent.append(loss.item())
            if (number + 1) % 100 == 0:
                rate = (number + 1 - first) * batch / (time.monotonic() - started)
                mean = np.mean(recent[-100:])
                self.report(f"{name} {number + 1}/{steps} loss {mean:.3f}, {rate:.0f} pictures/s")
            if (number + 1) % self.CHECKPOINT_STEPS == 0 or number + 1 == steps:
                checkpoints.remember(name, module, optimizer, number + 1, "checkpoint")

    def _pixels(self, chosen: Any, random: np.random.Generator) -> torch.Tensor:
        pixels = shifted(self.pictures.pixels[chosen], random)
        if random.random() < 0.5:
            pixels = pixels[:, :, ::-1]
        given = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        # In place: fresh memory for each step of the sum would take as long as the sum.
        scaled = given.permute(0, 3, 1, 2).contiguous().float().mul_(self._scale).sub_(self._offset)
        if random.random() < _BARRED:
            scaled = barred(scaled, random.uniform(0.55, 0.95), bool(random.random() < 0.5))
        return scaled

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _seen(self, chosen: Any) -> torch.Tensor:
        """What is seen of each factor, with a word or without: int64 [batch, factors]."""
        return torch.from_numpy(self.pictures.seen[chosen]).to(self.device)

    # -- first term ------------------------------------------------------------------------

    def _vision_loss(
        self, chosen: Any, pixels: torch.Tensor, random: np.random.Generator
    ) -> torch.Tensor:
        said = [caption(self.pictures.scenes[i].labels, random) for i in chosen]
        texts = self.clip_processor.tokenizer(
            [each.text for each in said],
            padding=True,
            truncation=True,
            max_length=TEXT_LENGTH,
            return_tensors="pt",
        ).to(self.device)
        named = torch.tensor([[name in each.named for name in _NAMES] for each in said])
        with self._autocast():
            seen = self.clip.vision_model(pixel_values=pixels)
            read = self.clip.text_model(**texts)
            images = self.clip.visual_projection(seen.pooler_output)
            written = self.clip.text_projection(read.pooler_output)
        answers = torch.from_numpy(self.pictures.answers[chosen])
        agreed = agreement(
            functional.normalize(images.float(), dim=-1),
            functional.normalize(written.float(), dim=-1),
            self.clip.logit_scale.clamp(max=4.6).exp(),
            truths(answers, named).to(self.device),
        )
        tokens = seen.last_hidden_state[:, 1:]
        return self.vision_heads.loss(tokens, self._seen(chosen)) + 0.25 * agreed

    # -- second term -----------------------------------------------------------------------

    def _joint_loss(
        self, chosen: Any, pixels: torch.Tensor, random: np.random.Generator
    ) -> torch.Tensor:
        templates = list(prompt_templates().values())
        template = templates[0]
        if random.random() < 0.2:
            template = templates[int(random.integers(len(templates)))]
        labels = [self.pictures.scenes[i].labels for i in chosen]
        if random.random() < 0.5:
            sentence = DESCRIBE
        else:
            factor = _NAMES[int(random.integers(len(_NAMES)))]
            wanted = change(factor, str(random.choice(FACTORS[factor])), random)
            sentence = DESCRIBE_CHANGED.format(change=wanted.text)
            labels = [wanted.applied(each) for each in labels]
        asked = self.examiner.about_picture([*_NAMES, ""], template, random, sentence)
        asked = asked.to(self.device)
        columns = [*range(len(_NAMES)), _NAMES.index(UNCONDITIONAL_FACTOR)]
        words = self._answers(chosen, columns)
        sentences = self._sentences(labels)
        ids = asked.ids.expand(len(chosen), -1).clone()
        ids[:, asked.said] = words.clamp(min=0)
        ids[:, asked.sentence[1:]] = sentences
        with self._autocast():
            features = self.model.model.get_image_features(pixel_values=pixels).pooler_output
            tokens = torch.stack(list(features))
            embedded = self.model.get_input_embeddings()(ids)
            places = (asked.ids == self.model.config.image_token_id).nonzero()[:, 0]
            embedded = embedded.index_copy(1, places, tokens.to(embedded.dtype))
            states = self._read(embedded, asked)
            ends = torch.cat([asked.asked, asked.said, asked.sentence[:-1]])
            logits = self.model.lm_head(states[:, ends]).float()
        count = len(columns)
        answers = self._seen(chosen)[:, columns]
        held = states[:, asked.asked]
        text_loss = torch.zeros((), device=self.device)
        if random.random() < 0.34:
            text_loss, held, answers = self._text_loss(chosen, template, random, held, answers)
        word_loss = _said(logits[:, :count], words)
        stop = torch.full_like(words, self.tokenizer.eos_token_id)
        return (
            word_loss
            + 0.25 * likeness(held, answers)
            + 0.5 * self.proxies.loss(held, answers, columns)
            + 0.3 * self.joint_heads.loss(tokens, self._seen(chosen))
            + 0.3 * _said(logits[:, 2 * count :], sentences)
            + 0.05 * _said(logits[:, count : 2 * count], stop)
            + 0.5 * text_loss
        )

    def _text_loss(
        self,
        chosen: Any,
        template: Any,
        random: np.random.Generator,
        held: torch.Tensor,
        answers: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ask a text what a picture is asked: the words it gives, and states beside a picture's.

        Returns:
            The loss of the words, and the states and answers of pictures and texts together.
        """
        labels = [self.pictures.scenes[i].labels for i in chosen]
        texts, names = short_texts(labels, random)
        ids = self.tokenizer(texts, add_special_tokens=False, return_tensors="pt")["input_ids"]
        asked, places = self.examiner.about_text(ids.shape[1], names, template, random)
        asked = asked.to(self.device)
        columns = [_NAMES.index(name) for name in names]
        words = self._answers(chosen, columns)
        filled = asked.ids.expand(len(chosen), -1).clone()
        filled[:, places.to(self.device)] = ids.to(self.device)
        filled[:, asked.said] = words.clamp(min=0)
        with self._autocast():
            states = self._read(self.model.get_input_embeddings()(filled), asked)
            logits = self.model.lm_head(states[:, asked.asked]).float()
        # What a text does not tell is unknown of it; a nameless form is not told apart by text.
        known = torch.full_like(answers, UNKNOWN)
        known[:, columns] = torch.where(words >= 0, answers[:, columns], UNKNOWN)
        whole = torch.zeros_like(held)
        whole[:, columns] = states[:, asked.asked].to(held.dtype)
        return _said(logits, words), torch.cat([held, whole]), torch.cat([answers, known])

    def _read(self, embedded: torch.Tensor, asked: Questions) -> torch.Tensor:
        states: torch.Tensor = self.model.model.language_model(
            inputs_embeds=embedded,
            attention_mask=asked.mask,
            position_ids=asked.positions.expand(len(embedded), -1),
            use_cache=False,
        ).last_hidden_state
        return states

    def _answers(self, chosen: Any, columns: list[int]) -> torch.Tensor:
        answers = torch.from_numpy(self.pictures.answers[chosen])
        words = [self._words[column][answers[:, column]] for column in columns]
        return torch.stack(words, dim=1).to(self.device)

    def _sentences(self, labels: list[Any]) -> torch.Tensor:
        ids = self.tokenizer([describe(each) for each in labels], add_special_tokens=False)
        ends = [[*each, self.tokenizer.eos_token_id] for each in ids["input_ids"]]
        if {len(each) for each in ends} != {SENTENCE}:
            raise ValueError(f"descriptions must have {SENTENCE} tokens with their end")
        return torch.tensor(ends).to(self.device)

    # -- leaving ---------------------------------------------------------------------------

    def graduate(self) -> Path:
        """Write the models in fp16, their processors, and what they were schooled in.

        Returns:
            The folder, with ``tiny-lvlm`` and ``tiny-clip`` in it, which ``from_pretrained`` of
            plain transformers loads.
        """
        # New processors: a used tokenizer would write down how it was last used.
        for name, model, processor in (
            ("tiny-lvlm", self.model, make_processor()),
            ("tiny-clip", self.clip, make_clip_processor()),
        ):
            folder = self.folder / "models" / name
            model.eval()
            model.config._attn_implementation = "sdpa"
            model.half().save_pretrained(folder)
            processor.save_pretrained(folder)
        about = {
            "conditions": {name: list(wordings) for name, wordings in WORDINGS.items()},
            "texts": True,  # it read texts in the place of pictures too
            "plan": asdict(self.plan),
        }
        text = json.dumps(about, indent=2) + "\n"
        (self.folder / "models" / "tiny-lvlm" / "cies.json").write_text(text, encoding="utf-8")
        return self.folder / "models"


def _said(logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of answers, ``UNKNOWN`` left out; logits [batch, places, vocabulary]."""
    return functional.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=UNKNOWN)
