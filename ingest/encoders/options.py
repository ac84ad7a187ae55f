"""What a user may choose about an encoder, checked before anything is loaded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from indexes.errors import UsageError

#: Which token's state becomes the vector: name to one line of description.
TOKENS = {
    "last_prompt": "the last token of the prompt, from which the word is generated",
    "first_generated": "the first generated token, greedily chosen and read back in",
    "mean": "the average over the prompt's tokens from the condition's first one to its end",
}

#: How attention may be computed. Only sdpa applies a tree mask correctly; eager runs unpacked.
ATTENTIONS = ("sdpa", "eager")

#: Other implementations whose vectors can be reproduced.
COMPATS = ("reference",)

#: Number formats in which earlier versions also rounded what is no weight, such as the frequencies
#: of rotary positions. A gallery that was filled with these kept as they are loaded says so by the
#: setting ``BUFFERS``.
ROUNDED_DTYPES = ("bfloat16", "float16")
BUFFERS, AS_LOADED = "buffers", "as loaded"

#: Prefix of the names of models that run in a server, ``openai:URL#NAME``.
SERVED = "openai:"

#: The built-in methods that ask an LVLM.
ASKING_METHODS = ("dior", "generative", "regional", "captions", "embedder")

#: Longest system turn.
MAX_SYSTEM_CHARACTERS = 4000

#: Highest values of the choices about answers.
MAX_ANSWER_TOKENS, MAX_TEMPERATURE = 1024, 5.0

#: Bounds of the longest side that pictures are reduced to.
MIN_SIDE, MAX_SIDE = 32, 4096


@dataclass(frozen=True)
class EncoderOptions:
    """Choices about the vectors, besides model, prompt and dtype. Most are for DIOR.

    Attributes:
        layer: whose output is used, numbered as ``hidden_states`` of transformers: 0 for the
            embedded tokens, n for the output of the n-th layer, and the last number, or -1, for
            the last layer after the final norm; other negative numbers count from there. With
            another layer than the last, packed families run only up to that layer, and all words
            are empty.
        token: one of :data:`TOKENS`, or the number of a token of the prompt as text: ``0`` for
            the first one, ``-1`` for the last one, which is ``last_prompt``. ``mean`` averages
            over the tokens from the one that holds the first character of the condition's phrase
            (of the question, if there is no condition) to the last of the prompt, the chat
            template's opening of the answer included; it does not depend on the other conditions.
            ``first_generated`` with another layer than the last runs unpacked.
        max_side: images are reduced to this longest side, in pixels, before the model's own
            processor, which may reduce them further.
        attention: ``sdpa``, or ``eager``, with which every condition has a pass of its own.
        compat: ``None``, or ``reference`` for the vectors that the published code computes for
            one image at a time: a pass for each condition, token positions counted along one
            axis even where the model has three, the processor with its default settings, tiles
            included. They are scaled to unit length, as all vectors here, and words are empty.
            For ``generative``, the prompt and the answer are embedded, and words are the answers.
        sentences: embeds the answers of ``generative``: a dual encoder or a model of
            sentence-transformers, by built-in name, ``ORG/NAME[@REVISION]``, or folder.
        system: a system turn before every question; empty for the one of the model's chat
            template, if it has one.

        words: whether ``dior`` and ``regional`` store the model's word for each picture. Words
            take up to twelve more tokens, which cost most where families run plain.
        answer_tokens: the limit of an answer of ``generative``; ``None`` for the method's own.
        temperature: 0 for the most probable answer of ``generative``; above 0, tokens are drawn
            with this temperature, for each picture and condition with the same seed.
        dimension: how many leading numbers of a vector of ``embedder`` are kept; ``None`` for all.

    Raises:
        UsageError: naming the option and its allowed values.
    """

    layer: int = -1
    token: str = "last_prompt"
    max_side: int = 700
    attention: str = "sdpa"
    compat: str | None = None
    sentences: str = "tiny-clip"
    system: str = ""
    words: bool = True
    answer_tokens: int | None = None
    temperature: float = 0.0
    dimension: int | None = None

    def __post_init__(self) -> None:
        if not _is_integer(self.layer):
            raise UsageError(
                f"--layer is {self.layer!r}; give -1 for the last layer, or another whole number."
            )
        if _is_integer(self.token):
            object.__setattr__(self, "token", str(self.token))
        if self.token == "-1":
            object.__setattr__(self, "token", "last_prompt")
        if self.token not in TOKENS and not _is_number(self.token):
            raise UsageError(
                f"There is no --token {self.token!r}; choose {_joined(TOKENS)}, or give the number "
                "of a token of the prompt, such as -2."
            )
        if not isinstance(self.words, bool):
            raise UsageError(f"words is {self.words!r}; give True or False.")
        tokens = self.answer_tokens
        if tokens is not None and (not _is_integer(tokens) or not 1 <= tokens <= MAX_ANSWER_TOKENS):
            raise UsageError(
                f"--answer-tokens is {tokens!r}; give a number from 1 to {MAX_ANSWER_TOKENS}."
            )
        heat = self.temperature
        is_number = isinstance(heat, (int, float)) and not isinstance(heat, bool)
        if not is_number or not 0 <= heat <= MAX_TEMPERATURE:
            raise UsageError(
                f"--temperature is {heat!r}; give 0 for the most probable answer, or a number up "
                f"to {MAX_TEMPERATURE}."
            )
        if self.dimension is not None and (not _is_integer(self.dimension) or self.dimension < 1):
            raise UsageError(
                f"--dimension is {self.dimension!r}; give the number of numbers to keep of a "
                "vector, such as 512."
            )
        if not _is_integer(self.max_side) or not MIN_SIDE <= self.max_side <= MAX_SIDE:
            raise UsageError(
                f"--max-side is {self.max_side!r}; give a number of pixels from {MIN_SIDE} to "
                f"{MAX_SIDE}."
            )
        if self.attention not in ATTENTIONS:
            raise UsageError(
                f"--attention {self.attention!r} is not offered, because only sdpa applies the "
                f"mask of a shared pass correctly; choose {_joined(ATTENTIONS)}."
            )
        if self.compat is not None and self.compat not in COMPATS:
            raise UsageError(
                f"There is no --compat {self.compat!r}; choose {_joined(COMPATS)}, or leave it out."
            )
        if self.compat is not None and self.token in ("first_generated", "mean"):
            raise UsageError(
                f"--compat {self.compat} reads one token of the prompt; give its number, or leave "
                "--token out."
            )
        if not isinstance(self.system, str) or len(self.system) > MAX_SYSTEM_CHARACTERS:
            raise UsageError(
                f"--system is no text of at most {MAX_SYSTEM_CHARACTERS} characters; shorten it."
            )
        if (self.system and not self.system.strip()) or not _is_plain(self.system):
            raise UsageError(
                f"--system is {self.system!r}; write it in plain words, or leave it out."
            )

    @property
    def has_words(self) -> bool:
        """Whether words come with the vectors."""
        return self.layer == -1 and self.compat is None and self.words

    @property
    def token_number(self) -> int | None:
        """The number of the token of the prompt that is read; ``None`` if it has a name."""
        return None if self.token in TOKENS else int(self.token)

    def check_for(self, method: str, names: Iterable[str]) -> None:
        """Refuse options that a method does not have.

        Args:
            method: its name.
            names: the names of the options it has.

        Raises:
            UsageError: naming the option.
        """
        for name, value in asdict(self).items():
            if value != getattr(DEFAULT_OPTIONS, name) and name not in names:
                raise UsageError(
                    f"--{name.replace('_', '-')} {value} does not apply to the method {method}; "
                    "leave it out."
                )

    def for_layers(self, count: int) -> EncoderOptions:
        """The same options for a model of ``count`` layers, with -1 for the last one.

        Raises:
            UsageError: if the model has no such layer.
        """
        if not -count - 1 <= self.layer <= count:
            raise UsageError(
                f"The model has {count} layers, and --layer is {self.layer}; give a number from "
                f"0 to {count}, or from -1 for the last to {-count - 1}."
            )
        layer = self.layer if self.layer >= 0 else count + 1 + self.layer
        return replace(self, layer=-1 if layer == count else layer)

    def settings(self) -> dict[str, Any]:
        """JSON values, for a gallery to store.

        Options that were added in later versions are stored only if they differ from the
        default, so that galleries of earlier versions still match.
        """
        stored = asdict(self)
        for name in set(stored) - {"layer", "token", "max_side"}:
            if stored[name] == getattr(DEFAULT_OPTIONS, name):
                del stored[name]
        return stored

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> EncoderOptions:
        """The inverse of :meth:`settings`; other settings are ignored."""
        defaults = asdict(DEFAULT_OPTIONS)
        return cls(**{name: settings.get(name, default) for name, default in defaults.items()})


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"-?\d{1,6}", text) is not None


def _is_plain(text: str) -> bool:
    """Whether a text has no control characters except line breaks and tabs."""
    return all(unicodedata.category(c) not in ("Cc", "Cs") or c in "\n\t" for c in text)


def _joined(names: Iterable[str]) -> str:
    return " or ".join(names)


DEFAULT_OPTIONS = EncoderOptions()

#: The prompt template of methods that are not given one.
DEFAULT_PROMPT = "describe"


@dataclass(frozen=True)
class EncoderChoice:
    """Which encoder to load, and how.

    Attributes:
        method: a name of :data:`ingest.encoders.factory.METHODS` or of a plug-in.
        model: a built-in name, ``ORG/NAME[@REVISION]``, or a folder; for methods that use a dual
            encoder also ``open_clip:ARCH/WEIGHTS``.
        prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``, for the
            methods that ask an LVLM.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; several of one kind, such as
            ``cuda:0,cuda:1``, get a copy of the model each.
        force: accept conditions that the model was not trained on.
        options: further choices about the vectors.
        device_map: how accelerate spreads the model, such as ``auto``, in place of ``device``.
            A dual encoder is not spread: it runs on the kind of device that the map fills first.
        stored: the settings of the gallery whose vectors are to be continued; ``None`` for new
            vectors.
    """

    method: str
    model: str
    prompt: str = DEFAULT_PROMPT
    dtype: str = "auto"
    device: str = "auto"
    force: bool = False
    options: EncoderOptions = DEFAULT_OPTIONS
    device_map: str | None = None
    stored: Mapping[str, Any] | None = None

    def is_earlier_than(self, setting: str) -> bool:
        """Whether the gallery was filled by a version that did not have a setting yet."""
        return self.stored is not None and setting not in self.stored
