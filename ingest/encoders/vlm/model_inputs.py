"""Computes the inputs of a model besides its tokens: positions, masks, which tokens are the image.

All of them follow from the token ids and the image's tensors, for plain prompts, for packed
sequences and for generated tokens alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ingest.encoders.vlm.packing import PackedPrompts, windowed, with_mutual_attention

#: Families that attend to the whole prompt in both directions, and mark it with token type 0.
_BIDIRECTIONAL_PROMPTS = frozenset({"paligemma"})

#: Families whose image tokens see each other in both directions.
_BIDIRECTIONAL_IMAGES = frozenset({"gemma3"})

#: Families tested with one mask for the layers with a window and one for the others.
_MASK_BY_LAYER = frozenset({"gemma3"})

_Mask = torch.Tensor | dict[str, torch.Tensor]


def input_device(model: Any) -> torch.device:
    """Where a model takes its tokens: the device of the embedding, if it is spread over several."""
    embedding = model.get_input_embeddings()
    device: torch.device = embedding.weight.device
    if device.type == "meta":
        # Offloaded weights are moved to this device when they are used.
        device = torch.device(embedding._hf_hook.execution_device)
    return device


class ModelInputs:
    """Computes the inputs of one loaded model."""

    def __init__(self, model: Any):
        self._model = model
        self._type = model.config.model_type
        self._inner = getattr(model, "model", model)
        self._accepts = set(inspect.signature(self._inner.forward).parameters)
        self._cross_attends = {"cross_attention_mask", "aspect_ratio_mask"} <= self._accepts
        text = model.config.get_text_config()
        kinds = set(getattr(text, "layer_types", None) or ())
        window = getattr(text, "sliding_window", None)
        self._window = window if not kinds or "sliding_attention" in kinds else None
        self._mask_by_layer = self._type in _MASK_BY_LAYER and self._window is not None
        #: Whether positions are counted along one axis, although the model has several.
        self.one_axis = False

    @property
    def cross_attends(self) -> bool:
        """Whether the model sees a picture by cross-attention; only one picture is written so."""
        return self._cross_attends

    # -- token inputs ----------------------------------------------------------------------

    def is_image(self, ids: torch.Tensor) -> torch.Tensor:
        """Which tokens represent the image: bool, shaped as ``ids``."""
        return torch.as_tensor(ids == self._model.config.image_token_id)

    def for_prompts(
        self, ids: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Token inputs of whole prompts.

        Args:
            ids: int64 [images, length].
            features: the images' tensors.
        """
        inputs = self.for_packed(ids, features)
        for name in self._accepts & {"mm_token_type_ids", "token_type_ids"}:
            zero = self._type in _BIDIRECTIONAL_PROMPTS
            inputs[name] = torch.zeros_like(ids) if zero else self.is_image(ids).int()
        return inputs

    def for_packed(
        self, ids: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Token inputs of a packed sequence; its masks and positions contain the rest.

        Args:
            ids: int64 [images, length].
            features: the images' tensors.
        """
        if "moe_mm_token_type_ids" in self._accepts:
            return {"moe_mm_token_type_ids": self._is_near_image(ids).int()}
        if not self._needs_cross_mask(features):
            return {}
        return self._cross_mask(self.is_image(ids).cumsum(-1) > 0, features)

    def for_generated(
        self, ids: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Token inputs of tokens generated after a packed sequence: as :meth:`for_packed`."""
        if not self._needs_cross_mask(features):
            return {}
        return self._cross_mask(torch.ones_like(ids, dtype=torch.bool), features)

    def _is_near_image(self, ids: torch.Tensor) -> torch.Tensor:
        """Which tokens are the image or the marks around it, which have experts of their own."""
        config = self._model.config
        marks = torch.tensor([config.image_start_token_id, config.image_end_token_id])
        return self.is_image(ids) | torch.isin(ids, marks.to(ids.device))

    def _needs_cross_mask(self, features: Mapping[str, torch.Tensor]) -> bool:
        """Whether there is an image, and the model sees it through cross-attention."""
        return self._cross_attends and "aspect_ratio_mask" in features

    def _cross_mask(
        self, sees: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Which tiles of the image each token sees: [images, length, 1, tiles]."""
        tiles = features["aspect_ratio_mask"]
        return {"cross_attention_mask": sees[:, :, None, None].to(tiles) * tiles[:, None]}

    # -- images ----------------------------------------------------------------------------

    def image_inputs(self, features: Mapping[str, torch.Tensor]) -> Callable[[], dict[str, Any]]:
        """Encode the images once for passes over several prompts, if the model accepts that.

        A model that does not accept encoded images gets the images themselves in each pass.

        Args:
            features: the images' tensors.

        Returns:
            A function that returns fresh inputs for each call of ``generate``.
        """
        encode = getattr(self._model.base_model, "get_image_features", None)
        accepts = inspect.signature(self._model.forward).parameters
        if encode is None or "mm_encoder_outputs" not in accepts or "pixel_values" not in features:
            return lambda: dict(features)
        names = inspect.signature(encode).parameters
        image = encode(**{n: v for n, v in features.items() if n in names}, return_dict=True)
        rest = {name: value for name, value in features.items() if name != "pixel_values"}
        return lambda: {**rest, "mm_encoder_outputs": {"image": image}}

    # -- positions -------------------------------------------------------------------------

    def positions(
        self, prompt: Sequence[int], features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """The position ids that the model itself gives a prompt: int64 [length] or [axes, length].

        Images of one batch have the same layout, so those of the first one are used.
        """
        rope_index = getattr(self._inner, "get_rope_index", None)
        if rope_index is None or self.one_axis or "image_grid_thw" not in features:
            # Without an image all axes count the same positions.
            return torch.arange(len(prompt))
        ids = torch.tensor([list(prompt)], device=input_device(self._model))
        kinds = self.is_image(ids).int()
        grid = features["image_grid_thw"][:1]
        positions, _ = rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grid)
        return torch.as_tensor(positions)[:, 0].cpu()

    # -- masks -----------------------------------------------------------------------------

    def can_pack(self, packed: PackedPrompts, new_tokens: int) -> bool:
        """Whether these prompts can be packed without changing a number.

        Args:
            packed: the packed prompts.
            new_tokens: how many tokens may be generated after each.
        """
        if self.is_image(packed.ids[packed.prefix :]).any():
            return False
        longest = int(packed.prompt_positions().max()) + 1 + new_tokens
        return self._window is None or longest <= self._window or self._mask_by_layer

    def can_continue(self, packed: PackedPrompts) -> bool:
        """Whether the prompts have a shared prefix that holds the whole image."""
        in_tails = bool(self.is_image(packed.ids[packed.prefix :]).any())
        return packed.prefix > 0 and not in_tails

    def has_causal_prefix(self, packed: PackedPrompts) -> bool:
        """Whether the prefix is causal and the tails see all of it."""
        longest = int(packed.prompt_positions().max()) + 1
        in_window = self._window is None or longest <= self._window
        return self._type not in _BIDIRECTIONAL_IMAGES and in_window

    def masks(self, packed: PackedPrompts, count: int) -> _Mask:
        """The mask of a packed sequence: bool [images, 1, length, length], or one by layer type."""
        mask = packed.mask
        if self._type in _BIDIRECTIONAL_IMAGES:
            mask = with_mutual_attention(mask, self.is_image(packed.ids))
        positions = packed.prompt_positions()
        return self._by_layer(mask, positions, positions, count)

    def step_masks(self, packed: PackedPrompts, step: int, count: int) -> _Mask:
        """As :meth:`masks`, for the ``step``-th generated token: [images, 1, K, all so far]."""
        columns = packed.prompt_positions(step)
        return self._by_layer(packed.step_mask(step), columns[-len(packed.last) :], columns, count)

    def _by_layer(
        self, mask: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, count: int
    ) -> _Mask:
        def for_batch(one: torch.Tensor) -> torch.Tensor:
            return one.to(input_device(self._model)).expand(count, 1, -1, -1)

        if self._window is None or not self._mask_by_layer:
            return for_batch(mask)
        near = windowed(mask, rows, columns, self._window)
        return {"full_attention": for_batch(mask), "sliding_attention": for_batch(near)}
