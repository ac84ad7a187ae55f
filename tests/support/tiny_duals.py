"""Tiny random-weight dual encoders of several families, in the standard on-disk format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from support.tiny_models import make_tokenizer
from support.tiny_parts import SPREAD, awaken


def _tokenizer(**more: Any) -> Any:
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    return make_tokenizer(special, "", eos_token="</s>", pad_token="<pad>", **more)


def _sizes(tokenizer: Any, places: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": places,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    }


def _eyes(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return {**sizes, "num_attention_heads": 4, "patch_size": 14, **more}


def _widened(model: Any) -> Any:
    """Draw weights with a large deviation, so that inputs have an effect."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=draw) * SPREAD)
    awaken(model)
    return model


def save_siglip(folder: Path) -> Path:
    """A SigLIP: pictures of 56 by 56, texts of 16 tokens."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    tokenizer = _tokenizer(model_max_length=16)
    config = SiglipConfig(text_config=_sizes(tokenizer, 16), vision_config=_eyes(image_size=56))
    _widened(SiglipModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


def save_siglip2(folder: Path) -> Path:
    """A SigLIP2 that keeps the aspect ratio, with a tokenizer without a maximum length."""
    from transformers import Siglip2Config, Siglip2ImageProcessorPil, Siglip2Model

    tokenizer = _tokenizer()
    config = Siglip2Config(text_config=_sizes(tokenizer, 16), vision_config=_eyes(num_patches=16))
    _widened(Siglip2Model(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Siglip2ImageProcessorPil(patch_size=14, max_num_patches=16).save_pretrained(folder)
    return folder


def save_align(folder: Path) -> Path:
    """A dual encoder unlike CLIP: a BERT and a vision transformer."""
    from transformers import (
        BertConfig,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
        ViTConfig,
        ViTImageProcessorPil,
    )

    tokenizer = _tokenizer(model_max_length=32)
    text = BertConfig(**_sizes(tokenizer, 32))
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**_eyes(image_size=56)), text, projection_dim=24
    )
    _widened(VisionTextDualEncoderModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


def save_bge_vl(folder: Path) -> Path:
    """A CLIP in the layout of BGE-VL, whose config.json names code that must not run."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = _tokenizer(model_max_length=32)
    text = _sizes(tokenizer, 32)
    config = CLIPConfig(text_config=text, vision_config=_eyes(image_size=56), projection_dim=24)
    _widened(CLIPModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    ).save_pretrained(folder)
    path = folder / "config.json"
    written = json.loads(path.read_text())
    written["auto_map"] = {"AutoModel": "modeling_MMRet_CLIP.CLIPModel"}
    path.write_text(json.dumps(written))
    (folder / "modeling_MMRet_CLIP.py").write_text("raise RuntimeError('this code must not run')\n")
    return folder


def save_metaclip_2(folder: Path) -> Path:
    """A MetaCLIP 2."""
    from transformers import CLIPImageProcessorPil, MetaClip2Config, MetaClip2Model

    tokenizer = _tokenizer(model_max_length=32)
    text = _sizes(tokenizer, 32)
    config = MetaClip2Config(
        text_config=text, vision_config=_eyes(image_size=56), projection_dim=24
    )
    _widened(MetaClip2Model(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    ).save_pretrained(folder)
    return folder


def save_tipsv2(folder: Path) -> Path:
    """A TIPSv2, whose own image processor needs torchvision."""
    from transformers import Tipsv2Config, Tipsv2Model

    tokenizer = _tokenizer(model_max_length=16)
    config = Tipsv2Config(text_config=_sizes(tokenizer, 16), vision_config=_eyes(image_size=56))
    _widened(Tipsv2Model(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _save_pictures(folder, "Tipsv2ImageProcessor", do_normalize=False)
    return folder


def _save_pictures(folder: Path, kind: str, **more: Any) -> None:
    """The settings of an image processor that resizes to 56 by 56."""
    size = {"height": 56, "width": 56}
    settings = {"image_processor_type": kind, "size": size, "resample": 2, "do_rescale": True}
    settings |= {"do_resize": True, "rescale_factor": 1 / 255, **more}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


#: Mean and deviation of the colors of ImageNet.
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def save_vision(kind: str, folder: Path) -> Path:
    """A model of pictures alone: of DINOv2 or DINOv3, or a vit without a pooler."""
    import transformers as tf

    normal = {
        "do_center_crop": False,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": DEVIATION,
    }
    if kind == "dinov3_convnext":
        convolutions = tf.DINOv3ConvNextConfig(hidden_sizes=[16, 16, 24, 24], depths=[1, 1, 1, 1])
        model = tf.DINOv3ConvNextModel(convolutions)
    elif kind == "dinov3_vit":
        model = tf.DINOv3ViTModel(tf.DINOv3ViTConfig(**_eyes(image_size=56), num_register_tokens=2))
    elif kind == "dinov2":
        model = tf.Dinov2Model(tf.Dinov2Config(**_eyes(image_size=56)))
    else:
        model = tf.ViTModel(tf.ViTConfig(**_eyes(image_size=56)), add_pooling_layer=False)
    _widened(model).save_pretrained(folder)
    names = {"dinov2": "BitImageProcessor", "vit": "ViTImageProcessor"}
    _save_pictures(folder, names.get(kind, "DINOv3ViTImageProcessorFast"), **normal)
    return folder


SAVERS = {
    "siglip": save_siglip,
    "siglip2": save_siglip2,
    "vision-text": save_align,
    "bge-vl": save_bge_vl,
    "metaclip_2": save_metaclip_2,
    "tipsv2": save_tipsv2,
}
