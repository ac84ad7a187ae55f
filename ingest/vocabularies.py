"""The words that the values of a condition go by: red, green ... for color.

A view of base vectors is worked out from such a list, so that a condition costs no pass over the
pictures. A list is the gallery's own (made on the spot, or edited by the user), or one of those
shipped in ``configs/words``, which we wrote from general knowledge.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Iterable, Mapping, Protocol, Sequence

from indexes.errors import GalleryError, UsageError
from indexes.store.gallery import Gallery
from ingest.conditions import UNCONDITIONAL, Condition, folded, same_name

#: What a template has where the word goes.
PLACE = "{word}"

#: What is said of a word where nobody wrote a template for its condition.
DEFAULT_TEMPLATE = "a photo, {condition}: {word}"

#: The source of a list that comes with CIES, and of one that the user wrote.
SHIPPED, EDITED = "shipped", "edited"

#: Fewer words tell nothing apart, and more are no list of values any more.
MIN_WORDS, MAX_WORDS = 2, 2000

MAX_CHARACTERS = 100


@dataclass(frozen=True)
class Vocabulary:
    """The values of a condition in words.

    Attributes:
        condition: the list's name; what the user typed may be an alias of it.
        words: the values, each once.
        template: a sentence with ``{word}`` in one place.
        source: ``shipped``, ``edited``, or ``made by MODEL``.
    """

    condition: str
    words: tuple[str, ...]
    template: str
    source: str

    @property
    def texts(self) -> list[str]:
        """The template filled with each word; "a {word}" is "an orange", where it must be."""
        return [_filled(self.template, word) for word in self.words]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any text, and with their order."""
        content = json.dumps(self.texts, ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def _filled(template: str, word: str) -> str:
    before, _, after = template.partition(PLACE)
    if word[:1].lower() in tuple("aeio") and f" {before.lower()}".endswith(" a "):
        before = f"{before[:-1]}n "
    return f"{before}{word}{after}"


class Lister(Protocol):
    """Anything that makes a list of words up, such as a language model."""

    @property
    def model(self) -> str:
        """Who makes it, for people."""

    def __call__(self, condition: str) -> Sequence[str]:
        """Values of a condition.

        Raises:
            ModelError: if it knows none.
        """


@dataclass(frozen=True)
class Shipped:
    """A list that comes with CIES.

    Attributes:
        vocabulary: the list.
        aliases: other names of its condition.
        theme: the file of ``configs/words`` it stands in.
    """

    vocabulary: Vocabulary
    aliases: tuple[str, ...]
    theme: str


@cache
def shipped() -> dict[str, Shipped]:
    """The lists of ``configs/words`` by name, in order of theme and place."""
    found: dict[str, Shipped] = {}
    files = resources.files("configs").joinpath("words").iterdir()
    for file in sorted(files, key=lambda one: one.name):
        if file.name.endswith(".toml"):
            entries = tomllib.loads(file.read_text(encoding="utf-8"))
            for name, entry in entries.items():
                words = tuple(" ".join(w.split()) for w in entry["words"].split(","))
                vocabulary = Vocabulary(name, words, entry["template"], SHIPPED)
                aliases = tuple(entry.get("aliases", ()))
                found[name] = Shipped(vocabulary, aliases, file.name.removesuffix(".toml"))
    return found


@cache
def _names() -> Mapping[str, str]:
    """Names and aliases, folded, to the names of shipped lists."""
    pairs = [(name, name) for name in shipped()]
    pairs += [(alias, name) for name, one in shipped().items() for alias in one.aliases]
    return {folded(alias): name for alias, name in pairs}


def list_name(condition: str) -> str:
    """The name of a condition's list: that of a shipped one for each of its aliases.

    Raises:
        UsageError: if this cannot be a condition, or is none.
    """
    name = Condition.parse(condition).name
    if name == UNCONDITIONAL:
        raise UsageError(
            f"'{UNCONDITIONAL}' asks for the picture as a whole and has no words; name a "
            "condition, such as color."
        )
    return _names().get(folded(name), name)


def vocabulary_of(
    condition: str, gallery: Gallery | None = None, lister: Lister | None = None
) -> Vocabulary:
    """The words of a condition: the gallery's own, else those shipped, else made on the spot.

    A list that is made is kept in the gallery, so that it is made once and can be edited; where
    the gallery cannot be written to now, the list's source says that it was not kept.

    Args:
        condition: as the user typed it; aliases (hue for color) share a list.
        gallery: where lists may have been made or edited.
        lister: makes a list up, such as :class:`ingest.encoders.vlm.listing.Listing`.

    Raises:
        UsageError: if there is no list and nothing to make one, naming `cies conditions edit`.
        ModelError: if the lister knows none.
    """
    name = list_name(condition)
    known = known_vocabulary(name, gallery)
    if known is not None:
        return known
    if lister is None:
        raise UsageError(
            f"No list of words is known for '{name}'; write one with "
            f'`cies conditions edit "{name}" --words "..., ..."`.'
        )
    made = made_vocabulary(name, lister)
    if gallery is not None:
        try:
            keep(gallery, made)
        except GalleryError:
            made = replace(made, source=f"{made.source}, not kept: the gallery is not writable now")
    return made


def made_vocabulary(condition: str, lister: Lister) -> Vocabulary:
    """A list made on the spot; it is kept nowhere.

    Raises:
        UsageError: if what is listed are no words.
        ModelError: if the lister knows none.
    """
    name = list_name(condition)
    words = checked_words(lister(name), f"The list that {lister.model} made for '{name}'")
    return Vocabulary(name, words, default_template(name), f"made by {lister.model}")


def known_vocabulary(condition: str, gallery: Gallery | None = None) -> Vocabulary | None:
    """As :func:`vocabulary_of`, where nothing is made up: ``None`` if there is no list."""
    name = list_name(condition)
    if gallery is not None:
        for own in own_vocabularies(gallery):
            if same_name(own.condition, name):
                return own
    one = shipped().get(name)
    return one.vocabulary if one else None


def own_vocabularies(gallery: Gallery) -> list[Vocabulary]:
    """The lists that were made or edited for a gallery, in order of name."""
    return [_from_entry(name, entry) for name, entry in gallery.words().items()]


def _from_entry(name: str, entry: Mapping[str, Any]) -> Vocabulary:
    return Vocabulary(name, tuple(entry["words"]), str(entry["template"]), str(entry["source"]))


def keep(gallery: Gallery, vocabulary: Vocabulary) -> None:
    """Store a list in the gallery, in place of the one there was.

    Raises:
        GalleryLocked: if another process is writing.
        GalleryError: if the gallery cannot be written to.
    """
    entry = {
        "words": list(vocabulary.words),
        "template": vocabulary.template,
        "source": vocabulary.source,
    }
    name = _kept_name(gallery, vocabulary.condition)
    with gallery.writer() as writer:
        writer.put_words(name, entry)


def forget(gallery: Gallery, condition: str) -> bool:
    """Take a gallery's own list out, so that the shipped one counts again; whether there was one.

    Raises:
        GalleryLocked: if another process is writing.
        GalleryError: if the gallery cannot be written to.
    """
    name = _kept_name(gallery, list_name(condition))
    if name not in gallery.words():
        return False
    with gallery.writer() as writer:
        writer.forget_words(name)
    return True


def _kept_name(gallery: Gallery, name: str) -> str:
    """The name under which a gallery has a list already, in the spelling it was first given."""
    return next((kept for kept in gallery.words() if same_name(kept, name)), name)


def default_template(condition: str) -> str:
    """The shipped template of a condition, else one that fits any."""
    one = shipped().get(list_name(condition))
    if one:
        return one.vocabulary.template
    # A name may hold braces of its own, which are no place for a word.
    plain = condition.replace(PLACE, "word")
    return DEFAULT_TEMPLATE.replace("{condition}", plain)


def checked_template(template: str) -> str:
    """A template as it is kept.

    Raises:
        UsageError: if ``{word}`` does not stand in it exactly once, or it is too long.
    """
    plain = " ".join(template.split())
    if plain.count(PLACE) != 1:
        raise UsageError(
            f"The template {template!r} has {PLACE} {plain.count(PLACE)} times; write it exactly "
            f'once, as in "a photo of a {PLACE} object".'
        )
    if len(plain) > 5 * MAX_CHARACTERS:
        raise UsageError(
            f"The template has {len(plain)} characters, {5 * MAX_CHARACTERS} are allowed; models "
            "of texts and pictures read a short sentence only."
        )
    return plain


def split_words(text: str) -> list[str]:
    """Words of a text: parted by commas, semicolons or lines; a line with # before it is none."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [word for line in lines for word in line.replace(";", ",").split(",")]


def checked_words(words: Iterable[str], what: str = "The list") -> tuple[str, ...]:
    """Words as they are kept: plain spaces, none empty, each once (in any case or spelling).

    Args:
        words: in their order.
        what: names the list in errors.

    Raises:
        UsageError: if there are too few or too many, or one is no word.
    """
    kept: dict[str, str] = {}
    for word in words:
        plain = " ".join(word.split())
        if not plain:
            continue
        if len(plain) > MAX_CHARACTERS or not plain.isprintable():
            shown = plain if len(plain) <= MAX_CHARACTERS else f"{plain[:40]}..."
            raise UsageError(
                f"{what} holds {shown!r}, which is no word or short phrase; part words by commas, "
                f"each of at most {MAX_CHARACTERS} characters."
            )
        kept.setdefault(folded(plain), plain)
    if not MIN_WORDS <= len(kept) <= MAX_WORDS:
        raise UsageError(
            f"{what} has {len(kept)} different words; it takes {MIN_WORDS} to {MAX_WORDS}, such "
            'as "red, green, blue".'
        )
    return tuple(kept.values())
