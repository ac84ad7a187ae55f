"""Imports networks of textual inversion as their authors publish them.

The layouts, as the official code writes and reads them: SEARLE and LinCIR keep three linear layers
under ``Phi``; Pic2Word two blocks and an output layer, under ``state_dict_img2text``, with the
prefix of a model on several devices; PALAVRA three layers over sets and a head of two layers. The
files are pickles: only tensors and plain containers are read from them, no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from types import MappingProxyType
from typing import Any

import torch

from indexes.errors import ModelError, UsageError
from ingest.encoders.inversion.networks import NETWORKS, NetworkCard, make_network, save_network
from ingest.encoders.inversion.pseudo_words import PseudoWords

#: Where the weights are in a checkpoint, if they are not the whole of it.
_HOLDERS = ("Phi", "state_dict_img2text", "img2text", "phi", "model_state_dict", "state_dict")

#: What some trainers put before each name.
_PREFIXES = ("module.", "_orig_mod.")

_PHI = {f"layers.{layer}": str(layer) for layer in (0, 3, 6)}
_PALAVRA = {f"phi.{2 * n}.Gamma": f"layers.{3 * n}.each" for n in range(3)}
_PALAVRA |= {f"phi.{2 * n}.Lambda": f"layers.{3 * n}.all" for n in range(3)}

#: Composer to the published name of each layer and ours.
_NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "searle": _PHI,
        "lincir": _PHI,
        "pic2word": {"layers.0.0": "0", "layers.1.0": "3", "fc_out": "6"},
        "palavra": {**_PALAVRA, "ro.1": "head.1", "ro.4": "head.4"},
    }
)

#: The composers whose network takes CLIP's features as they come, not scaled to unit length.
_RAW = ("searle", "lincir", "pic2word")


def import_network(composer: str, path: Path, words: PseudoWords) -> Path:
    """Store a published network for a model.

    Args:
        composer: a name of :data:`ingest.encoders.inversion.networks.NETWORKS`.
        path: the checkpoint, of ``torch.save`` or safetensors.
        words: the words of the CLIP that the network was trained for.

    Returns:
        The file of its description.

    Raises:
        UsageError: if the file cannot be read.
        ModelError: if it is another network, or one for another CLIP.
    """
    weights = _renamed(composer, _tensors(path), path)
    first, last = _first_and_last(composer)
    inputs, outputs = weights[f"{first}.weight"].shape[1], weights[f"{last}.weight"].shape[0]
    if (inputs, outputs) != (words.dual.dimension, words.width):
        raise ModelError(
            f"{path} is a network for a CLIP of {inputs} dimensions with words of {outputs}, and "
            f"{words.name} has {words.dual.dimension} and {words.width}; give the --model that "
            "the network was trained for."
        )
    card = NetworkCard(
        composer=composer,
        model=words.name,
        revision=words.revision,
        dimension=inputs,
        width=outputs,
        hidden=int(weights[f"{first}.weight"].shape[0]),
        trained={"imported": path.name},
        raw=composer in _RAW,
        deep_head=composer == "palavra",
    )
    module = make_network(card)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise _other_network(composer, path) from error
    return save_network(module, card, half=False)


def _first_and_last(composer: str) -> tuple[str, str]:
    names = list(_NAMES[composer].values())
    return names[0], names[-1]


def _renamed(
    composer: str, tensors: Mapping[str, torch.Tensor], path: Path
) -> dict[str, torch.Tensor]:
    """The weights by our names: float32."""
    names = _NAMES[composer]
    found = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer in names:
            found[f"{names[layer]}.{kind}"] = tensor.float()
    if len(found) != len(tensors) or any(f"{own}.weight" not in found for own in names.values()):
        raise _other_network(composer, path)
    if any(tensor.ndim != 2 for name, tensor in found.items() if name.endswith(".weight")):
        raise _other_network(composer, path)
    if not all(tensor.isfinite().all() for tensor in found.values()):
        raise ModelError(f"{path} holds values that are no numbers; download it again.")
    return found


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by their names, without prefixes."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: Any
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--import {path} cannot be read: {reason}; check the path.") from error
    except (
        SafetensorError,
        UnpicklingError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
    ) as error:
        raise UsageError(
            f"--import {path} is no checkpoint that can be read without running its code; give "
            "the file of weights that the authors publish."
        ) from error
    for _ in range(2):
        holder = next((h for h in _HOLDERS if isinstance(found, Mapping) and h in found), None)
        found = found if holder is None else found[holder]
    if not isinstance(found, Mapping):
        found = {}
    tensors = {str(n): t for n, t in found.items() if isinstance(t, torch.Tensor)}
    for prefix in _PREFIXES:
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _other_network(composer: str, path: Path) -> ModelError:
    return ModelError(
        f"{path} does not hold a network of {composer} in its published layout; name the composer "
        f"that it is of ({', '.join(NETWORKS)}), or give another file."
    )
