"""The projections against their formulas, step by step in float64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.vectors import unit
from ingest.encoders.projections import clay
from ingest.encoders.projections.base import PROJECTIONS, Projection, fit_projection

WORDS = ("red", "green", "blue")


def two_modalities(
    seed: int = 0, words: int = 12, pictures: int = 40, dim: int = 24
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Texts, and pictures that are separated from them and vary in more directions."""
    random = np.random.default_rng(seed)
    about, gap = random.normal(size=(3, dim)), random.normal(size=(2, dim)) * 3
    texts = gap[0] + random.normal(size=(words, 3)) @ about
    seen = gap[1] + random.normal(size=(pictures, 3)) @ about
    seen += 1.5 * random.normal(size=(pictures, dim))
    return unit(texts), unit(seen)


def log_of(v: NDArray[np.float64], m: NDArray[np.float64]) -> NDArray[np.float64]:
    angle = np.arccos(v @ m)
    result: NDArray[np.float64] = angle / np.sin(angle) * (v - np.cos(angle) * m)
    return result


def clay_step_by_step(
    texts: NDArray[np.float32], pictures: NDArray[np.float32], mean: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pictures and texts by the paper's description, one vector at a time."""
    t, v = texts.astype(np.float64), pictures.astype(np.float64)
    m = t.mean(0) / np.linalg.norm(t.mean(0))
    tangents = np.stack([log_of(one, m) for one in t])
    # Eigenvectors of the scatter in place of singular vectors.
    sizes, directions = np.linalg.eigh(tangents.T @ tangents)
    order = np.argsort(-sizes)
    sizes, directions = sizes[order], directions[:, order].T
    count = 1
    while sizes[:count].sum() < 0.95 * sizes.sum():
        count += 1
    b = directions[:count]
    where = mean.astype(np.float64) / np.linalg.norm(mean)
    h = (where - m) / np.linalg.norm(where - m)
    turned = np.stack([one - 2 * (one @ h) * h for one in v])
    assert np.allclose((where - 2 * (where @ h) * h), m)

    def compared(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        shown = np.stack([b @ log_of(one, m) for one in rows])
        result: NDArray[np.float64] = shown / np.linalg.norm(shown, axis=1, keepdims=True)
        return result

    return compared(turned), compared(t)


def test_crl_is_the_profile_over_the_words() -> None:
    texts = unit(np.array([[1, 0, 0], [0, 2, 0], [3, 0, 4]], dtype=np.float32))
    view = fit_projection("crl", WORDS, texts)
    # By hand: (0.6, 0.8, 0) . (1, 0, 0), (0, 1, 0), (0.6, 0, 0.8) = 0.6, 0.8, 0.36.
    profile = np.array([0.6, 0.8, 0.36])
    picture = np.array([[0.6, 0.8, 0.0]], dtype=np.float32)
    assert np.allclose(view.images(picture), profile / np.linalg.norm(profile), atol=1e-6)
    assert np.allclose(view.texts(picture), view.images(picture))
    # With an image mean, a text is moved by the difference of the means before its profile.
    mean = np.array([0.0, 0.1, 0.9], dtype=np.float32)
    moved = texts @ (picture[0] + mean - texts.mean(0))
    apart = fit_projection("crl", WORDS, texts, mean)
    assert np.allclose(apart.texts(picture), moved / np.linalg.norm(moved), atol=1e-6)
    assert np.array_equal(apart.images(picture), view.images(picture))


@pytest.mark.parametrize("seed", range(4))
def test_clay_is_its_description(seed: int) -> None:
    texts, pictures = two_modalities(seed)
    mean = pictures.mean(0)
    view = fit_projection("clay", [f"word {n}" for n in range(len(texts))], texts, mean)
    wanted, read = clay_step_by_step(texts, pictures, mean)
    found = view.images(pictures)
    assert found.shape == wanted.shape and found.dtype == np.float32
    assert np.abs(found @ found.T - wanted @ wanted.T).max() < 1e-5
    assert np.abs(view.texts(texts) @ found.T - read @ wanted.T).max() < 1e-5


def test_clay_keeps_what_the_words_vary_in() -> None:
    # Words on a circle about the third axis; pictures differ from them along the fourth.
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles), 2 + 0 * angles, 0 * angles], 1)
    view = fit_projection("clay", [str(n) for n in range(8)], unit(circle))
    assert view.dimension == 2
    noise = np.random.default_rng(0).normal(size=8)
    pictures = unit(circle + np.outer(noise, [0, 0, 0, 3]))
    assert np.allclose((view.images(pictures) * view.texts(unit(circle))).sum(1), 1, atol=1e-6)
    assert clay.basis(unit(circle), kept=1.0).shape == (2, 4)


@pytest.mark.parametrize("method", PROJECTIONS)
def test_views_serve_pictures_and_texts(method: str, tmp_path: Path) -> None:
    texts, pictures = two_modalities()
    words = [f"wörd {n}" for n in range(len(texts))]
    view = fit_projection(method, words, texts, pictures.mean(0))
    found = view.images(pictures)
    assert found.shape == (len(pictures), view.dimension)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    # One at a time, in half precision and many at once are the same.
    assert np.allclose(view.images(pictures[3:4])[0], found[3], atol=1e-6)
    assert np.allclose(view.images(pictures.astype(np.float16)), found, atol=0.02)
    many = view.images(np.tile(pictures, (500, 1)))
    assert np.allclose(many.reshape(500, len(pictures), -1), found, atol=1e-5)
    # The nearest word is that of the base vectors.
    said, sure = view.nearest_words(pictures)
    scores = 100 * pictures.astype(np.float64) @ texts.T
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert said == [words[n] for n in scores.argmax(1)]
    assert np.allclose(sure, chances.max(1), atol=1e-4)
    # Stored and loaded.
    kept = view.to_npz(tmp_path / "view.npz")
    for again in (Projection.from_npz(kept), Projection.from_npz(tmp_path / "view.npz")):
        assert (again.method, again.words) == (method, tuple(words))
        assert np.array_equal(again.images(pictures), found)
        assert np.array_equal(again.texts(texts), view.texts(texts))


@pytest.mark.parametrize("method", PROJECTIONS)
def test_a_picture_without_a_direction_is_not_lost(method: str) -> None:
    texts, pictures = two_modalities()
    view = fit_projection(method, [str(n) for n in range(len(texts))], texts, pictures[0])
    alone = view.images(np.concatenate([pictures[:1], np.zeros_like(pictures[:1])]))
    assert np.allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)


def test_what_is_no_view_is_refused() -> None:
    texts = unit(np.eye(3, dtype=np.float32))
    with pytest.raises(UsageError, match="There is no view 'dior'; choose one of indirect, crl"):
        fit_projection("dior", WORDS, texts)
    with pytest.raises(UsageError, match="at least two different words"):
        fit_projection("clay", ["red", "red"], texts[[0, 0]])
    with pytest.raises(ValueError, match="3 numbers"):
        fit_projection("crl", WORDS, texts).images(np.ones((2, 4), dtype=np.float32))
    kept = fit_projection("crl", WORDS, texts).to_npz()
    for damaged in (b"", b"no archive", kept[: len(kept) // 2]):
        with pytest.raises(ValueError):
            Projection.from_npz(damaged)


def test_views_need_no_torch() -> None:
    code = (
        "import numpy as np, sys\n"
        "from ingest.encoders.projections.base import PROJECTIONS, fit_projection\n"
        "for name in PROJECTIONS:\n"
        "    fit_projection(name, 'abc', np.eye(3), np.ones(3)).images(np.eye(3))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
