"""What a model has to be told beside its tokens: positions, masks, which tokens are the picture.

All of it follows from the token ids and the picture's tensors, so it is worked out here for a
plain prompt, for the packed sequence and for the words said after it alike.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Mapping, Sequence

import torch

from ingest.encoders.vlm.packing import PackedPrompts, see_each_other, windowed

#: Families that read the whole prompt both ways, and mark it with token type 0.
_PREFIX_READERS = frozenset({"paligemma"})

#: Families whose picture tokens see each other both ways.
_PICTURE_BOTH_WAYS = frozenset({"gemma3"})

#: Families tested with one mask for the layers with a window and one for the others.
_TAKES_MASK_BY_LAYER = frozenset({"gemma3"})

_Mask = torch.Tensor | dict[str, torch.Tensor]


def input_device(model: Any) -> torch.device:
    """Where a model takes its tokens: where they are embedded, if it is spread over devices."""
    embedding = model.get_input_embeddings()
    device: torch.device = embedding.weight.device
    if device.type == "meta":
        # Weights kept elsewhere are fetched to this device when they are needed.
        device = torch.device(embedding._hf_hook.execution_device)
    return device


class ModelInputs:
    """Works out the inputs of one loaded model."""

    def __init__(self, model: Any):
        self._model = model
        self._type = model.config.model_type
        inner = getattr(model, "model", model)
        self._accepts = set(inspect.signature(inner.forward).parameters)
        self._looks_aside = {"cross_attention_mask", "aspect_ratio_mask"} <= self._accepts
        text = model.config.get_text_config()
        kinds = set(getattr(text, "layer_types", None) or ())
        window = getattr(text, "sliding_window", None)
        self._window = window if not kinds or "sliding_attention" in kinds else None
        self._by_kind = self._type in _TAKES_MASK_BY_LAYER and self._window is not None

    # -- of tokens -------------------------------------------------------------------------

    def is_picture(self, ids: torch.Tensor) -> torch.Tensor:
        """Which tokens stand for the picture: bool, shaped as ``ids``."""
        return torch.as_tensor(ids == self._model.config.image_token_id)

    def of_tokens(
        self, ids: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Token inputs of whole prompts.

        Args:
            ids: int64 [pictures, length].
            features: the pictures' tensors.
        """
        hints = self.of_packed(ids, features)
        for name in self._accepts & {"mm_token_type_ids", "token_type_ids"}:
            prefix = self._type in _PREFIX_READERS
            hints[name] = torch.zeros_like(ids) if prefix else self.is_picture(ids).int()
        return hints

    def of_packed(
        self, ids: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Token inputs of a packed sequence, whose masks and positions say the rest.

        Args:
            ids: int64 [pictures, length].
            features: the pictures' tensors.
        """
        if not self._has_aside(features):
            return {}
        return self._cross(self.is_picture(ids).cumsum(-1) > 0, features)

    def of_said(
        self, ids: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Token inputs of words said after a packed sequence: as :meth:`of_packed`."""
        if not self._has_aside(features):
            return {}
        return self._cross(torch.ones_like(ids, dtype=torch.bool), features)

    def _has_aside(self, features: Mapping[str, torch.Tensor]) -> bool:
        """Whether there is a picture, and the model sees it beside the text and not in it."""
        return self._looks_aside and "aspect_ratio_mask" in features

    def _cross(
        self, sees: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Which tiles of the picture each token sees: [pictures, length, 1, tiles]."""
        tiles = features["aspect_ratio_mask"]
        return {"cross_attention_mask": sees[:, :, None, None].to(tiles) * tiles[:, None]}

    # -- pictures --------------------------------------------------------------------------

    def seen(self, features: Mapping[str, torch.Tensor]) -> Callable[[], dict[str, Any]]:
        """Look at the pictures now, so that passes over several prompts need not do so again.

        Where the model does not take what it saw, it is given the pictures themselves each time.

        Args:
            features: the pictures' tensors.

        Returns:
            A function that gives ``generate`` its inputs, anew for each call.
        """
        look = getattr(self._model.base_model, "get_image_features", None)
        takes = inspect.signature(self._model.forward).parameters
        if look is None or "mm_encoder_outputs" not in takes or "pixel_values" not in features:
            return lambda: dict(features)
        wanted = inspect.signature(look).parameters
        image = look(**{n: v for n, v in features.items() if n in wanted}, return_dict=True)
        rest = {name: value for name, value in features.items() if name != "pixel_values"}
        return lambda: {**rest, "mm_encoder_outputs": {"image": image}}

    # -- positions -------------------------------------------------------------------------

    def positions(
        self, prompt: Sequence[int], features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """The position ids the model itself gives a prompt: int64 [length] or [axes, length].

        Pictures of one batch have the same layout, so the first one's serves for all.
        """
        own = getattr(self._model.model, "get_rope_index", None)
        if own is None or "image_grid_thw" not in features:
            # Without a picture all axes count alike.
            return torch.arange(len(prompt))
        ids = torch.tensor([list(prompt)], device=input_device(self._model))
        kinds = self.is_picture(ids).int()
        grid = features["image_grid_thw"][:1]
        positions, _ = own(ids, mm_token_type_ids=kinds, image_grid_thw=grid)
        return torch.as_tensor(positions)[:, 0].cpu()

    # -- masks -----------------------------------------------------------------------------

    def can_share(self, packed: PackedPrompts, words: int) -> bool:
        """Whether these prompts can be packed without changing a number.

        Args:
            packed: the packed prompts.
            words: how many tokens may be said after each.
        """
        if self.is_picture(packed.ids[packed.prefix :]).any():
            return False
        longest = int(packed.places().max()) + 1 + words
        return self._window is None or longest <= self._window or self._by_kind

    def is_tree(self, packed: PackedPrompts) -> bool:
        """Whether the mask is the bare tree: a causal prefix, and tails that see it all."""
        both_ways = self._type in _PICTURE_BOTH_WAYS
        longest = int(packed.places().max()) + 1
        return not both_ways and (self._window is None or longest <= self._window)

    def masks(self, packed: PackedPrompts, count: int) -> _Mask:
        """The tree mask of a packed sequence: bool [pictures, 1, length, length], or by layer."""
        mask = packed.mask
        if self._type in _PICTURE_BOTH_WAYS:
            mask = see_each_other(mask, self.is_picture(packed.ids))
        return self._by_layer(mask, packed.places(), packed.places(), count)

    def step_masks(self, packed: PackedPrompts, step: int, count: int) -> _Mask:
        """As :meth:`masks`, for the ``step``-th word token: [pictures, 1, K, all so far]."""
        columns = packed.places(step)
        return self._by_layer(packed.step_mask(step), columns[-len(packed.last) :], columns, count)

    def _by_layer(
        self, mask: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, count: int
    ) -> _Mask:
        def placed(one: torch.Tensor) -> torch.Tensor:
            return one.to(input_device(self._model)).expand(count, 1, -1, -1)

        if self._window is None or not self._by_kind:
            return placed(mask)
        near = windowed(mask, rows, columns, self._window)
        return {"full_attention": placed(mask), "sliding_attention": placed(near)}
