"""Speed of conditional embedding: one pass per pair, a key-value cache, and one packed pass.

*Reference* is what the published code does: one forward pass for every picture and condition, with
all hidden states kept. *Cached* is its key-value mode: the first condition in full, each other
condition on a copy of the cache cut to the shared prefix. *Ours* packs all conditions into one
pass. The time to prepare pictures and positions is left out of all three, which favours the first
two.
"""

from __future__ import annotations

import math
import platform
import resource
import statistics
import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from ingest.conditions import Condition
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.vlm.packing import shared_prefix
from ingest.encoders.vlm.processors import Prepared, PromptWriter

#: Sixteen conditions of different lengths, as a user might type them.
CONDITIONS = (
    "color",
    "shape",
    "pattern",
    "fabric",
    "movie genre",
    "mood",
    "kind of place",
    "time of day",
    "weather",
    "number of people",
    "artistic style",
    "season of the year",
    "clothing category",
    "bird species",
    "material",
    "camera angle",
)

EmbeddingWay = Callable[["_EmbeddingJob"], torch.Tensor]


@dataclass(frozen=True)
class _EmbeddingJob:
    """Prepared pictures of one size, with their prompts."""

    encoder: DiorEncoder
    pictures: Sequence[Prepared]

    @property
    def model(self) -> Any:
        return self.encoder.lvlm.model

    def inputs(self, picture: Prepared, prompt: Sequence[int]) -> dict[str, torch.Tensor]:
        """Arguments of a plain forward pass; the model computes the positions."""
        ids = torch.tensor([list(prompt)], device=self.model.device)
        features = self.features([picture])
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            **self.encoder.lvlm.inputs.for_prompts(ids, features),
            **features,
        }

    def features(self, pictures: Sequence[Prepared]) -> dict[str, torch.Tensor]:
        """The pictures' tensors, joined, on the model's device."""
        joined = {
            name: torch.cat([picture.features[name] for picture in pictures])
            for name in pictures[0].features
        }
        return {
            name: value.to(self.model.device, self.model.dtype)
            if value.is_floating_point()
            else value.to(self.model.device)
            for name, value in joined.items()
        }


def reference(job: _EmbeddingJob) -> torch.Tensor:
    """Make one forward pass for each pair: float32 [pictures, conditions, dim]."""
    rows = []
    for picture in job.pictures:
        row = []
        for prompt in picture.prompts:
            output = job.model(**job.inputs(picture, prompt), output_hidden_states=True)
            row.append(output.hidden_states[-1][0, -1].float())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def cached(job: _EmbeddingJob) -> torch.Tensor:
    """Run the first condition in full, the others on the cut cache: float32 as above."""
    from transformers import DynamicCache

    rows = []
    for picture in job.pictures:
        prefix = shared_prefix(picture.prompts)
        features = job.features([picture])
        row, whole = [], None
        for prompt in picture.prompts:
            if whole is None:
                output = job.model(
                    **job.inputs(picture, prompt), use_cache=True, output_hidden_states=True
                )
                whole = output.past_key_values
            else:
                cut = DynamicCache(config=job.model.config.get_text_config())
                for number, layer in enumerate(whole.layers):
                    keys, values = layer.keys[:, :, :prefix], layer.values[:, :, :prefix]
                    cut.update(keys.clone(), values.clone(), number)
                positions = job.encoder.lvlm.inputs.positions(prompt, features)[..., prefix:]
                tail = torch.tensor([list(prompt[prefix:])], device=job.model.device)
                output = job.model(
                    input_ids=tail,
                    attention_mask=torch.ones(1, len(prompt), device=tail.device),
                    position_ids=positions.to(tail.device)[..., None, :],
                    past_key_values=cut,
                    use_cache=True,
                    output_hidden_states=True,
                )
            row.append(output.hidden_states[-1][0, -1].float())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def ours(job: _EmbeddingJob) -> torch.Tensor:
    """Run all pictures and conditions in one packed pass: float32 as above."""
    return job.encoder.lvlm.last_states(
        job.features(job.pictures), job.pictures[0].prompts, len(job.pictures), words=False
    ).states


WAYS: Mapping[str, EmbeddingWay] = {"reference": reference, "cached": cached, "ours": ours}


@dataclass(frozen=True)
class EmbeddingSpeed:
    """One way at one number of conditions.

    Attributes:
        way: ``reference``, ``cached`` or ``ours``.
        conditions: how many.
        images_per_second: pictures under all conditions, from the median of the rounds.
        over_reference: speed relative to the reference in the same rounds.
        over_cached: speed relative to the cached way.
        gigaflops: counted work for one picture under all conditions.
        flop_ratio: the reference's counted work over this way's.
        share_of_ceiling: the least possible work (:func:`least_flops`) over the counted work.
        vision_passes: runs of the vision tower for each picture.
        worst_cosine: lowest cosine of this way's vectors with the reference's.
        teraflops_per_second: counted work over measured time.
        share_of_peak: the share of the speed of plain matrix products of this dtype on the device.
    """

    way: str
    conditions: int
    images_per_second: float
    over_reference: float
    over_cached: float
    gigaflops: float
    flop_ratio: float
    share_of_ceiling: float
    vision_passes: float
    worst_cosine: float
    teraflops_per_second: float
    share_of_peak: float


def bench_embed(
    encoder: DiorEncoder,
    images: Sequence[Image.Image],
    counts: Sequence[int],
    rounds: int,
    progress: Callable[[str], None] = lambda line: None,
) -> list[EmbeddingSpeed]:
    """Measure all ways in turn at several numbers of conditions, so that all see the same noise.

    Args:
        encoder: with a model of a family that can be packed.
        images: RGB, all of one size.
        counts: numbers of conditions, each up to 16.
        rounds: runs of each way; medians are reported.
        progress: called with the name of each step.
    """
    lines = []
    progress("matrix products alone")
    peak = matmul_peak(encoder.lvlm.model)
    for count in counts:
        chosen = [Condition.parse(name) for name in CONDITIONS[:count]]
        job = _EmbeddingJob(encoder, [_prepare(encoder, image, chosen) for image in images])
        with torch.inference_mode():
            lines += _measure(job, count, rounds, peak, progress)
    return lines


def _prepare(encoder: DiorEncoder, image: Image.Image, chosen: Sequence[Condition]) -> Prepared:
    texts = [encoder.template.text(condition) for condition in chosen]
    return PromptWriter(encoder.processor, texts).prepare(image)


def _measure(
    job: _EmbeddingJob, count: int, rounds: int, peak: float, progress: Callable[[str], None]
) -> list[EmbeddingSpeed]:
    one = _EmbeddingJob(job.encoder, job.pictures[:1])
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    flops, vision, vectors = {}, {}, {}
    for name, way in WAYS.items():
        progress(f"{count} conditions, {name}: counting")
        vision[name] = _vision_passes(one, way)
        with FlopCounterMode(display=False) as counter:
            vectors[name] = way(one).cpu().numpy()
        flops[name] = counter.get_total_flops()
    for number in range(rounds):
        for name, way in WAYS.items():
            progress(f"{count} conditions, {name}: round {number + 1} of {rounds}")
            _synchronize(job.model)
            started = time.perf_counter()
            way(job)
            _synchronize(job.model)
            seconds[name].append(time.perf_counter() - started)
    least = least_flops(one, flops["reference"])
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    reached = {name: flops[name] * len(job.pictures) / medians[name] / 1e12 for name in WAYS}
    return [
        EmbeddingSpeed(
            way=name,
            conditions=count,
            images_per_second=len(job.pictures) / medians[name],
            over_reference=medians["reference"] / medians[name],
            over_cached=medians["cached"] / medians[name],
            gigaflops=flops[name] / 1e9,
            flop_ratio=flops["reference"] / flops[name],
            share_of_ceiling=least / flops[name],
            vision_passes=vision[name],
            worst_cosine=_worst_cosine(vectors[name], vectors["reference"]),
            teraflops_per_second=reached[name],
            share_of_peak=reached[name] / peak,
        )
        for name in WAYS
    ]


def _synchronize(model: Any) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def matmul_peak(model: Any) -> float:
    """TFLOP/s of square matrix products in the model's dtype on its device, the best of ten."""
    side = 8192 if model.device.type == "cuda" else 1536
    first, second = (torch.randn(side, side, device=model.device).to(model.dtype) for _ in range(2))
    best = math.inf
    for _ in range(10):
        _synchronize(model)
        started = time.perf_counter()
        torch.mm(first, second)
        _synchronize(model)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e12


def _worst_cosine(first: np.ndarray, second: np.ndarray) -> float:
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return float(((first * second).sum(-1) / norms).min())


def _vision_passes(job: _EmbeddingJob, way: EmbeddingWay) -> float:
    """Pictures that the vision tower processes to embed one picture."""
    seen = 0
    real = job.model.model.get_image_features

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        return real(*arguments, **options)

    job.model.model.get_image_features = counting
    try:
        way(job)
    finally:
        del job.model.model.get_image_features
    return float(seen)


def least_flops(job: _EmbeddingJob, reference_flops: float) -> float:
    """The least work to embed a picture under these conditions with this model.

    It counts the vision tower once; every layer but the last over all tokens, with the prefix once;
    of the last layer keys and values for all tokens, and the rest only for the last token of each
    prompt; attention over the pairs of tokens that attend to each other; no logits. The work
    outside the text model is the reference's count less the work of its text model and logits.

    Args:
        job: the job of one picture.
        reference_flops: counted for the reference on this picture.
    """
    prompts = job.pictures[0].prompts
    text = job.model.config.get_text_config()
    width, inner = text.hidden_size, text.intermediate_size
    head = getattr(text, "head_dim", None) or width // text.num_attention_heads
    query, keys = head * text.num_attention_heads, head * text.num_key_value_heads
    layers = text.num_hidden_layers
    key_value = 2 * 2 * width * keys
    rest = 2 * 2 * width * query + 3 * 2 * width * inner
    pair = 2 * 2 * query
    prefix = shared_prefix(prompts)
    tails = [len(prompt) - prefix for prompt in prompts]

    # The reference runs all tokens of all prompts, and attention is counted over whole squares.
    per_token = key_value + rest
    whole = sum(
        layers * (per_token * len(prompt) + pair * len(prompt) ** 2)
        + 2 * width * text.vocab_size * len(prompt)
        for prompt in prompts
    )
    outside = (reference_flops - whole) / len(prompts)

    tokens = prefix + sum(tails)
    seen = prefix**2 + sum(tail * (prefix + tail) for tail in tails)
    seen_last = sum(prefix + tail for tail in tails)
    least = outside + (layers - 1) * (per_token * tokens + pair * seen)
    return float(least + key_value * tokens + rest * len(prompts) + pair * seen_last)


def environment(encoder: DiorEncoder) -> dict[str, Any]:
    """The model, the device and the versions that were measured."""
    import transformers

    model = encoder.lvlm.model
    device = model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "model": encoder.spec.model,
        "parameters_millions": round(sum(p.numel() for p in model.parameters()) / 1e6),
        "dtype": encoder.spec.settings["dtype"],
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
