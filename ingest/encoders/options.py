"""What a researcher may choose about an encoder's vectors, checked before anything heavy is loaded.

Most of it is about DIOR; :meth:`DiorOptions.check_for` refuses what another method does not have.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Iterable, Mapping

from indexes.errors import UsageError

#: Which token's state becomes the vector, and what that is, in one line.
TOKENS = {
    "last_prompt": "the last token of the prompt, from which the word is about to be said",
    "first_generated": "the first token said, greedily, after it was read back in",
    "mean": "the average over the prompt's tokens from the condition's first one to its end",
}

#: How attention may be computed. Only sdpa reads a tree mask rightly, so eager runs plain.
ATTENTIONS = ("sdpa", "eager")

#: Other implementations whose vectors can be had.
COMPATS = ("reference",)

#: Bounds of the longest side pictures are reduced to.
LEAST_SIDE, MOST_SIDE = 32, 4096


@dataclass(frozen=True)
class DiorOptions:
    """What may be chosen about DIOR's vectors, beside model, prompt and dtype.

    Attributes:
        layer: whose output is read, numbered as ``hidden_states`` of transformers: 0 the
            embedded tokens, n the output of the n-th layer, and the last number, or -1, the last
            layer's after the final norm. With another layer than the last, packed families run
            no further than that layer, and no family says words: they come out empty.
        token: one of :data:`TOKENS`. ``mean`` is taken over the tokens from the one that holds
            the first character of the condition's phrase (of the question, if there is no
            condition) to the last of the prompt, the chat template's opening of the answer
            included; which other conditions are asked does not matter. ``first_generated`` with
            another layer than the last runs plain.
        max_side: pictures are reduced to this longest side, in pixels, before the model's own
            processor sees them; that may reduce them further.
        attention: ``sdpa``, or ``eager``, with which every condition gets a pass of its own.
        compat: ``None``, or ``reference`` for the vectors the published code gives of one
            picture at a time: a pass for each condition, token positions counted along one axis
            even where the model has three, the processor as it comes, tiles included. They are
            scaled to unit length, as all vectors here, and words come out empty.
        sentences: what embeds the answers of ``generative``: a dual encoder or a model of
            sentence-transformers, by built-in name, ``ORG/NAME[@REVISION]``, or folder.

    Raises:
        UsageError: naming the option and what it may be.
    """

    layer: int = -1
    token: str = "last_prompt"
    max_side: int = 700
    attention: str = "sdpa"
    compat: str | None = None
    sentences: str = "tiny-clip"

    def __post_init__(self) -> None:
        if not _whole(self.layer) or self.layer < -1:
            raise UsageError(
                f"--layer is {self.layer!r}; give -1 for the last layer, or a number from 0 on."
            )
        if self.token not in TOKENS:
            raise UsageError(f"There is no --token {self.token!r}; choose {_either(TOKENS)}.")
        if not _whole(self.max_side) or not LEAST_SIDE <= self.max_side <= MOST_SIDE:
            raise UsageError(
                f"--max-side is {self.max_side!r}; give a number of pixels from {LEAST_SIDE} to "
                f"{MOST_SIDE}."
            )
        if self.attention not in ATTENTIONS:
            raise UsageError(
                f"--attention {self.attention!r} is not offered, because only sdpa reads the mask "
                f"of a shared pass rightly; choose {_either(ATTENTIONS)}."
            )
        if self.compat is not None and self.compat not in COMPATS:
            raise UsageError(
                f"There is no --compat {self.compat!r}; choose {_either(COMPATS)}, or leave it out."
            )
        if self.compat is not None and self.token != "last_prompt":
            raise UsageError(
                f"--compat {self.compat} reads the last token of the prompt; leave --token out."
            )

    @property
    def speaks(self) -> bool:
        """Whether words come with the vectors."""
        return self.layer == -1 and self.compat is None

    def check_for(self, method: str, names: Iterable[str]) -> None:
        """Refuse choices that a method does not have.

        Args:
            method: its name.
            names: of the choices it has.

        Raises:
            UsageError: naming the option.
        """
        for name, value in asdict(self).items():
            if value != getattr(_DEFAULT, name) and name not in names:
                raise UsageError(
                    f"--{name.replace('_', '-')} {value} does not apply to the method {method}; "
                    "leave it out."
                )

    def for_layers(self, count: int) -> DiorOptions:
        """The same choices for a model of so many layers, the last one called -1.

        Raises:
            UsageError: if the model has no such layer.
        """
        if self.layer > count:
            raise UsageError(
                f"The model has {count} layers, and --layer is {self.layer}; give a number from "
                f"0 to {count}, or -1 for the last."
            )
        return replace(self, layer=-1) if self.layer == count else self

    def settings(self) -> dict[str, Any]:
        """As JSON values, for a gallery to keep.

        What came to be offered later is named only where it is chosen, so that galleries made
        before are still recognised.
        """
        kept = asdict(self)
        for name in ("attention", "compat", "sentences"):
            if kept[name] == getattr(_DEFAULT, name):
                del kept[name]
        return kept

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> DiorOptions:
        """The inverse of :meth:`settings`; other settings are passed over."""
        names = asdict(_DEFAULT)
        return cls(**{name: settings.get(name, default) for name, default in names.items()})


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)


_DEFAULT = DiorOptions()
