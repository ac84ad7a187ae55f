"""A composed query in DIOR's own space: the model is told of the change, then asked as always.

The LVLM sees the picture and reads "After this change: the same in green. Describe this image in
one word regarding color:", and what it has in mind before it answers is looked for in the
gallery's table of that condition. No text encoder has a part, so that the gallery needs no base
vectors.

That is ``dior``. Small models are not good at imagining; ``dior-split`` asks them for less. The
change alone is read in a picture's place, under every condition. Where the word the model says is
one of the change's own ("green" under color), the change speaks of that condition, and what the
words gave is looked for there; under all other conditions the picture as it is. "The same fabric
as this, but red" is then the picture's fabric and the words' color. A condition that the change
names beside such a word ("a pink background") is spoken of even if the model said that word under
another one alone; the word by itself is read there.

Under several conditions the score is the mean cosine, not the standardised one of
:mod:`query.ranking.combination`: a condition in which a gallery's pictures do not differ should not weigh
as much as one in which they do (measured in docs/compose.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from ingest.conditions import Condition, same_name
from ingest.encoders.base import BaseEncoder, Embeddings, check_text
from query.composers.base import settings


def read_changed_picture(
    encoder: BaseEncoder, image: Image.Image, change: str, conditions: Sequence[Condition]
) -> Embeddings:
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
    from ingest.encoders.methods.dior import DiorEncoder

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
    return told.embed([image], conditions)


def conditions_in_change(
    change: str,
    conditions: Sequence[str],
    said: Sequence[str],
    imagined: Callable[[], Sequence[str]],
    familiar: Callable[[int], bool] = lambda number: True,
) -> dict[int, str]:
    """The conditions that a change speaks of, and what of it is to be read under each.

    Those under which the model, shown the change alone, says one of its words. A red background
    makes it say red under color as well; so of those under which it says the same word, the change
    speaks of the ones that it names beside the word, or else names at all, else of those under
    which the model says the same of the picture after the change, else of those under which some
    picture of the gallery goes by that word, if there are any.

    Args:
        change: in words.
        conditions: their names.
        said: the model's word for the change alone, under each.
        imagined: gives its word for the picture after the change, under each; called if needed.
        familiar: whether the word for the change is one of the gallery's under a condition.

    Returns:
        Numbers of conditions, rising, to the text that is to be read in the picture's place: the
        change, or the one word that it has for a condition under which the model did not say it.
    """
    words = re.findall(r"[\w'-]+", change.casefold())
    inside = [n for n, word in enumerate(said) if _among(word, words)]
    found: dict[int, str] = {}
    for word in dict.fromkeys(said[n].casefold() for n in inside):
        group = [n for n in inside if said[n].casefold() == word]
        beside = [n for n, name in enumerate(conditions) if _beside(word, name, words)]
        if beside:
            found |= {n: change if n in group else word for n in beside}
            continue
        named = [n for n in group if any(same_name(conditions[n], each) for each in words)]
        if len(group) > 1 and not named:
            told = imagined()
            named = [n for n in group if told[n].casefold() == word]
            named = named or [n for n in group if familiar(n)]
        found |= dict.fromkeys(named or group, change)
    return dict(sorted(found.items()))


def vectors_from_words(
    encoder: BaseEncoder,
    change: str,
    spoken: Mapping[int, str],
    read: Embeddings,
    conditions: Sequence[Condition],
) -> dict[int, tuple[NDArray[np.float32], str]]:
    """What the words give under the conditions that a change speaks of.

    Args:
        encoder: that made the gallery's tables.
        change: in words.
        spoken: as :func:`conditions_in_change` gives it.
        read: the change alone, read under all conditions.
        conditions: all of them.

    Returns:
        Number of a condition to its vector, float32 [dim], of unit length, and the model's word.

    Raises:
        UsageError: if a word cannot be read by itself.
        ModelError: if the model cannot serve a condition.
    """
    found = {}
    for number, text in spoken.items():
        source, at = read, number
        if text != change:
            source, at = encoder.embed_text([text], [conditions[number]]), 0
        found[number] = source.vectors[0, at], source.words[0][at]
    return found


def _beside(word: str, name: str, words: Sequence[str]) -> bool:
    """Whether a name stands just before or after a word: "pink background", "color to red"."""
    plain = [each for each in words if each not in ("to", "is")]
    places = [n for n, each in enumerate(plain) if _among(word, [each])]
    near = [plain[at] for n in places for at in (n - 1, n + 1) if 0 <= at < len(plain)]
    return any(same_name(name, each) for each in near)


def _among(word: str, words: Sequence[str]) -> bool:
    """Whether a word stands in a text, in the singular or the plural."""
    plain = word.casefold()
    return bool(plain) and any(plain == w or f"{plain}s" == w or plain == f"{w}s" for w in words)
