"""Processors assembled from parts, and images encoded without tiles."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import transformers as tf
from PIL import Image
from support.tiny_reference import Tiny

from indexes.errors import ModelError
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice
from ingest.encoders.vlm.assembled_processor import AssembledProcessor
from ingest.encoders.vlm.processors import PromptWriter, untiled


@pytest.mark.parametrize("tiny", ["aya_vision", "idefics3", "internvl", "smolvlm"], indirect=True)
def test_pictures_are_not_tiled(tiny: Tiny, pictures: list[Image.Image]) -> None:
    """These tiny models are saved with tiling on, like most published ones."""
    processor = tiny.encoder._loaded.processor
    writer = PromptWriter(processor, ["describe"])
    sizes = {tuple(writer.prepare(p).features["pixel_values"].shape) for p in pictures}
    assert len(sizes) == 1
    assert sizes.pop()[-4:] == (1, 3, 56, 56)


OWN = {
    "glm4v": tf.Glm4vProcessor,
    "internvl": tf.InternVLProcessor,
    "llava_onevision": tf.LlavaOnevisionProcessor,
    "qwen2_vl": tf.Qwen2VLProcessor,
    "qwen2_5_vl": tf.Qwen2_5_VLProcessor,
    "qwen3_vl": tf.Qwen3VLProcessor,
    "qwen3_vl_moe": tf.Qwen3VLProcessor,
    "smolvlm": tf.SmolVLMProcessor,
}


@pytest.mark.parametrize("tiny", list(OWN), indirect=True)
def test_composed_text_is_what_the_own_processor_writes(
    tiny: Tiny, pictures: list[Image.Image]
) -> None:
    """The family's own processor cannot be built here, but its method for image text can be run."""
    composed, config = tiny.encoder._loaded.processor, tiny.encoder._loaded.model.config
    assert isinstance(composed, AssembledProcessor)
    tokenizer = composed.tokenizer
    mark = tokenizer.convert_ids_to_tokens(config.image_token_id)
    own = object.__new__(OWN[tiny.name])
    side = SimpleNamespace(
        image_token=mark,
        image_processor=composed.image_processor,
        start_image_token="<img>",
        end_image_token="</img>",
        image_seq_length=4,
        image_seq_len=4,
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio=getattr(config, "vision_aspect_ratio", ""),
    )
    vars(own).update(vars(side))
    more = {"return_row_col_info": True} if tiny.name == "smolvlm" else {}
    for picture in [*pictures, Image.new("RGB", (230, 58)), Image.new("RGB", (57, 199))]:
        seen = composed.image_processor(
            images=[picture], return_tensors="pt", **more, **untiled(composed)
        )
        written = own.replace_image_token(seen, 0)
        known = tokenizer([written], add_special_tokens=False)["input_ids"][0]
        options = {"add_special_tokens": False, **untiled(composed)}
        ours = composed(text=[mark], images=[picture], **options)["input_ids"]
        assert ours[0].tolist() == known


@pytest.mark.parametrize(
    ("tiny", "patch"), [("mistral3", 28), ("llava-pixtral", 28)], indirect=["tiny"]
)
def test_composed_text_of_pixtral(tiny: Tiny, patch: int) -> None:
    """The family's processor module cannot be imported here; its format is written by hand."""
    composed = tiny.encoder._loaded.processor
    inputs = composed(text=["[IMG] color"], images=[Image.new("RGB", (112, 56))])
    row = ["[IMG]"] * (112 // patch)
    written = [*row, "[IMG_BREAK]", *row, "[IMG_END]", "color"]
    assert composed.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist()) == written
    assert tuple(inputs["pixel_values"].shape[-2:]) == (56, 112)


@pytest.mark.parametrize("tiny", ["llava"], indirect=True)
def test_processor_that_cannot_be_built_says_what_is_missing(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("\nSomeProcessor requires the Torchvision library but it was not found.")

    monkeypatch.setattr(tf.AutoProcessor, "from_pretrained", missing)
    with pytest.raises(
        ModelError, match=r"needs torchvision; install it with `pip install 'cies\[vision\]'`"
    ):
        DiorEncoder.load(EncoderChoice("dior", str(tiny.folder)))
