"""Networks that turn a picture's vector into a pseudo-word, and where they are kept.

A network knows one CLIP: it is kept with that model's revision, and refused for any other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from indexes.errors import ModelError
from indexes.vectors import Vectors
from ingest.encoders.inversion.pseudo_words import PseudoWords

#: Form of the description beside a network's weights.
FORMAT = 1


@dataclass(frozen=True)
class NetworkCard:
    """What is known of a network.

    Attributes:
        composer: whose network it is.
        model: the CLIP it was trained for, by name.
        revision: that model's commit, or a digest of its files.
        dimension: of the model's vectors.
        width: of its words' embeddings.
        hidden: width of the network.
        trained: how it was trained and what was measured, for people.
    """

    composer: str
    model: str
    revision: str
    dimension: int
    width: int
    hidden: int
    trained: Mapping[str, Any]


def _searle(card: NetworkCard) -> nn.Module:
    # Baldrati et al., ICCV 2023; LinCIR (Gu et al., CVPR 2024) has the same.
    wide = card.hidden
    return nn.Sequential(
        nn.Linear(card.dimension, wide),
        nn.GELU(),
        nn.Dropout(0.5),
        nn.Linear(wide, wide),
        nn.GELU(),
        nn.Dropout(0.5),
        nn.Linear(wide, card.width),
    )


def _pic2word(card: NetworkCard) -> nn.Module:
    # Saito et al., CVPR 2023.
    wide = card.hidden
    return nn.Sequential(
        nn.Linear(card.dimension, wide),
        nn.Dropout(0.1),
        nn.ReLU(),
        nn.Linear(wide, wide),
        nn.Dropout(0.1),
        nn.ReLU(),
        nn.Linear(wide, card.width),
    )


class _Together(nn.Module):
    """A layer over sets: each member by itself, less what all have in common."""

    def __init__(self, given: int, wide: int):
        super().__init__()
        self.each = nn.Linear(given, wide)
        self.all = nn.Linear(given, wide, bias=False)

    def forward(self, sets: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.each(sets) - self.all(sets.mean(1, keepdim=True))
        return found


class _DeepSet(nn.Module):
    """PALAVRA's network (Cohen et al., ECCV 2022): sets [n, members, dim] to words [n, width].

    A single vector, [n, dim], is a set of one.
    """

    def __init__(self, card: NetworkCard):
        super().__init__()
        wide = card.hidden
        sizes = [card.dimension, wide, wide]
        layers = [
            part for given in sizes for part in (_Together(given, wide), nn.ELU(), nn.Dropout(0.25))
        ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(wide, card.width)

    def forward(self, sets: torch.Tensor) -> torch.Tensor:
        whole = sets[:, None] if sets.ndim == 2 else sets
        found: torch.Tensor = self.head(self.layers(whole).mean(1))
        return found


#: Composer to what makes its network.
NETWORKS: Mapping[str, Callable[[NetworkCard], nn.Module]] = MappingProxyType(
    {"searle": _searle, "pic2word": _pic2word, "lincir": _searle, "palavra": _DeepSet}
)


def published_width(composer: str, dimension: int) -> int:
    """The width of a composer's network as published, for a model's dimension."""
    return {"pic2word": 512, "palavra": 4096}.get(composer, 4 * dimension)


class InversionNetwork:
    """A trained network."""

    def __init__(self, card: NetworkCard, module: nn.Module):
        """Use a network; :func:`load_network` finds one."""
        self.card = card
        self._module = module.eval()

    def tokens(self, vectors: Vectors) -> NDArray[np.float32]:
        """Pseudo-words of pictures: float32 [n, dim] to float32 [n, width]."""
        with torch.inference_mode():
            found: NDArray[np.float32] = self._module(torch.from_numpy(vectors)).numpy()
        return found


def make_network(card: NetworkCard) -> nn.Module:
    """A network with fresh weights, drawn from torch's generator."""
    return NETWORKS[card.composer](card)


def own_folder() -> Path:
    """Where ``cies train-composer`` keeps the user's networks."""
    import platformdirs

    return Path(platformdirs.user_data_dir("cies", appauthor=False)) / "composers"


def shipped_folder() -> Path:
    """Where those lie that come with the built-in CLIP."""
    return Path(str(resources.files("ingest.encoders").joinpath("builtin", "composers")))


def place_of(composer: str, revision: str, folder: Path | None = None) -> Path:
    """The description of a network; its weights lie beside it, with another ending."""
    return (folder or own_folder()) / composer / f"{revision}.json"


def save_network(module: nn.Module, card: NetworkCard, folder: Path | None = None) -> Path:
    """Write a network in half precision; one that is there is replaced whole.

    Returns:
        Its description.
    """
    place = place_of(card.composer, card.revision, folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    half = {name: value.half().contiguous() for name, value in module.state_dict().items()}
    weights = place.with_suffix(".safetensors")
    fresh = weights.with_suffix(f".{os.getpid()}")
    save_file(half, fresh)
    fresh.replace(weights)
    text = json.dumps({"format": FORMAT, **asdict(card)}, indent=2) + "\n"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(place)
    return place


def load_network(composer: str, words: PseudoWords) -> InversionNetwork:
    """The network of a composer for a model: the user's own, else the one that is shipped.

    Raises:
        ModelError: if there is none, it is damaged, or it was trained for another model.
    """
    for folder in (own_folder(), shipped_folder()):
        place = place_of(composer, words.revision, folder)
        if place.is_file():
            return _opened(place, composer, words)
    others = sorted({f"{card.model} of revision {card.revision}" for card in _all(composer)})
    known = f"; those there are serve {', '.join(others)}" if others else ""
    examples = "--texts FILE" if composer == "lincir" else "--images FOLDER"
    raise ModelError(
        f"There is no network of {composer} for {words.name} of revision {words.revision}{known}; "
        f"train one with `cies train-composer {composer} {examples} --model {words.name}`, or "
        "choose --composer searle-oti, which needs none."
    )


def _all(composer: str) -> list[NetworkCard]:
    found = []
    for folder in (own_folder(), shipped_folder()):
        for place in sorted((folder / composer).glob("*.json")):
            try:
                found.append(_card(place))
            except ModelError:
                continue  # it is named when it is to be used
    return found


def _card(place: Path) -> NetworkCard:
    try:
        entry = json.loads(place.read_text(encoding="utf-8"))
        if entry.pop("format") == FORMAT:
            return NetworkCard(**entry)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise _damaged(place) from error
    raise ModelError(f"{place} was written by another version of CIES; train the network again.")


def _damaged(place: Path) -> ModelError:
    return ModelError(
        f"The network {place} is damaged; delete it, and train it again with `cies train-composer`."
    )


def _opened(place: Path, composer: str, words: PseudoWords) -> InversionNetwork:
    card = _card(place)
    if card.revision != words.revision:
        raise ModelError(
            f"The network {place} was trained for {card.model} of revision {card.revision}, and "
            f"this is {words.name} of revision {words.revision}; train one for it with `cies "
            "train-composer`."
        )
    expected = composer, words.dual.dimension, words.width
    if (card.composer, card.dimension, card.width) != expected:
        raise _damaged(place)
    from safetensors import SafetensorError

    module = make_network(card)
    try:
        whole = load_file(place.with_suffix(".safetensors"))
        module.load_state_dict({name: value.float() for name, value in whole.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _damaged(place) from error
    return InversionNetwork(replace(card), module)
