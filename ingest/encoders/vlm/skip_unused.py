"""Skips work whose results are not used: layers, attention and feed-forward work of a packed pass.

None of it changes a number that is used. *Layers*: the layers after the one whose states are read
are not run. *Attention*: the shared prefix is an ordinary causal sequence and needs no mask, and
only the tails are compared with every token; under one square mask the prefix would be compared
with every tail as well. *Last layer*: its feed-forward part runs only for the tokens whose states
are read, such as the last one of each branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ingest.encoders.vlm.packing import PackedPrompts

#: The number of the last layer, whose states are read after the final norm.
LAST_LAYER = -1

_NAME = "cies_tree"

#: Lengths of the shared prefix and of the whole sequence during a packed pass.
_LENGTHS: ContextVar[tuple[int, int] | None] = ContextVar("lengths", default=None)


@contextmanager
def skip_layers_after(model: Any, read: Sequence[int]) -> Iterator[None]:
    """Leave out the layers after the deepest one that is read inside a ``with`` block.

    Args:
        model: a model of a packed family, whose decoder has a list of layers and one norm.
        read: numbers of layers, as in ``hidden_states`` of transformers: -1, the last one, leaves
            the model as it is; 0 is the embedding of the tokens.
    """
    if LAST_LAYER in read:
        yield
        return
    decoder = model.get_decoder()
    layers, norm = decoder.layers, decoder.norm
    decoder.layers = torch.nn.ModuleList(layers[: max(read)])
    decoder.norm = torch.nn.Identity()
    try:
        yield
    finally:
        decoder.layers, decoder.norm = layers, norm


@contextmanager
def layer_outputs(
    model: Any, read: Sequence[int], tokens: torch.Tensor
) -> Iterator[dict[int, torch.Tensor]]:
    """Keep states of layers before the last one while a model runs inside a ``with`` block.

    Args:
        model: a model of a packed family.
        read: numbers of layers, as in ``hidden_states`` of transformers.
        tokens: int64 [n], indices of the tokens whose states are kept.

    Yields:
        The number of each layer in ``read`` to [images, n, dim], once the model has run; without
        the last layer, and without the embedding of the tokens if no layer runs: the output head
        receives these.
    """
    found: dict[int, torch.Tensor] = {}
    inner = set(read) - {LAST_LAYER} if set(read) != {0} else set()
    layers: Any = model.get_decoder().layers if inner else ()

    def keep(number: int, states: Any) -> None:
        states = states if isinstance(states, torch.Tensor) else states[0]
        found[number] = states[:, tokens.to(states.device)]

    def before(module: Any, arguments: Sequence[Any], named: dict[str, Any]) -> None:
        keep(0, arguments[0] if arguments else named["hidden_states"])

    hooks = []
    for number in inner:
        if number == 0:
            hooks.append(layers[0].register_forward_pre_hook(before, with_kwargs=True))
        else:
            hooks.append(
                layers[number - 1].register_forward_hook(
                    lambda module, arguments, output, number=number: keep(number, output)
                )
            )
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention in two parts, prefix and tails.

    Args:
        module: the layer's attention.
        query: [images, heads, length, head dim].
        key: [images, key heads, length, head dim].
        value: as ``key``.
        attention_mask: bool [images, 1, length, length].
        **options: passed on.

    Returns:
        [images, length, heads, head dim], and ``None`` for the weights.
    """
    lengths = _LENGTHS.get()
    whole = (query.shape[2], key.shape[2])
    if lengths is None or attention_mask is None or whole != (lengths[1], lengths[1]):
        return _plain_attention(module, query, key, value, attention_mask, **options)
    prefix = lengths[0]
    options.pop("is_causal", None)
    shared, _ = _plain_attention(
        module,
        query[:, :, :prefix],
        key[:, :, :prefix],
        value[:, :, :prefix],
        None,
        is_causal=True,
        **options,
    )
    tails, _ = _plain_attention(
        module, query[:, :, prefix:], key, value, attention_mask[:, :, prefix:], **options
    )
    return torch.cat([shared, tails], dim=1), None


def _plain_attention(*arguments: Any, **options: Any) -> tuple[torch.Tensor, None]:
    output, _ = sdpa_attention_forward(*arguments, **options)
    return output, None


AttentionInterface.register(_NAME, _tree_attention)


@contextmanager
def skip_unread_tokens(
    model: Any, packed: PackedPrompts, causal_prefix: bool, read: torch.Tensor, last: bool = True
) -> Iterator[None]:
    """Skip attention and feed-forward work for tokens whose states are not read.

    Args:
        model: one whose text attention is sdpa.
        packed: the sequence of the pass inside the ``with`` block.
        causal_prefix: whether the mask of the prefix is causal.
        read: int64 [n], indices of the tokens whose states are read.
        last: whether the last layer that runs is the model's last one. The feed-forward part of
            another layer runs for all tokens, so that its numbers do not depend on whether
            deeper layers are read in the same pass.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    if not layers:
        yield
        return
    prefix, length = packed.prefix if causal_prefix else 0, len(packed.ids)
    short = _short_feed_forward(layers[-1], length, read) if last else nullcontext()
    with _split_attention(layers, length, prefix), short:
        yield


@contextmanager
def _split_attention(layers: Any, length: int, prefix: int) -> Iterator[None]:
    """Use :func:`_tree_attention` in the layers that have sdpa."""
    configs = {id(c): c for layer in layers if (c := _attention_config(layer)) is not None}
    chosen = [c for c in configs.values() if c._attn_implementation == "sdpa"]
    token = _LENGTHS.set((prefix, length) if prefix else None)
    for config in chosen:
        config._attn_implementation = _NAME
    try:
        yield
    finally:
        for config in chosen:
            config._attn_implementation = "sdpa"
        _LENGTHS.reset(token)


def _attention_config(layer: Any) -> Any:
    return getattr(getattr(layer, "self_attn", None), "config", None)


@contextmanager
def _short_feed_forward(layer: Any, length: int, read: torch.Tensor) -> Iterator[None]:
    """Run a layer's feed-forward part for the tokens at ``read`` only."""
    part = getattr(layer, "mlp", None)
    if part is None:
        yield
        return
    original, wrapped = part.forward, "forward" in vars(part)

    def forward(states: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if states.ndim != 3 or states.shape[1] != length:
            return original(states, *arguments, **options)
        indices = read.to(states.device)
        output = original(states[:, indices], *arguments, **options)
        if not isinstance(output, torch.Tensor):
            return original(states, *arguments, **options)
        # Zero is added to the tokens that are not read.
        return torch.zeros_like(states).index_copy(1, indices, output)

    part.forward = forward
    try:
        yield
    finally:
        # In a model spread over devices, accelerate has wrapped the method on the object itself.
        if wrapped:
            part.forward = original
        else:
            del part.forward
