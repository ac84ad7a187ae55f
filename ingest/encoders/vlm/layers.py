"""Runs a model's text part no further than the layer that is read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

import torch


def layer_count(model: Any) -> int:
    """How many layers the text part has."""
    return int(model.config.get_text_config().num_hidden_layers)


@contextmanager
def up_to(model: Any, layer: int) -> Iterator[None]:
    """Leave out the layers after one, and the final norm, for as long as this lasts.

    What then enters the output head is ``hidden_states[layer]`` of the whole model.

    Args:
        model: of a packed family, whose decoder holds its layers in a list and one norm.
        layer: -1 leaves the model as it is; 0 leaves only the embedding of the tokens.
    """
    if layer == -1:
        yield
        return
    decoder = model.get_decoder()
    layers, norm = decoder.layers, decoder.norm
    decoder.layers, decoder.norm = torch.nn.ModuleList(layers[:layer]), torch.nn.Identity()
    try:
        yield
    finally:
        decoder.layers, decoder.norm = layers, norm
