"""Models whose image processor needs torchvision, and the others where it is installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import transformers as tf
from PIL import Image
from support.family_table import TABLE
from support.tiny_reference import Tiny

from indexes.errors import ModelError
from ingest.encoders.models.find import find_model
from ingest.encoders.models.loading import load_config
from ingest.encoders.vlm.processors import load_processor

NEEDY = [
    entry["type"]
    for entry in json.loads(TABLE.read_text(encoding="utf-8"))["families"]
    if entry["state"] == "needs torchvision"
]


@pytest.mark.parametrize("model_type", NEEDY)
def test_a_model_that_needs_torchvision_names_the_extra(
    model_type: str, qwen_folder: Path, tmp_path: Path
) -> None:
    """Whichever way its processor is built; the tokenizer is in order."""
    for path in qwen_folder.iterdir():
        if path.name.startswith(("tokenizer", "chat_template")):
            shutil.copy(path, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    source = find_model(str(tmp_path))
    with pytest.raises(ModelError) as refused:
        load_processor(source, tf.CONFIG_MAPPING[model_type]())
    assert str(refused.value) == (
        f"The image processor of {tmp_path} needs torchvision; install it with "
        "`pip install 'cies[vision]'`, or name another model."
    )


@pytest.mark.parametrize(
    "tiny", ["llava", "idefics3", "gemma3", "mllama", "llava_next", "paligemma"], indirect=True
)
def test_torchvision_changes_no_picture(
    tiny: Tiny, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is installed, AutoProcessor takes torchvision's resizing; we do not."""
    asked: list[str | None] = []
    real = tf.AutoImageProcessor.from_pretrained

    def load(*given: object, **options: object) -> object:
        asked.append(options.get("backend"))  # type: ignore[arg-type]
        return real(*given, **options)

    monkeypatch.setattr(tf.AutoImageProcessor, "from_pretrained", load)
    monkeypatch.setattr("transformers.utils.is_torchvision_available", lambda: True)
    source = find_model(str(tiny.folder))
    processor = load_processor(source, load_config(source))
    assert asked[-1] == "pil"
    before = tiny.encoder.processor.image_processor(pictures[0], return_tensors="pt")
    after = processor.image_processor(pictures[0], return_tensors="pt")
    assert type(processor.image_processor) is type(tiny.encoder.processor.image_processor)
    assert (before["pixel_values"] == after["pixel_values"]).all()
