"""Texts about scenes: captions in many phrasings, and requests for a change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np

from eval.world.factors import FACTORS

SceneLabels = Mapping[str, str]

_PLURALS = {"leaf": "leaves", "cross": "crosses", "fish": "fish", "trousers": "trousers"}
_SAME = ("shorts", "bush")

_STYLES = {
    "photo": "photo",
    "flat": "graphic",
    "painting": "painting",
    "sketch": "sketch",
    "pixelated": "mosaic",
}

#: Phrasings of a factor's value alone.
_ALONE = {
    "color": ("{}", "a {} thing", "something {}", "{} object"),
    "shape": ("{}", "a {}", "picture of a {}"),
    "pattern": ("{}", "a {} thing", "{} pattern"),
    "material": ("{}", "a {} thing", "{} surface"),
    "background": ("{} background", "on {}", "a {} background"),
    "size": ("{}", "a {} thing", "{} object"),
    "count": ("{} of them", "{} things", "{} objects"),
    "style": ("a {}", "{} style", "{}"),
    "stroke": ("{} lines", "{} line weight", "drawn with {} lines"),
    "frame": ("{} frame", "in a {} frame", "framed by a {}"),
}

#: Phrasings of a change to a factor, besides "change the FACTOR to VALUE".
_CHANGES = {
    "color": ("the same in {}", "but {}", "make it {}", "in {} instead"),
    "shape": ("a {} instead", "the same but a {}", "make it a {}"),
    "pattern": ("the same but {}", "make it {}", "but {}"),
    "material": ("make it {}", "the same but {}"),
    "background": ("on a {} background", "with a {} background", "the same on {}"),
    "size": ("make it {}", "the same but {}"),
    "count": ("{} of them", "with {} of them", "show {} of them"),
    "style": ("as a {}", "the same as a {}", "make it a {}"),
    "stroke": ("drawn with {} lines", "with {} lines"),
    "frame": ("in a {} frame", "with a {} frame"),
}


def plural(shape: str) -> str:
    """The plural of a shape, such as hearts or leaves."""
    if shape in _PLURALS:
        return _PLURALS[shape]
    return shape if shape in _SAME else f"{shape}s"


def describe(labels: SceneLabels) -> str:
    """A full description of a scene, always with the same order and number of words.

    Args:
        labels: the labels of the scene; a shape without a word becomes "thing", a style "picture".
    """
    one = labels["count"] == "one"
    shape = labels["shape"] or "thing"
    noun = shape if one else plural(shape)
    style = _STYLES.get(labels["style"], "picture")
    return (
        f"a {style} of {labels['count']} {labels['size']} {labels['color']} "
        f"{labels['pattern']} {noun} on {labels['background']}"
    )


@dataclass(frozen=True)
class Caption:
    """A text about a scene.

    Attributes:
        text: the text of the caption.
        named: the factors whose values it names.
    """

    text: str
    named: frozenset[str]


def caption(labels: SceneLabels, random: np.random.Generator) -> Caption:
    """A caption that names some of the factors, in one of many phrasings.

    Args:
        labels: the labels of the scene; empty values are never named.
        random: chooses the factors and the phrasing.
    """
    known = [name for name in FACTORS if labels[name]]
    if random.random() < 0.2:
        return _alone(str(random.choice(known)), labels, random)
    chance = random.choice([0.2, 0.5, 0.9])
    named = {name for name in known if random.random() < chance}
    named |= {name for name in ("color", "shape") if labels[name] and random.random() < 0.7}
    return Caption(_sentence(labels, named, random), frozenset(named))


def _alone(name: str, labels: SceneLabels, random: np.random.Generator) -> Caption:
    value = _STYLES[labels[name]] if name == "style" and random.random() < 0.5 else labels[name]
    if name == "frame" and value == "none":
        return Caption("no frame", frozenset({name}))
    if name == "stroke" and value == "filled":
        return Caption("filled", frozenset({name}))
    phrases = _ALONE[name]
    return Caption(phrases[int(random.integers(len(phrases)))].format(value), frozenset({name}))


def value_texts(factor: str) -> list[str]:
    """Every value of a factor, in every phrasing that names no other factor."""
    return [
        phrase.format(_STYLES[value] if factor == "style" else value)
        for value in FACTORS[factor]
        for phrase in _ALONE[factor]
    ]


def _sentence(labels: SceneLabels, named: set[str], random: np.random.Generator) -> str:
    def say(name: str) -> str:
        return labels[name] if name in named else ""

    noun = say("shape") or str(random.choice(["thing", "object"]))
    several = "count" in named and labels["count"] != "one"
    noun = plural(noun) if several else noun
    count = say("count") or ("" if random.random() < 0.5 else "a")
    words = [say("size"), say("color"), say("material"), say("pattern")]
    if random.random() < 0.3:
        words = [say("size"), say("pattern"), say("material"), say("color")]
    core = " ".join(word for word in (count, *words, noun) if word)
    parts = []
    if "style" in named:
        style = _STYLES[labels["style"]] if random.random() < 0.5 else labels["style"]
        core = f"a {style} of {core}" if random.random() < 0.7 else f"{core}, {style} style"
    elif random.random() < 0.3:
        core = f"a picture of {core}"
    if "background" in named:
        ending = str(random.choice(["on a {} background", "on {}", "before a {} background"]))
        parts.append(ending.format(labels["background"]))
    if "stroke" in named:
        filled = labels["stroke"] == "filled"
        parts.append("filled" if filled else f"drawn with {labels['stroke']} lines")
    if "frame" in named:
        framed = labels["frame"] != "none"
        parts.append(f"in a {labels['frame']} frame" if framed else "without a frame")
    joint = " " if random.random() < 0.5 else ", "
    return joint.join([core, *parts])


@dataclass(frozen=True)
class RequestedChange:
    """A request for a change.

    Attributes:
        text: the text of the request.
        factor: the factor that changes.
        value: the new value.
    """

    text: str
    factor: str
    value: str

    def applied(self, labels: SceneLabels) -> dict[str, str]:
        """The labels after the change."""
        return {**labels, self.factor: self.value}


def change(factor: str, value: str, random: np.random.Generator) -> RequestedChange:
    """A request for a new value of a factor, in one of many phrasings."""
    phrases = _CHANGES[factor]
    choice = int(random.integers(len(phrases) + 2))
    if choice < len(phrases):
        said = _STYLES[value] if factor == "style" else value
        return RequestedChange(phrases[choice].format(said), factor, value)
    phrase = "change the {} to {}" if choice == len(phrases) else "the same with {} {}"
    return RequestedChange(phrase.format(factor, value), factor, value)


def vocabulary() -> list[str]:
    """Every word that occurs in captions and requests."""
    lines = [*_STYLES.values(), "no without a an of them picture thing things object objects style"]
    lines += [
        phrase.format("") for group in (_ALONE, _CHANGES) for p in group.values() for phrase in p
    ]
    lines += ["change the to the same with before on background drawn lines in frame filled some"]
    for values in FACTORS.values():
        lines += values
    lines += [plural(shape) for shape in FACTORS["shape"]]
    words = {word.strip('.:,"').lower() for line in lines for word in line.split()}
    return sorted(words - {""})


def short_texts(
    labels: Sequence[Mapping[str, str]], random: np.random.Generator
) -> tuple[list[str], list[str]]:
    """A text about each scene, all of one form and length, and the factors that they name."""
    forms = (
        ("{color} {shape}", ["color", "shape"]),
        ("{pattern} {shape}", ["pattern", "shape"]),
        ("{color} {pattern} {shape}", ["color", "pattern", "shape"]),
        ("a {size} {color} {shape} on {background}", ["size", "color", "shape", "background"]),
        ("{color}", ["color"]),
        ("{shape}", ["shape"]),
        ("a {style} of {count} {color} {shape}", ["style", "count", "color", "shape"]),
        (
            "{count} {size} {color} {pattern} {shape} on a {background} background",
            ["count", "size", "color", "pattern", "shape", "background"],
        ),
    )
    text, names = forms[int(random.integers(len(forms)))]
    unnamed = {"shape": "thing", "style": "picture"}
    return [
        text.format(**{name: value or unnamed.get(name, "") for name, value in each.items()})
        for each in labels
    ], names
