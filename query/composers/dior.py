"""A composed query in DIOR's own space: the model is told of the change, then asked as always.

The LVLM sees the picture and reads "After this change: the same in green. Describe this image in
one word regarding color:", and what it has in mind before it answers is looked for in the
gallery's table of that condition. No text encoder has a part, so that the gallery needs no base
vectors.

That is ``dior``. Small models are not good at imagining; ``dior-split`` asks them for less. The
change alone is read in a picture's place, under every condition. Where the word the model says is
one of the change's own ("green" under color), the change speaks of that condition, and what the
words gave is looked for there; under all other conditions the picture as it is. "The same fabric
as this, but red" is then the picture's fabric and the words' color.

Under several conditions the score is the mean cosine, not the standardised one of
:mod:`query.arithmetic`: a condition in which a gallery's pictures do not differ should not weigh
as much as one in which they do (measured in docs/compose.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from PIL import Image

from indexes.errors import UsageError
from ingest.conditions import Condition, same_name
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
    encoder.check_words(plain)
    form = settings()["prompts"]["dior"]["changed"]
    told = encoder.changed(lambda question: form.format(change=plain, question=question))
    told.check_length([image], conditions)
    return told.read([image], conditions)


def spoken_of(
    change: str,
    conditions: Sequence[str],
    said: Sequence[str],
    imagined: Callable[[], Sequence[str]],
    familiar: Callable[[int], bool] = lambda number: True,
) -> list[int]:
    """The conditions that a change speaks of, by their numbers.

    Those under which the model, shown the change alone, says one of its words. A red background
    makes it say red under color as well; so if the change names some of them, it is these, else
    those under which the model says the same of the picture after the change, else those under
    which some picture of the gallery goes by that word, if there are any.

    Args:
        change: in words.
        conditions: their names.
        said: the model's word for the change alone, under each.
        imagined: gives its word for the picture after the change, under each; called if needed.
        familiar: whether the word for the change is one of the gallery's under a condition.
    """
    words = re.findall(r"[\w'-]+", change.casefold())
    inside = [n for n, word in enumerate(said) if _among(word, words)]
    if len(inside) < 2:
        return inside
    named = [n for n in inside if any(same_name(conditions[n], word) for word in words)]
    if named:
        return named
    told = imagined()
    agreeing = [n for n in inside if told[n].casefold() == said[n].casefold()]
    return agreeing or [n for n in inside if familiar(n)] or inside


def _among(word: str, words: Sequence[str]) -> bool:
    """Whether a word stands in a text, in the singular or the plural."""
    plain = word.casefold()
    return bool(plain) and any(plain == w or f"{plain}s" == w or plain == f"{w}s" for w in words)
