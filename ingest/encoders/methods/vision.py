"""Vision: a model of pictures alone, such as DINOv2 and DINOv3, for likeness and duplicates.

No words take part: the vector is the model's pooled state of the whole picture, the same under
every condition. Texts cannot be queries.
"""

from __future__ import annotations

from ingest.encoders.methods.clip import ClipEncoder


class VisionEncoder(ClipEncoder):
    """A model of transformers that embeds pictures only."""

    METHOD = "vision"
    EMBEDS_TEXTS = False
