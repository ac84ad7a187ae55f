"""A composed query in DIOR's own space: the model is told of the change, then asked as always.

The LVLM sees the picture and reads "After this change: the same in green. Describe this image in
one word regarding color:", and what it has in mind before it answers is looked for in the
gallery's table of that condition. No text encoder has a part, so that the gallery needs no base
vectors; and whoever names conditions says with them what of the picture shall be kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from indexes.errors import UsageError
from ingest.conditions import Condition
from ingest.encoders.base import Encoder, Reading, check_text
from query.composers.base import settings


def read_changed(
    encoder: Encoder, image: Image.Image, change: str, conditions: Sequence[Condition]
) -> Reading:
    """What a gallery's encoder has in mind of a picture after a change.

    Args:
        encoder: that made the gallery's tables.
        image: RGB.
        change: in words.
        conditions: at least one.

    Returns:
        Vectors float32 [1, conditions, dim], unit rows, comparable to the gallery's, and the word
        the model would say of the changed picture under each.

    Raises:
        UsageError: if the change cannot be read, or the method puts no question to a model.
        ModelError: if the model cannot serve a condition.
    """
    from ingest.encoders.dior import DiorEncoder

    if not isinstance(encoder, DiorEncoder):
        raise UsageError(
            f"The composer dior asks a large vision-language model, and the gallery's vectors are "
            f"by {encoder.spec.method}; choose another --composer."
        )
    # In braces stands what the question has for the condition's place.
    plain = " ".join(change.replace("{", "(").replace("}", ")").split()).rstrip(". ")
    check_text(plain)
    encoder.check_marks("modification", plain)
    form = settings()["prompts"]["dior"]["changed"]
    told = encoder.changed(lambda question: form.format(change=plain, question=question))
    told.check_length([image], conditions)
    return told.read([image], conditions)
