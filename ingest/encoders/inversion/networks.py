"""Networks that map an image's vector to a pseudo-word, and their files.

A network belongs to one CLIP: it is stored with that model's revision, and refused for any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import nn

from indexes.errors import ModelError
from indexes.files import write_atomic
from indexes.vectors import Vectors
from ingest.encoders.inversion.pseudo_words import PseudoWords

#: Format of the description stored with a network's weights.
FORMAT = 1


@dataclass(frozen=True)
class NetworkCard:
    """The description of a network.

    Attributes:
        composer: the composer that uses it.
        model: name of the CLIP it was trained for.
        revision: that model's commit, or a digest of its files.
        dimension: the dimension of the model's vectors.
        width: the width of its word embeddings.
        hidden: width of the network.
        trained: training parameters and measurements, for people.
        raw: whether it takes vectors as the CLIP gives them, before they are scaled to unit length.
        deep_head: whether PALAVRA's head has two layers, as published; one if not.
    """

    composer: str
    model: str
    revision: str
    dimension: int
    width: int
    hidden: int
    trained: Mapping[str, Any]
    raw: bool = False
    deep_head: bool = False


def _searle(card: NetworkCard) -> nn.Module:
    # Baldrati et al., ICCV 2023; the same for LinCIR (Gu et al., CVPR 2024).
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


class _SetLayer(nn.Module):
    """A layer over sets: a map of each member minus a map of the set's mean."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.each = nn.Linear(inputs, outputs)
        self.all = nn.Linear(inputs, outputs, bias=False)

    def forward(self, sets: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.each(sets) - self.all(sets.mean(1, keepdim=True))
        return outputs


class _DeepSet(nn.Module):
    """PALAVRA's network (Cohen et al., ECCV 2022): sets [n, members, dim] to words [n, width].

    An input [n, dim] is n sets of one.
    """

    def __init__(self, card: NetworkCard):
        super().__init__()
        wide = card.hidden
        sizes = [card.dimension, wide, wide]
        layers = [
            part for size in sizes for part in (_SetLayer(size, wide), nn.ELU(), nn.Dropout(0.25))
        ]
        self.layers = nn.Sequential(*layers)
        self.head: nn.Module = nn.Linear(wide, card.width)
        if card.deep_head:
            self.head = nn.Sequential(
                nn.Dropout(0.5),
                nn.Linear(wide, wide),
                nn.ELU(),
                nn.Dropout(0.5),
                nn.Linear(wide, card.width),
            )

    def forward(self, sets: torch.Tensor) -> torch.Tensor:
        whole = sets[:, None] if sets.ndim == 2 else sets
        tokens: torch.Tensor = self.head(self.layers(whole).mean(1))
        return tokens


#: Composer to the function that creates its network.
NETWORKS: Mapping[str, Callable[[NetworkCard], nn.Module]] = MappingProxyType(
    {"searle": _searle, "pic2word": _pic2word, "lincir": _searle, "palavra": _DeepSet}
)


def published_width(composer: str, dimension: int) -> int:
    """The published width of a composer's network, for a model's dimension."""
    return {"pic2word": 512, "palavra": 4096}.get(composer, 4 * dimension)


class InversionNetwork:
    """A trained network."""

    def __init__(self, card: NetworkCard, module: nn.Module):
        """Use a network; :func:`load_network` loads one."""
        self.card = card
        self._module = module.eval()

    def tokens(
        self, vectors: Vectors, norms: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Pseudo-words of images.

        Args:
            vectors: float32 [n, dim], unit rows.
            norms: float32 [n], their lengths before; needed if the network takes them raw.

        Returns:
            float32 [n, width].

        Raises:
            ModelError: if the lengths are needed and not given.
        """
        if self.card.raw:
            if norms is None:
                raise ModelError(
                    f"The network of {self.card.composer} takes vectors as {self.card.model} gives "
                    "them, and their lengths are not known here; choose another --composer."
                )
            vectors = vectors * norms[:, None]
        with torch.inference_mode():
            tokens: NDArray[np.float32] = self._module(torch.from_numpy(vectors)).numpy()
        return tokens


def make_network(card: NetworkCard) -> nn.Module:
    """A network with random weights, drawn from torch's generator."""
    return NETWORKS[card.composer](card)


def user_folder() -> Path:
    """Where ``cies train-composer`` stores the user's networks."""
    import platformdirs

    return Path(platformdirs.user_data_dir("cies", appauthor=False)) / "composers"


def shipped_folder() -> Path:
    """The folder of the networks for the built-in CLIP."""
    return Path(str(resources.files("ingest.encoders").joinpath("builtin", "composers")))


def card_path(composer: str, revision: str, folder: Path | None = None) -> Path:
    """The file of a network's description; its weights have the same name with another ending."""
    return (folder or user_folder()) / composer / f"{revision}.json"


def save_network(
    module: nn.Module, card: NetworkCard, folder: Path | None = None, half: bool = True
) -> Path:
    """Write a network, replacing an existing one.

    Args:
        module: the network.
        card: its description.
        folder: the folder of networks; the user's own by default.
        half: whether in half precision, else in float32.

    Returns:
        The file of its description.
    """
    path = card_path(card.composer, card.revision, folder)
    dtype = torch.float16 if half else torch.float32
    stored = {name: value.to(dtype).contiguous() for name, value in module.state_dict().items()}
    write_atomic(path.with_suffix(".safetensors"), save(stored))
    text = json.dumps({"format": FORMAT, **asdict(card)}, indent=2) + "\n"
    write_atomic(path, text.encode())
    return path


def load_network(composer: str, words: PseudoWords) -> InversionNetwork:
    """The network of a composer for a model: the user's own, or else the shipped one.

    Raises:
        ModelError: if there is none, it is damaged, or it was trained for another model.
    """
    for folder in (user_folder(), shipped_folder()):
        path = card_path(composer, words.revision, folder)
        if path.is_file():
            return _load(path, composer, words)
    others = sorted({f"{card.model} of revision {card.revision}" for card in _all_cards(composer)})
    existing = f"; the existing ones are for {', '.join(others)}" if others else ""
    examples = "--texts FILE" if composer == "lincir" else "--images FOLDER"
    raise ModelError(
        f"There is no network of {composer} for {words.name} of revision {words.revision}"
        f"{existing}; train one with `cies train-composer {composer} {examples} --model "
        f"{words.name}`, or choose --composer searle-oti, which needs none."
    )


def _all_cards(composer: str) -> list[NetworkCard]:
    cards = []
    for folder in (user_folder(), shipped_folder()):
        for path in sorted((folder / composer).glob("*.json")):
            try:
                cards.append(_read_card(path))
            except ModelError:
                continue  # the error is raised when this network is loaded
    return cards


def _read_card(path: Path) -> NetworkCard:
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        if entry.pop("format") == FORMAT:
            return NetworkCard(**entry)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise _damaged(path) from error
    raise ModelError(f"{path} was written by another version of CIES; train the network again.")


def _damaged(path: Path) -> ModelError:
    return ModelError(
        f"The network {path} is damaged; delete it, and train it again with `cies train-composer`."
    )


def _load(path: Path, composer: str, words: PseudoWords) -> InversionNetwork:
    card = _read_card(path)
    if card.revision != words.revision:
        raise ModelError(
            f"The network {path} was trained for {card.model} of revision {card.revision}, and "
            f"this is {words.name} of revision {words.revision}; train one for it with `cies "
            "train-composer`."
        )
    expected = composer, words.dual.dimension, words.width
    if (card.composer, card.dimension, card.width) != expected:
        raise _damaged(path)
    from safetensors import SafetensorError

    module = make_network(card)
    try:
        weights = load_file(path.with_suffix(".safetensors"))
        module.load_state_dict({name: value.float() for name, value in weights.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _damaged(path) from error
    return InversionNetwork(card, module)
