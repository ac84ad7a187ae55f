"""Networks of textual inversion in the layouts that their authors publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cies
from cies.cli.app import app
from indexes.errors import ModelError, UsageError
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.inversion import networks
from ingest.encoders.inversion.encoder import Inversion
from query.composers.base import ComposerContext, ComposerInput
from query.composers.factory import compose
from query.composers.modification import Modification

HIDDEN = 24


class Phi(nn.Module):
    """SEARLE and LinCIR: three layers under one name, of features as they come."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, HIDDEN),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, outputs),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(features)
        return result


class ImageToText(nn.Module):
    """Pic2Word: two blocks and an output layer."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.fc_out = nn.Linear(HIDDEN, outputs)
        sizes = [inputs, HIDDEN]
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(n, HIDDEN), nn.Dropout(0.1), nn.ReLU()) for n in sizes)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc_out(self.layers(features))
        return result


class SetMap(nn.Module):
    """A layer over sets of PALAVRA."""

    def __init__(self, inputs: int):
        super().__init__()
        self.Gamma = nn.Linear(inputs, HIDDEN)
        self.Lambda = nn.Linear(inputs, HIDDEN, bias=False)

    def forward(self, sets: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.Gamma(sets) - self.Lambda(sets.mean(1, keepdim=True))
        return result


class SetNetwork(nn.Module):
    """PALAVRA: three layers over sets, their mean, and a head of two layers."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        sizes = [inputs, HIDDEN, HIDDEN]
        self.phi = nn.Sequential(*(part for n in sizes for part in (SetMap(n), nn.ELU())))
        self.ro = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ELU(),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, outputs),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.ro(self.phi(features[:, None]).mean(1))
        return result


#: Composer to its published class, how its checkpoint holds the weights, and the length of input.
LAYOUTS: dict[str, tuple[type[nn.Module], Any, float]] = {
    "searle": (Phi, lambda state: {"epoch": 100, "Phi": state}, 9.5),
    "lincir": (Phi, lambda state: {"Phi": state}, 9.5),
    "pic2word": (
        ImageToText,
        lambda state: {
            "epoch": 30,
            "name": "run",
            "state_dict": {"module.logit_scale": torch.ones(())},
            "state_dict_img2text": {f"module.{name}": value for name, value in state.items()},
        },
        9.5,
    ),
    "palavra": (SetNetwork, lambda state: state, 1.0),
}


@pytest.fixture(scope="module")
def dual() -> DualEncoder:
    return DualEncoder.load("tiny-clip", "float32", "cpu")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder of networks."""
    monkeypatch.setattr(networks, "user_folder", lambda: tmp_path / "networks")
    return tmp_path


def checkpoint(composer: str, path: Path, dual: DualEncoder) -> nn.Module:
    """Save a random network of the published layout; returns it."""
    kind, holding, _ = LAYOUTS[composer]
    torch.manual_seed(3)
    width = Inversion.of(dual).words.width
    network = kind(dual.dimension, width).eval()
    torch.save(holding(network.state_dict()), path)
    return network


@pytest.mark.parametrize("composer", LAYOUTS)
def test_a_published_network_gives_its_words(
    composer: str, place: Path, dual: DualEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    network = checkpoint(composer, place / "weights.pt", dual)
    words = ["train-composer", composer, "--import", str(place / "weights.pt"), "--json"]
    app(words, standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert document["composer"] == composer and Path(document["network"]).is_file()
    vectors = np.random.default_rng(1).normal(size=(5, dual.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    length = LAYOUTS[composer][2]
    with torch.inference_mode():
        want = network(torch.from_numpy(vectors * length)).numpy()
    inversion = Inversion(Inversion.of(dual).words)
    assert inversion.takes_raw(composer) == (length != 1)
    loaded = networks.load_network(composer, inversion.words)
    lengths = np.full(5, length, dtype=np.float32)
    assert np.abs(loaded.tokens(vectors, lengths) - want).max() < 1e-5
    if length != 1:
        with pytest.raises(ModelError, match="their lengths are not known here"):
            loaded.tokens(vectors)


def test_a_search_gives_the_network_raw_features(place: Path, dual: DualEncoder) -> None:
    network = checkpoint("pic2word", place / "weights.pt", dual)
    cies.training.import_composer("pic2word", place / "weights.pt")
    picture = Image.new("RGB", (64, 64), "teal")
    encoder = cies.load_encoder(method="clip", model="tiny-clip")
    found = encoder.embed([picture], [cies.Condition.parse("unconditional")], words=False)
    unit, length = found.vectors[0, 0], float(found.norms[0, 0])
    assert abs(length - 1) > 0.1
    context = ComposerContext("tiny-clip", lambda: encoder, lambda: None, lambda: False)  # type: ignore[arg-type, return-value]
    inversion = Inversion.of(encoder.dual)  # type: ignore[attr-defined]
    inversion._networks.pop("pic2word", None)
    try:
        given = ComposerInput(Modification("red", "pic2word"), unit, lambda: picture)
        composed = compose("pic2word", given, context)
        with torch.inference_mode():
            token = network(torch.from_numpy(unit * length)[None]).numpy()
        want = inversion.encode(inversion.query_text("pic2word", "red"), token)[0]
        assert np.abs(composed.vector - want).max() < 1e-5
    finally:
        inversion._networks.pop("pic2word", None)


class Harmful:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("it-ran"),))


def test_files_that_hold_no_such_network(
    place: Path, dual: DualEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    read = cies.training.import_composer
    torch.save({"Phi": Harmful()}, place / "harm.pt")
    with pytest.raises(UsageError, match=r"--import .*harm.pt is no checkpoint"):
        read("searle", place / "harm.pt")
    assert not (place / "it-ran").exists()
    (place / "text.pt").write_text("not a checkpoint")
    with pytest.raises(UsageError, match=r"--import .*text.pt is no checkpoint"):
        read("searle", place / "text.pt")
    with pytest.raises(UsageError, match=r"--import .*none.pt cannot be read: no such file"):
        read("searle", place / "none.pt")
    checkpoint("pic2word", place / "other.pt", dual)
    with pytest.raises(ModelError, match="does not hold a network of searle in its published"):
        read("searle", place / "other.pt")
    torch.save({"Phi": Phi(512, 512).state_dict()}, place / "large.pt")
    with pytest.raises(ModelError, match=r"for a CLIP of 512 dimensions .* give the --model"):
        read("searle", place / "large.pt")
    weights = Phi(dual.dimension, Inversion.of(dual).words.width).state_dict()
    weights["layers.3.weight"][0, 0] = float("nan")
    torch.save({"Phi": weights}, place / "broken.pt")
    with pytest.raises(ModelError, match="values that are no numbers"):
        read("searle", place / "broken.pt")
    assert not (place / "networks").exists()
