"""Measures families of models against transformers alone, and writes the table of all types.

``make families`` measures all tiny models and writes ``configs/families.json``, which ``cies
models`` prints, and the table of ``docs/models.md``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf
from PIL import Image
from support.tiny_families import build
from support.tiny_reference import furthest, inputs_of

from ingest.conditions import Condition
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice
from ingest.encoders.vlm.families import FAMILIES
from ingest.encoders.vlm.lvlm import MAX_WORD_TOKENS
from ingest.encoders.vlm.picture_processors import PICTURE_PROCESSORS
from ingest.encoders.vlm.words import find_word

TABLE = Path(__file__).parents[2] / "configs" / "families.json"
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"

#: Types that answer no question about a picture in a conversation.
OTHER_TASKS = {
    "blip": "captions pictures, without a conversation",
    "blip-2": "captions pictures, without a conversation",
    "diffusion_gemma": "writes its answer in no order, so no token comes before the others",
    "evolla": "reads proteins, not pictures",
    "florence2": "follows task marks, without a conversation",
    "fuyu": "has no chat template",
    "git": "captions pictures, without a conversation",
    "instructblip": "has an encoder of its own for questions, without a conversation",
    "instructblipvideo": "reads videos",
    "kosmos-2": "captions pictures, without a conversation",
    "kosmos-2.5": "reads documents, without a conversation",
    "mistral4": "reads no pictures",
    "pi0": "moves robots",
    "pix2struct": "reads documents, without a conversation",
    "pp_chart2table": "reads charts, without a conversation",
    "pp_formulanet": "reads formulas, without a conversation",
    "udop": "reads documents, without a conversation",
    "vision-encoder-decoder": "captions pictures, without a conversation",
}


@dataclass(frozen=True)
class Measured:
    """One tiny model against transformers alone.

    Attributes:
        name: of the tiny model.
        packed: whether all conditions shared a pass in fact: a packed family runs plain where its
            window is too short, or where the template writes the question before the picture.
        fp32: the largest difference to the vectors of the model's own forward.
        spread: how far the vectors of different pictures and conditions are apart.
        bf16: average distance in bf16 to fp32, of ours and of the model's own forward; ``None``
            if it was not measured.
        words: of ours.
        said: the first words of the model's own ``generate``, without an end if it has none.
        looks: how often the vision tower ran; 0 if it was not found.
    """

    name: str
    packed: bool
    fp32: float
    spread: float
    bf16: tuple[float, float] | None
    words: list[list[str]]
    said: list[list[str]]
    looks: int


def measure(
    name: str,
    folder: Path,
    pictures: Sequence[Image.Image],
    conditions: Sequence[Condition],
    bf16: bool = False,
) -> Measured:
    """Build a tiny model into a folder, and measure it."""
    build(name, folder)
    encoder = DiorEncoder.load(EncoderChoice("dior", str(folder), dtype="float32"))
    known = alone(encoder, pictures, conditions)
    looks: list[int] = []
    tower = _tower(encoder.lvlm.model)
    hook = tower and tower.register_forward_pre_hook(
        # Some towers see the pictures of a batch in one call.
        lambda module, given: looks.append(1)
    )
    encoder.runner.batch_size, size = 1, encoder.runner.batch_size
    shared = _count_shared_passes(encoder.lvlm)
    encoder.encode(pictures, conditions)
    packed = len(shared) == len(pictures)
    if hook:
        hook.remove()
    encoder.runner.batch_size = size
    reading = encoder.embed(pictures, conditions)
    distances = None
    if bf16:
        half = DiorEncoder.load(EncoderChoice("dior", str(folder), dtype="bfloat16"))
        ours = half.encode(pictures, conditions)
        theirs = alone(half, pictures, conditions)
        distances = (_distance(ours, known), _distance(theirs, known))
    return Measured(
        name,
        packed,
        furthest(reading.vectors, known),
        min(furthest(known[:1], known[1:]), furthest(known[:, :1], known[:, 1:])),
        distances,
        reading.words,
        [[_said(encoder, picture, condition) for condition in conditions] for picture in pictures],
        len(looks),
    )


def alone(
    encoder: DiorEncoder, pictures: Sequence[Image.Image], conditions: Sequence[Condition]
) -> np.ndarray:
    """Unit vectors [pictures, conditions, dim] by the model's own forward, one at a time."""
    model, rows = encoder.lvlm.model, []
    with torch.inference_mode():
        for picture in pictures:
            for condition in conditions:
                output = model(**inputs_of(encoder, picture, condition), output_hidden_states=True)
                rows.append(output.hidden_states[-1][0, -1].float().numpy())
    vectors = np.array(rows).reshape(len(pictures), len(conditions), -1)
    units: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return units


def _said(encoder: DiorEncoder, picture: Image.Image, condition: Condition) -> str:
    inputs = inputs_of(encoder, picture, condition)
    greedy = tf.GenerationConfig(do_sample=False, max_new_tokens=MAX_WORD_TOKENS)
    greedy.eos_token_id = encoder.lvlm.model.generation_config.eos_token_id
    greedy.pad_token_id = encoder.lvlm.tokenizer.pad_token_id
    length, tokenizer = inputs["input_ids"].shape[1], encoder.lvlm.tokenizer

    def ended_word(ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        # What follows a word that has ended does not change it.
        text = tokenizer.decode(ids[0, length:], skip_special_tokens=True)
        return torch.tensor([find_word(text).ends])

    whole = encoder.lvlm.model.generate(
        **inputs, generation_config=greedy, stopping_criteria=[ended_word]
    )[0]
    new = whole[length:]
    found = find_word(tokenizer.decode(new, skip_special_tokens=True))
    ended = found.ends or len(new) < MAX_WORD_TOKENS or int(new[-1]) in encoder.lvlm._stops
    return found.text if ended else f"{found.text}…"


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other, axis=-1).mean())


def _count_shared_passes(lvlm: Any) -> list[int]:
    """A list that grows by one with every shared pass of a model."""
    passes: list[int] = []

    def counting(real: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            passes.append(1)
            return real(*arguments, **options)

        return run

    for name in ("_packed", "_continued"):
        setattr(lvlm, name, counting(getattr(lvlm, name)))
    return passes


def _tower(model: Any) -> Any:
    inner = getattr(model, "model", model)
    names = ("visual", "vision_tower", "vision_model", "vpm")
    return next((getattr(inner, name) for name in names if hasattr(inner, name)), None)


# -- the table of all types --------------------------------------------------------------------


def registered() -> dict[str, str]:
    """All image-text-to-text types of the installed transformers, with their model classes."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return dict(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def untested_state(model_type: str) -> dict[str, str]:
    """State and reason of a type without a tiny model."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    if model_type in OTHER_TASKS:
        return {"state": "refused", "reason": f"It {OTHER_TASKS[model_type]}."}
    if _uses_timm(model_type):
        return {"state": "needs timm", "reason": "Its vision tower is in the library timm."}
    pictures = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type) or {}
    if pictures and "pil" not in pictures and model_type not in PICTURE_PROCESSORS:
        return {
            "state": "needs torchvision",
            "reason": "Its image processor needs torchvision: pip install 'cies[vision]'.",
        }
    if model_type not in PROCESSOR_MAPPING_NAMES:
        return {
            "state": "plain",
            "reason": "Not tested; its files must name the class of its processor.",
        }
    return {"state": "plain", "reason": "Not tested, so every condition gets a pass of its own."}


def _uses_timm(model_type: str) -> bool:
    try:
        config = tf.CONFIG_MAPPING[model_type]()
    except (TypeError, ValueError, AttributeError):  # a configuration without defaults
        return False
    vision = getattr(config, "vision_config", None)
    return getattr(vision, "model_type", "") == "timm_wrapper" or model_type == "gemma3n"


def all_entries(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The entries of the table, by type and name of the tiny model."""
    entries: list[dict[str, Any]] = []
    for one in measured:
        model_type = one.name.partition("-")[0]
        ours, theirs = chain.from_iterable(one.words), chain.from_iterable(one.said)
        words = [a == b for a, b in zip(ours, theirs, strict=True)]
        entries.append(
            {
                "type": model_type,
                "variant": one.name.partition("-")[2],
                "state": "packed" if one.packed else "plain",
                "reason": FAMILIES[model_type].reason,
                "fp32": float(f"{one.fp32:.1e}"),
                "bf16": None if one.bf16 is None else [float(f"{d:.2e}") for d in one.bf16],
                "words_equal": sum(words),
                "words": len(words),
            }
        )
    tested = {entry["type"] for entry in entries}
    for model_type in sorted(set(registered()) - tested):
        entries.append({"type": model_type, "variant": "", **untested_state(model_type)})
    return sorted(entries, key=lambda entry: (entry["type"], entry["variant"]))


def markdown(entries: Sequence[dict[str, Any]]) -> str:
    """The table of the page."""
    lines = [
        "| type | state | largest difference in fp32 | distance to fp32 in bf16, ours / "
        "transformers' | words equal |",
        "|---|---|---|---|---|",
    ]
    for entry in entries:
        if "fp32" not in entry:
            continue
        name = entry["type"] + (f", {entry['variant']}" if entry["variant"] else "")
        half = " / ".join(f"{d:.4f}" for d in entry["bf16"] or ())
        words = f"{entry['words_equal']} of {entry['words']}"
        fp32 = f"{entry['fp32']:.0e}"
        lines.append(f"| {name} | {entry['state']} | {fp32} | {half} | {words} |")
    others: dict[str, list[str]] = {}
    for entry in entries:
        if "fp32" not in entry:
            others.setdefault(entry["state"], []).append(entry["type"])
    lines.append("")
    lines += [f"- {state}: {', '.join(names)}." for state, names in sorted(others.items())]
    return "\n".join(lines)


def write(measured: Sequence[Measured]) -> None:
    """Write the table and the page."""
    entries = all_entries(measured)
    document = {"transformers": tf.__version__, "families": entries}
    TABLE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page = f"{before}{BEGIN}\n{markdown(entries)}\n{END}{after}"
    PAGE.write_text(page, encoding="utf-8")
