"""Composers in DIOR's own space: the LVLM reads the change before it is asked for its word.

The LVLM sees the picture and reads "After this change: the same in green. Describe this image in
one word regarding color:". Its hidden state before the answer is searched for in the gallery's
table of that condition. No text encoder takes part, so the gallery needs no base vectors.

That is ``dior``. Small models cannot imagine a change well; ``dior-split`` asks less of them. The
change alone is embedded as a text under every condition. If the word that the model says is one of
the change's own ("green" under color), the change names that condition, and the text's vector is
searched for there. Under all other conditions the picture's own vector is searched for. "The same
fabric as this, but red" is then the picture's fabric and the words' color. A condition that the
change names next to such a word ("a pink background") counts as named even if the model said that
word only under another condition; the word alone is then embedded there.

Under several conditions the score is the mean cosine, not the standardised one of
:mod:`query.ranking.combination`: a condition in which a gallery's pictures do not differ should
not weigh as much as one in which they do (measured in docs/compose.md).
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
from query.composers.base import compose_settings


def read_changed_picture(
    encoder: BaseEncoder, image: Image.Image, change: str, conditions: Sequence[Condition]
) -> Embeddings:
    """Embed a picture with a prompt that tells the model of a change.

    Args:
        encoder: the encoder of the gallery's tables.
        image: RGB.
        change: the change in words.
        conditions: at least one.

    Returns:
        Vectors float32 [1, conditions, dim], unit rows, comparable to the gallery's, and the word
        that the model says of the changed picture under each condition.

    Raises:
        UsageError: if the change cannot be read, or the encoder is not by the method dior or
            embedder.
        ModelError: if the model cannot embed under a condition.
    """
    from ingest.encoders.methods.dior import DiorEncoder
    from ingest.encoders.methods.embedder import EmbedderEncoder

    if isinstance(encoder, EmbedderEncoder):
        return encoder.embed_composed([image], change, conditions)

    if not isinstance(encoder, DiorEncoder):
        raise UsageError(
            f"The composer dior asks a large vision-language model, and the gallery's vectors are "
            f"by {encoder.spec.method}; choose another --composer."
        )
    # Prompts use braces for the place of the condition.
    plain = " ".join(change.replace("{", "(").replace("}", ")").split()).rstrip(". ")
    check_text(plain)
    encoder.check_special_tokens("modification", plain)
    encoder.check_vocabulary(plain)
    form = compose_settings()["prompts"]["dior"]["changed"]
    changed = encoder.with_question(lambda question: form.format(change=plain, question=question))
    changed.check_prompt_length([image], conditions)
    return changed.embed([image], conditions)


def conditions_in_change(
    change: str,
    conditions: Sequence[str],
    words: Sequence[str],
    changed_words: Callable[[], Sequence[str]],
    is_gallery_word: Callable[[int], bool] = lambda number: True,
) -> dict[int, str]:
    """The conditions that a change is about, and the text to embed under each.

    These are the conditions under which the model, given the change alone, says one of its words.
    A red background makes it say red under color as well. So among the conditions with the same
    word, the first of these groups that is not empty counts: those that the change names next to
    the word; those that it names anywhere; those under which the model says the same word of the
    picture after the change; those under which some picture of the gallery has that word; all.

    Args:
        change: the change in words.
        conditions: their names.
        words: the model's word for the change alone, under each condition.
        changed_words: gives its words for the picture after the change; called only if needed.
        is_gallery_word: whether the word for the change is one of the gallery's words under a
            condition, by the condition's number.

    Returns:
        Condition numbers, rising, to the text to embed in place of the picture: the change, or
        the one word for a condition under which the model did not say it.
    """
    change_words = re.findall(r"[\w'-]+", change.casefold())
    inside = [n for n, word in enumerate(words) if _contains(change_words, word)]
    found: dict[int, str] = {}
    for word in dict.fromkeys(words[n].casefold() for n in inside):
        group = [n for n in inside if words[n].casefold() == word]
        next_to = [n for n, name in enumerate(conditions) if _next_to(word, name, change_words)]
        if next_to:
            found |= {n: change if n in group else word for n in next_to}
            continue
        named = [n for n in group if any(same_name(conditions[n], each) for each in change_words)]
        if len(group) > 1 and not named:
            after = changed_words()
            named = [n for n in group if after[n].casefold() == word]
            named = named or [n for n in group if is_gallery_word(n)]
        found |= dict.fromkeys(named or group, change)
    return dict(sorted(found.items()))


def vectors_from_words(
    encoder: BaseEncoder,
    change: str,
    texts: Mapping[int, str],
    embeddings: Embeddings,
    conditions: Sequence[Condition],
) -> dict[int, tuple[NDArray[np.float32], str]]:
    """The vectors of the words, under the conditions that a change is about.

    Args:
        encoder: the encoder of the gallery's tables.
        change: the change in words.
        texts: the texts from :func:`conditions_in_change`.
        embeddings: the change alone, embedded under all conditions.
        conditions: all of them.

    Returns:
        Condition number to the vector, float32 [dim], unit length, and the model's word.

    Raises:
        UsageError: if a word cannot be embedded by itself.
        ModelError: if the model cannot embed under a condition.
    """
    found = {}
    for number, text in texts.items():
        source, at = embeddings, number
        if text != change:
            source, at = encoder.embed_text([text], [conditions[number]]), 0
        found[number] = source.vectors[0, at], source.words[0][at]
    return found


def _next_to(word: str, name: str, words: Sequence[str]) -> bool:
    """Whether a name comes just before or after a word: "pink background", "color to red"."""
    plain = [each for each in words if each not in ("to", "is")]
    places = [n for n, each in enumerate(plain) if _contains([each], word)]
    near = [plain[at] for n in places for at in (n - 1, n + 1) if 0 <= at < len(plain)]
    return any(same_name(name, each) for each in near)


def _contains(words: Sequence[str], word: str) -> bool:
    """Whether a word is among some words, in the singular or the plural."""
    plain = word.casefold()
    return bool(plain) and any(plain == w or f"{plain}s" == w or plain == f"{w}s" for w in words)
