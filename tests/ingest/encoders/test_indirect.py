"""InDiReCT against an independent computation, and the dual encoder against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.training.model import make_clip, make_clip_processor
from indexes.errors import ModelError
from indexes.vectors import unit
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.projections.indirect import COMPONENTS, PATIENCE, RATE, fit, initial_map


def independent_fit(texts: np.ndarray, components: int, seed: int) -> tuple[np.ndarray, float]:
    """The same descent in float64, gradient and Adam written out by hand."""
    u = initial_map(components, texts.shape[1], seed).astype(np.float64)
    x = texts.astype(np.float64)
    mean, square = np.zeros_like(u), np.zeros_like(u)
    best, kept, since, step = np.inf, u.copy(), 0, 0
    while since < PATIENCE:
        step += 1
        z = x @ u.T
        a = np.linalg.norm(z, axis=1, keepdims=True)
        v = z / a
        y = v @ u
        b = np.linalg.norm(y, axis=1, keepdims=True)
        rebuilt = y / b
        cosine = np.clip((x * rebuilt).sum(1, keepdims=True), -1 + 1e-7, 1 - 1e-7)
        loss = float(np.arccos(cosine).mean())
        if loss < best:
            best, kept, since = loss, u.copy(), 0
        else:
            since += 1
        to_cosine = -1 / np.sqrt(1 - cosine**2) / len(x)
        to_y = to_cosine * (x - cosine * rebuilt) / b
        to_v = to_y @ u.T
        to_z = (to_v - (to_v * v).sum(1, keepdims=True) * v) / a
        slope = v.T @ to_y + to_z.T @ x
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        u = u - RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return kept, best


def angle(texts: np.ndarray, mapping: np.ndarray) -> float:
    small = unit((texts @ mapping.T).astype(np.float32))
    rebuilt = unit((small @ mapping).astype(np.float32))
    return float(np.arccos(np.clip((texts * rebuilt).sum(1), -1, 1)).mean())


def test_fit_against_float64_by_hand() -> None:
    random = np.random.default_rng(0)
    # Texts that vary in 6 directions around a common part.
    basis, shared = random.normal(size=(6, 40)), random.normal(size=40)
    texts = unit((random.normal(size=(30, 6)) @ basis + 2 * shared).astype(np.float32))
    mapping = fit(texts, components=4, seed=3)
    reference, best = independent_fit(texts, 4, 3)
    # The two descents diverge by rounding, but their results agree.
    assert angle(texts, mapping) == pytest.approx(best, abs=0.01)
    near = unit(texts @ mapping.T) @ unit(texts @ mapping.T).T
    wanted = unit(texts @ reference.astype(np.float32).T)
    assert np.abs(near - wanted @ wanted.T).max() < 0.06
    assert np.array_equal(fit(texts, 4, seed=3), mapping)


def test_directions_no_text_varies_in_are_dropped() -> None:
    random = np.random.default_rng(1)
    inside = np.zeros((20, 32), dtype=np.float32)
    inside[:, :8] = random.normal(size=(20, 8))
    texts = unit(inside)
    mapping = fit(texts, components=8)
    noise = np.zeros((20, 32), dtype=np.float32)
    noise[:, 8:] = random.normal(size=(20, 24))
    moved = unit(unit(inside + 0.5 * noise) @ mapping.T)
    same = (unit(texts @ mapping.T) * moved).sum(1)
    plain = (texts * unit(inside + 0.5 * noise)).sum(1)
    # The variation of the texts is kept, and the rest has less weight than before.
    assert same.mean() > plain.mean()
    assert mapping.shape == (8, 32) and COMPONENTS == 128


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    processor = make_clip_processor()
    torch.manual_seed(0)
    make_clip(processor.tokenizer).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_dual_encoder_is_plain_transformers(clip_folder: Path) -> None:
    from transformers import AutoModel, AutoProcessor

    random = np.random.default_rng(2)
    pictures = [
        Image.fromarray(random.integers(0, 255, (40 + i, 60, 3), dtype=np.uint8)) for i in range(3)
    ]
    texts = ["red heart", "two small striped fish on a blue background", "x"]
    encoder = DualEncoder.load(str(clip_folder))
    model, processor = (kind.from_pretrained(clip_folder) for kind in (AutoModel, AutoProcessor))
    with torch.inference_mode():
        for text, vector in zip(texts, encoder.encode_texts(texts), strict=True):
            alone = model(
                **processor(text=[text], images=pictures[:1], return_tensors="pt")
            ).text_embeds
            assert np.allclose(vector, alone[0].numpy(), atol=1e-5)
        for picture, vector in zip(pictures, encoder.encode_images(pictures), strict=True):
            alone = model(
                **processor(text=["x"], images=[picture], return_tensors="pt")
            ).image_embeds
            assert np.allclose(vector, alone[0].numpy(), atol=1e-5)
    assert encoder.encode_texts([]).shape == (0, encoder.dimension) == (0, 256)


def test_a_model_without_texts_is_refused() -> None:
    with pytest.raises(ModelError, match="does not embed pictures and texts in one"):
        DualEncoder.load("tiny-lvlm")
