"""Spares a packed pass the work whose result nobody reads.

Two savings, neither of which changes a number that is kept. *Attention*: the shared prefix is an
ordinary causal sequence and needs no mask, and only the tails are compared with everything; under
one square mask the prefix would be compared with every tail as well. *Last layer*: its
feed-forward part is run for the tokens that are read, such as the last one of each branch.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Iterator

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ingest.encoders.vlm.packing import PackedPrompts

_NAME = "cies_tree"

#: Length of the shared prefix and of the whole sequence, while a packed pass is under way.
_TREE: ContextVar[tuple[int, int] | None] = ContextVar("tree", default=None)


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
        query: [pictures, heads, length, head dim].
        key: [pictures, key heads, length, head dim].
        value: as ``key``.
        attention_mask: bool [pictures, 1, length, length].
        **options: passed on.

    Returns:
        [pictures, length, heads, head dim], and ``None`` for the weights.
    """
    tree = _TREE.get()
    whole = (query.shape[2], key.shape[2])
    if tree is None or attention_mask is None or whole != (tree[1], tree[1]):
        return _plain(module, query, key, value, attention_mask, **options)
    prefix = tree[0]
    options.pop("is_causal", None)
    shared, _ = _plain(
        module,
        query[:, :, :prefix],
        key[:, :, :prefix],
        value[:, :, :prefix],
        None,
        is_causal=True,
        **options,
    )
    tails, _ = _plain(
        module, query[:, :, prefix:], key, value, attention_mask[:, :, prefix:], **options
    )
    return torch.cat([shared, tails], dim=1), None


def _plain(*arguments: Any, **options: Any) -> tuple[torch.Tensor, None]:
    output, _ = sdpa_attention_forward(*arguments, **options)
    return output, None


AttentionInterface.register(_NAME, _tree_attention)


@contextmanager
def spared(model: Any, packed: PackedPrompts, is_tree: bool, read: torch.Tensor) -> Iterator[None]:
    """Run a packed pass without the work nobody reads.

    Args:
        model: one whose text attention is sdpa.
        packed: what is run, in one pass over the whole sequence.
        is_tree: whether the mask is the bare tree, so that the prefix is causal.
        read: int64 [n], places of the tokens whose states are read.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    if not layers:
        yield
        return
    prefix, length = packed.prefix if is_tree else 0, len(packed.ids)
    with _tree_attended(layers, packed, prefix), _last_feed_forward_cut(layers[-1], length, read):
        yield


@contextmanager
def _tree_attended(layers: Any, packed: PackedPrompts, prefix: int) -> Iterator[None]:
    configs = {id(c): c for layer in layers if (c := _attention_config(layer)) is not None}
    chosen = [c for c in configs.values() if c._attn_implementation == "sdpa"]
    token = _TREE.set((prefix, len(packed.ids)) if prefix else None)
    for config in chosen:
        config._attn_implementation = _NAME
    try:
        yield
    finally:
        for config in chosen:
            config._attn_implementation = "sdpa"
        _TREE.reset(token)


def _attention_config(layer: Any) -> Any:
    return getattr(getattr(layer, "self_attn", None), "config", None)


@contextmanager
def _last_feed_forward_cut(layer: Any, length: int, read: torch.Tensor) -> Iterator[None]:
    part = getattr(layer, "mlp", None)
    if part is None:
        yield
        return
    real, wrapped = part.forward, "forward" in vars(part)

    def cut(states: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if states.ndim != 3 or states.shape[1] != length:
            return real(states, *arguments, **options)
        places = read.to(states.device)
        made = real(states[:, places], *arguments, **options)
        if not isinstance(made, torch.Tensor):
            return real(states, *arguments, **options)
        # Nothing is added to the tokens that are not read.
        return torch.zeros_like(states).index_copy(1, places, made)

    part.forward = cut
    try:
        yield
    finally:
        # A model spread over devices has wrapped the method already, on the object itself.
        if wrapped:
            part.forward = real
        else:
            del part.forward
