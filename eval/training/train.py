"""Trains the built-in models from random weights on rendered pictures.

There are two stages. In the first, the CLIP is trained to match captions with pictures, and
classifiers over its vision tower's patch tokens train the tower to recognise every factor: a step
costs a third of a step of the second stage, and shapes need many pictures. In the second, the LLaVA
starts with a copy of that tower and is trained to answer all questions about a picture in one
packed pass, to answer them about texts, and to give similar states to pictures with equal answers.
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

from eval.training.checkpoints import Checkpoints, TrainingConfig
from eval.training.curriculum import (
    DESCRIBE,
    DESCRIBE_CHANGED,
    UNCONDITIONAL_FACTOR,
    WORDINGS,
)
from eval.training.losses import (
    FactorClassifiers,
    Proxies,
    clip_loss,
    contrastive_loss,
    true_captions,
)
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
    UNKNOWN,
    VISIBLE_VALUES,
    digest_of,
    draw_pictures,
    shifted,
    training_scenes,
    with_bars,
)
from eval.training.questions import SENTENCE, PackedQuestions, QuestionPacker
from eval.world.captions import caption, change, describe, short_texts
from eval.world.factors import FACTORS
from ingest.conditions import prompt_templates

Report = Callable[[str], None]

_NAMES = list(FACTORS)

#: Share of the batches whose pictures are padded to a square.
_PADDED = 0.25


class TrainingRun:
    """One training of the built-in models, with a checkpoint every :data:`CHECKPOINT_STEPS`."""

    CHECKPOINT_STEPS = 250

    def __init__(self, config: TrainingConfig, folder: Path, report: Report):
        """Draw random weights.

        Args:
            config: the configuration of the run.
            folder: gets pictures, checkpoints and models.
            report: called with lines about the progress.
        """
        torch.manual_seed(config.seed)
        self.config = config
        self.folder = folder
        self.report = report
        self.device = torch.device(config.device)
        self.processor, self.clip_processor = make_processor(), make_clip_processor()
        self.tokenizer = self.processor.tokenizer
        self.packer = QuestionPacker(self.processor, (IMAGE_SIZE // PATCH_SIZE) ** 2)
        self.clip = make_clip(self.clip_processor.tokenizer).to(self.device)
        self.model = make_model(self.tokenizer).to(self.device)
        sizes = [VISIBLE_VALUES[name] for name in _NAMES]
        self.vision_heads = FactorClassifiers(WIDTH, sizes).to(self.device)
        self.joint_heads = FactorClassifiers(WIDTH, sizes).to(self.device)
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
        """Run both stages, resuming an earlier run of the same configuration.

        Raises:
            OtherTrainingError: if the folder's checkpoints are of another configuration or of
                other pictures.
            ModelError: if the installed torch has no Muon.
        """
        config = self.config
        scenes = training_scenes(config.pictures, config.seed)
        # Checked before anything in the folder is overwritten.
        checkpoints = Checkpoints(self.folder, config, digest_of(scenes, IMAGE_SIZE))
        started = time.monotonic()
        self.pictures = draw_pictures(
            config.pictures,
            config.seed,
            IMAGE_SIZE,
            config.workers,
            self.folder,
            lambda done: self.report(f"rendered {done} of {config.pictures}"),
        )
        self.report(f"the pictures took {time.monotonic() - started:.0f} s")
        vision = nn.ModuleDict({"clip": self.clip, "h": self.vision_heads})
        self._stage(checkpoints, "vision", vision, config.vision_steps, 96, self._vision_loss)
        joint = nn.ModuleDict({"model": self.model, "h": self.joint_heads, "p": self.proxies})
        if not checkpoints.has("joint"):
            self.model.model.vision_tower.load_state_dict(self.clip.vision_model.state_dict())
            self.joint_heads.load_state_dict(self.vision_heads.state_dict())
        self._stage(
            checkpoints, "joint", joint, config.joint_steps, 48, self._joint_loss, "vision_tower"
        )

    def _stage(
        self,
        checkpoints: Checkpoints,
        name: str,
        module: nn.Module,
        steps: int,
        batch: int,
        loss_of: Callable[[Any, torch.Tensor, np.random.Generator], torch.Tensor],
        pretrained: str = "",
    ) -> None:
        module.train()
        config = self.config
        optimizer = Optimizer(module, steps, config.matrix_rate, config.other_rate, pretrained)
        first = checkpoints.resume(name, module, optimizer, steps)
        if first:
            self.report(f"{name} resumes at step {first}")
        recent: list[float] = []
        started = time.monotonic()
        for number in range(first, steps):
            random = np.random.default_rng([config.seed, len(name), number])
            chosen = random.integers(0, len(self.pictures.pixels), batch)
            if number == decay_start(steps):
                checkpoints.save(name, module, optimizer, number, "level")
            loss = loss_of(chosen, self._pixels(chosen, random), random)
            optimizer.step(loss, number)
            recent.append(loss.item())
            if (number + 1) % 100 == 0:
                rate = (number + 1 - first) * batch / (time.monotonic() - started)
                mean = np.mean(recent[-100:])
                self.report(f"{name} {number + 1}/{steps} loss {mean:.3f}, {rate:.0f} pictures/s")
            if (number + 1) % self.CHECKPOINT_STEPS == 0 or number + 1 == steps:
                checkpoints.save(name, module, optimizer, number + 1, "checkpoint")

    def _pixels(self, chosen: Any, random: np.random.Generator) -> torch.Tensor:
        pixels = shifted(self.pictures.pixels[chosen], random)
        if random.random() < 0.5:
            pixels = pixels[:, :, ::-1]
        given = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        # In place: allocating memory for each operation would take as long as the operation.
        scaled = given.permute(0, 3, 1, 2).contiguous().float().mul_(self._scale).sub_(self._offset)
        if random.random() < _PADDED:
            scaled = with_bars(scaled, random.uniform(0.55, 0.95), bool(random.random() < 0.5))
        return scaled

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _seen(self, chosen: Any) -> torch.Tensor:
        """The visible value of each factor, named or not: int64 [batch, factors]."""
        return torch.from_numpy(self.pictures.seen[chosen]).to(self.device)

    # -- first stage -----------------------------------------------------------------------

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
        agreed = clip_loss(
            functional.normalize(images.float(), dim=-1),
            functional.normalize(written.float(), dim=-1),
            self.clip.logit_scale.clamp(max=4.6).exp(),
            true_captions(answers, named).to(self.device),
        )
        tokens = seen.last_hidden_state[:, 1:]
        return self.vision_heads.loss(tokens, self._seen(chosen)) + 0.25 * agreed

    # -- second stage ----------------------------------------------------------------------

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
        asked = self.packer.about_picture([*_NAMES, ""], template, random, sentence)
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
        compared = states[:, asked.asked]
        text_loss = torch.zeros((), device=self.device)
        if random.random() < 0.34:
            text_loss, compared, answers = self._text_loss(
                chosen, template, random, compared, answers
            )
        answer_loss = _word_loss(logits[:, :count], words)
        stop = torch.full_like(words, self.tokenizer.eos_token_id)
        return (
            answer_loss
            + 0.25 * contrastive_loss(compared, answers)
            + 0.5 * self.proxies.loss(compared, answers, columns)
            + 0.3 * self.joint_heads.loss(tokens, self._seen(chosen))
            + 0.3 * _word_loss(logits[:, 2 * count :], sentences)
            + 0.05 * _word_loss(logits[:, count : 2 * count], stop)
            + 0.5 * text_loss
        )

    def _text_loss(
        self,
        chosen: Any,
        template: Any,
        random: np.random.Generator,
        states: torch.Tensor,
        answers: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ask texts the questions that pictures are asked.

        Args:
            chosen: numbers of the pictures whose labels the texts name.
            template: the template of the questions.
            random: chooses texts and wordings.
            states: the states of the pictures, [batch, questions, width].
            answers: the answers of the pictures, int64 [batch, questions].

        Returns:
            The loss of the answered words, and the states and answers of pictures and texts,
            joined along the batch.
        """
        labels = [self.pictures.scenes[i].labels for i in chosen]
        texts, names = short_texts(labels, random)
        ids = self.tokenizer(texts, add_special_tokens=False, return_tensors="pt")["input_ids"]
        asked, places = self.packer.about_text(ids.shape[1], names, template, random)
        asked = asked.to(self.device)
        columns = [_NAMES.index(name) for name in names]
        words = self._answers(chosen, columns)
        filled = asked.ids.expand(len(chosen), -1).clone()
        filled[:, places.to(self.device)] = ids.to(self.device)
        filled[:, asked.said] = words.clamp(min=0)
        with self._autocast():
            of_texts = self._read(self.model.get_input_embeddings()(filled), asked)[:, asked.asked]
            logits = self.model.lm_head(of_texts).float()
        # A factor that the text does not name is unknown, and so is a value without a word.
        known = torch.full_like(answers, UNKNOWN)
        known[:, columns] = torch.where(words >= 0, answers[:, columns], UNKNOWN)
        whole = torch.zeros_like(states)
        whole[:, columns] = of_texts.to(states.dtype)
        loss = _word_loss(logits, words)
        return loss, torch.cat([states, whole]), torch.cat([answers, known])

    def _read(self, embedded: torch.Tensor, asked: PackedQuestions) -> torch.Tensor:
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

    # -- saving ----------------------------------------------------------------------------

    def save_models(self) -> Path:
        """Write the models in fp16, their processors, and the conditions they were trained on.

        Returns:
            The folder, which has ``tiny-lvlm`` and ``tiny-clip``; transformers' ``from_pretrained``
            loads them.
        """
        # New processors: a used tokenizer would save the settings of its last use.
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
            "texts": True,  # trained on texts in the place of pictures too
            "plan": asdict(self.config),
        }
        text = json.dumps(about, indent=2) + "\n"
        (self.folder / "models" / "tiny-lvlm" / "cies.json").write_text(text, encoding="utf-8")
        return self.folder / "models"


def _word_loss(logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of answers, without ``UNKNOWN``; logits [batch, places, vocabulary]."""
    return functional.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=UNKNOWN)
