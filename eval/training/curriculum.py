"""Questions and words that the built-in models are trained on."""

from __future__ import annotations

from eval.world import captions
from eval.world.factors import FACTORS
from ingest.conditions import UNCONDITIONAL, prompt_templates

#: Condition to its wordings in the training questions; the first one is its name.
WORDINGS: dict[str, tuple[str, ...]] = {
    "color": (
        "color",
        "colour",
        "hue",
        "color of the object",
        "colour of the object",
        "main color",
        "main colour",
        "object color",
    ),
    "shape": (
        "shape",
        "form",
        "shape of the object",
        "kind",
        "kind of thing",
        "object",
        "subject",
        "category",
        "type",
    ),
    "pattern": ("pattern", "pattern of the object", "print", "decoration"),
    "material": ("material", "material of the object", "surface", "texture"),
    "background": (
        "background",
        "background color",
        "background colour",
        "color of the background",
        "colour of the background",
        "ground",
    ),
    "size": ("size", "size of the object", "object size"),
    "count": ("count", "number", "number of objects", "quantity"),
    "style": ("style", "style of depiction", "depiction style", "medium"),
    "stroke": ("stroke", "line weight", "weight", "stroke width", "line width"),
    "frame": ("frame", "border", "frame around the object"),
}

#: Without a condition, the answer is the shape, as a person would answer in one word.
UNCONDITIONAL_FACTOR = "shape"

#: Questions for a description, and for a description of the picture after a change.
DESCRIBE = "Describe this image in one sentence."
DESCRIBE_CHANGED = "Describe this image in one sentence after this change: {change}."


def vocabulary() -> list[str]:
    """Every word that must be one token: questions of all templates, wordings, answers."""
    text: list[str] = [DESCRIBE, DESCRIBE_CHANGED.format(change=" "), *captions.vocabulary()]
    for template in prompt_templates().values():
        text += [template.conditional.replace("{condition}", " "), template.unconditional]
    for wordings in WORDINGS.values():
        text += wordings
    for values in FACTORS.values():
        text += values
    words = {word.strip('.:,"').lower() for line in text for word in line.split()}
    return sorted(words - {"", UNCONDITIONAL})
