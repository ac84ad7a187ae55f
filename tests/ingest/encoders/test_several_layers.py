"""Several layers in one pass: each equals a run of its own, bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.chosen_options import chosen
from support.shell import Shell
from support.tiny_reference import CONDITIONS, Tiny

import cies
from indexes.errors import GalleryMismatch, UsageError
from ingest.encoders.base import Embeddings
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.methods.regional import RegionalEncoder
from ingest.encoders.options import EncoderOptions
from ingest.fill.vector_sources import vector_sources

LAYERS = [-1, 2, 0, 1]


def check_equal(found: Sequence[Embeddings], single: Sequence[Embeddings]) -> None:
    """Vectors, words and probabilities are the same to the last bit."""
    for one, alone in zip(found, single, strict=True):
        assert (one.vectors == alone.vectors).all()
        assert one.words == alone.words
        assert (one.word_probabilities == alone.word_probabilities).all()
    for one, other in pairwise(found):
        assert np.abs(one.vectors - other.vectors).max() > 1e-3


@pytest.mark.parametrize(
    ("tiny", "options"),
    [
        ("llava", {}),
        ("qwen2_5_vl", {"token": "mean"}),
        ("qwen2_5_vl", {"token": "-3"}),
        ("llava", {"token": "first_generated"}),
        ("llava", {"compat": "reference"}),
        ("gemma3", {}),
        ("mllama", {}),
        ("qwen3_5", {}),  # continued
        ("paligemma", {"token": "mean"}),  # plain
    ],
    indirect=["tiny"],
)
def test_layers_of_one_pass_are_those_of_single_passes(
    tiny: Tiny, options: dict[str, str], pictures: list[Image.Image]
) -> None:
    two = [pictures[0], pictures[2]]
    single = [chosen(tiny.encoder, layer=n, **options).embed(two, CONDITIONS) for n in LAYERS]
    encoder = chosen(tiny.encoder, **options)
    check_equal(encoder.embed_layers(two, CONDITIONS, LAYERS), single)
    # An encoder of another layer reads them as well.
    other = chosen(tiny.encoder, layer=1, **options)
    check_equal(other.embed_layers(two, CONDITIONS, LAYERS[:2]), single[:2])
    check_equal(other.embed_layers(two, CONDITIONS, [2, 1]), [single[1], single[3]])


def test_regional_layers(qwen: DiorEncoder, pictures: list[Image.Image]) -> None:
    def regional(layer: int) -> RegionalEncoder:
        return RegionalEncoder(qwen._source, qwen._loaded, options=EncoderOptions(layer=layer))

    single = [regional(layer).embed(pictures[:1], CONDITIONS[:2]) for layer in LAYERS]
    check_equal(regional(-1).embed_layers(pictures[:1], CONDITIONS[:2], LAYERS), single)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of layers of each forward pass over a whole prompt, in the order of the passes."""
    passes: list[int] = []
    real = DiorEncoder.embed_layers

    def embed_layers(
        self: DiorEncoder, images: Sequence[Image.Image], *given: object, **more: object
    ) -> list[Embeddings]:
        decoder = self.lvlm.model.get_decoder()
        hook = decoder.register_forward_pre_hook(
            lambda _, arguments, named: passes.append(len(decoder.layers)),
            with_kwargs=True,
        )
        try:
            return real(self, images, *given, **more)  # type: ignore[arg-type]
        finally:
            hook.remove()

    monkeypatch.setattr(DiorEncoder, "embed_layers", embed_layers)
    return passes


def test_an_ingest_by_several_layers(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    counted: list[int],
) -> None:
    shell, g = Shell(monkeypatch, capsys), tmp_path / "g"
    sources = sorted((world / "images").iterdir())[:6]
    conditions = ("-c", "color", "-c", "shape", "--no-words")
    ingest = ("ingest", *sources, "-g", g, *conditions, "--model", "tiny-lvlm")
    shell.done(*ingest, "--layer", -1, "--layer", -2, "--layer", 1)
    # Six pictures of one layout: one pass, through all layers, for three layers.
    count = counted[0]
    assert counted == [count]
    gallery = cies.create(g)
    assert [source.name for source in vector_sources(gallery)] == [
        "dior:tiny-lvlm",
        f"dior@{count - 1}:tiny-lvlm",
        "dior@1:tiny-lvlm",
    ]
    # Each is what a gallery of that layer alone has, to the last bit.
    for layer in (-1, -2, 1):
        alone = tmp_path / f"alone{layer}"
        name = "dior" if layer == -1 else f"dior@{layer}"
        arguments = [word if word != g else alone for word in ingest]
        shell.done(*arguments, "--layer", layer)
        for condition in ("color", "shape"):
            ours = cies.open(g, method=name, geometry="raw").vectors(condition)
            theirs = cies.open(alone, geometry="raw").vectors(condition)
            assert ours.keys == theirs.keys and (ours.vectors == theirs.vectors).all()
    # A method of its own wherever methods are named.
    found, _ = shell.done("search", sources[0], "-g", g, "-c", "color", "-m", "dior@1", "-q")
    assert len(found.split()) == 5
    fused, _ = shell.done(
        *("search", sources[0], "-g", g, "-c", "color", "-m", "dior", "-m", "dior@1", "-q")
    )
    assert len(fused.split()) == 5
    status, _ = shell.done("status", "-g", g)
    assert f"\tdior@{count - 1}\t" in status and "\tdior\t" in status
    labels = ("--labels", world / "labels.csv")
    figures = [shell.done("eval", g, *labels, "-m", m)[0] for m in ("dior", "dior@1")]
    assert figures[0] != figures[1]
    refused = shell.refused("search", sources[0], "-g", g, "-c", "color", "-m", "dior@0")
    assert f"dior:tiny-lvlm, dior@{count - 1}:tiny-lvlm, dior@1:tiny-lvlm" in refused


def test_a_gallery_of_several_layers_grows(world: Path, tmp_path: Path, counted: list[int]) -> None:
    sources = sorted((world / "images").iterdir())[:4]
    (tmp_path / "pictures").mkdir()
    for source in sources[:2]:
        shutil.copy(source, tmp_path / "pictures")
    ingest = cies.ingest
    first = [tmp_path / "pictures"]
    ingest(tmp_path / "g", first, ["color"], model="tiny-lvlm", layers=[-1, 1])
    # New pictures are embedded by all layers, in one pass.
    counted.clear()
    for source in sources[2:]:
        shutil.copy(source, tmp_path / "pictures")
    ingest(tmp_path / "g")
    assert len(counted) >= 1 and len(set(counted)) == 1
    gallery = cies.create(tmp_path / "g")
    assert [len(gallery.keys(table)) for table in gallery.conditions()] == [4, 4]
    # A further layer needs no other options; a further condition goes to the layers that are named.
    counted.clear()
    ingest(tmp_path / "g", layers=[-2, 1])
    assert set(counted) == {counted[0]} and counted[0] >= 1
    ingest(tmp_path / "g", [], ["shape"], layers=[-1, 1])
    ingest(tmp_path / "g", [], ["size"], options=EncoderOptions(layer=1))
    named = {source.name: len(source.tables) for source in vector_sources(gallery)}
    assert sorted(named.values()) == [1, 2, 3] and named["dior:tiny-lvlm"] == 2
    assert named["dior@1:tiny-lvlm"] == 3
    assert all(len(gallery.keys(table)) == 4 for table in gallery.conditions())
    # One layer alone is a choice of the encoder, which the gallery keeps.
    with pytest.raises(GalleryMismatch, match="was built with layer -1, not 0"):
        ingest(tmp_path / "g", options=EncoderOptions(layer=0))


def test_layers_that_cannot_be(world: Path, tmp_path: Path) -> None:
    sources = sorted((world / "images").iterdir())[:1]
    with pytest.raises(UsageError, match="--layer -1 and 2 does not apply to the method clip"):
        cies.ingest(tmp_path / "g", sources, ["color"], method="clip", layers=[-1, 2])
    with pytest.raises(UsageError, match=r"The model has \d+ layers, and --layer is 99"):
        cies.ingest(tmp_path / "g", sources, ["color"], model="tiny-lvlm", layers=[-1, 99])
