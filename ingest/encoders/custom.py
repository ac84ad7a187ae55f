"""Encoders from outside of this project: objects with ``encode``, and plug-ins.

A plug-in is an entry point of the group ``cies.encoders``: its name is the method's, and it refers
to a class or function that returns a :class:`ingest.encoders.base.PlainEncoder`. It is called
with those of the arguments ``model``, ``device`` and ``dtype`` that the user gave and that it
accepts.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from indexes.errors import CiesError, ModelError, UsageError
from indexes.vectors import Vectors, unit
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec, PlainEncoder, check_text
from ingest.encoders.options import DEFAULT_PROMPT, EncoderChoice

#: The entry point group of plug-ins.
GROUP = "cies.encoders"

#: Allowed names of methods: they are option values and stored in JSON.
_METHOD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class CustomEncoder(BaseEncoder):
    """An object with ``encode`` as an encoder. Vectors are checked and scaled to unit length."""

    def __init__(self, source: PlainEncoder, method: str | None = None):
        """Read and check the object's attributes.

        Args:
            source: see :class:`ingest.encoders.base.PlainEncoder`.
            method: the method's name; by default the object's ``name``, or its class's.

        Raises:
            UsageError: if the object does not follow the protocol.
        """
        kind = type(source)
        if isinstance(source, type):
            raise UsageError(
                f"{source.__name__} is a class and not an encoder; create an object of it first, "
                f"such as {source.__name__}()."
            )
        if not callable(getattr(source, "encode", None)):
            raise UsageError(
                f"{kind.__name__} has no method encode(images, conditions), so it is not an "
                "encoder; add one."
            )
        self.source = source
        name = method or str(getattr(source, "name", kind.__name__))
        if not _METHOD_NAME.fullmatch(name):
            raise UsageError(
                f"An encoder cannot be named {name!r}; use letters, digits, '-', '_' and '.'."
            )
        settings = dict(getattr(source, "settings", {}))
        model = str(getattr(source, "model", f"{kind.__module__}.{kind.__qualname__}"))
        self._spec = EncoderSpec(name, model, str(getattr(source, "revision", "1")), settings)
        self._dimension: int | None = getattr(source, "dimension", None)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        return self._spec

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        if self._dimension is None:
            grey = Image.new("RGB", (32, 32), (127, 127, 127))
            whole = [Condition(UNCONDITIONAL, "")]
            self._dimension = int(np.shape(self.source.encode([grey], whole))[-1])
        return self._dimension

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        return f"{self.spec.model}, an encoder from outside of CIES"

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`."""
        check: Callable[[Sequence[Condition]], None] | None = getattr(self.source, "check", None)
        if check is not None:
            check(conditions)

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words are empty."""
        self.check(conditions)
        return self._embed(self.source.encode, images, conditions)

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words are empty."""
        encode_text = getattr(self.source, "encode_text", None)
        if encode_text is None:
            return super().embed_text(texts, conditions, words)
        for text in texts:
            check_text(text)
        self.check(conditions)
        return self._embed(encode_text, texts, conditions)

    def _embed(
        self,
        encode: Callable[[Any, Sequence[Condition]], Any],
        items: Sequence[Any],
        conditions: Sequence[Condition],
    ) -> Embeddings:
        shape = (len(items), len(conditions), self.dimension)
        vectors: Vectors = np.zeros(shape, dtype=np.float32)
        if items and conditions:
            encoded = np.asarray(encode(items, conditions))
            if encoded.shape != shape:
                raise ModelError(
                    f"The encoder {self.spec.method} returned an array of shape {encoded.shape} in "
                    f"place of {shape}, which is [images, conditions, dimension]; correct its "
                    "encode."
                )
            try:
                vectors = unit(encoded)
            except ValueError as error:
                raise ModelError(
                    f"The encoder {self.spec.method} returned unusable vectors: {error}; correct "
                    "its encode."
                ) from error
        return Embeddings.without_words(vectors)


@dataclass(frozen=True)
class Plugin:
    """An encoder that another package adds.

    Attributes:
        method: its name.
        package: the distribution that adds it.
        encoder: ``MODULE:NAME`` of its class or function.
        load: imports that class or function.
    """

    method: str
    package: str
    encoder: str
    load: Callable[[], Any]


def plugin_names() -> list[str]:
    """Names of the methods that other packages add, in alphabetical order."""
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP).names)


def find_plugin(method: str) -> Plugin | None:
    """The plug-in of a name, not imported yet; ``None`` if there is none.

    Raises:
        ModelError: if several packages add a method of this name.
    """
    from importlib.metadata import entry_points

    plugins = {
        entry.dist.name if entry.dist else "unknown": Plugin(
            method, entry.dist.name if entry.dist else "unknown", entry.value, entry.load
        )
        for entry in entry_points(group=GROUP, name=method)
    }
    if len(plugins) > 1:
        raise ModelError(
            f"The packages {' and '.join(sorted(plugins))} all add a method '{method}'; uninstall "
            "all but one."
        )
    return next(iter(plugins.values()), None)


def load_plugin(choice: EncoderChoice, default_model: str) -> CustomEncoder:
    """Load the encoder of a plug-in.

    Args:
        choice: its method is the plug-in's name. ``force`` is ignored.
        default_model: the value of ``choice.model`` if the user named none.

    Raises:
        UsageError: if an option is given that the plug-in does not accept.
        ModelError: if the plug-in does not work, naming its package.
    """
    plugin = find_plugin(choice.method)
    if plugin is None:
        raise UsageError(f"There is no method '{choice.method}'; install its package again.")
    for option, value, default in (
        ("--prompt", choice.prompt, DEFAULT_PROMPT),
        ("--device-map", choice.device_map, None),
    ):
        if value != default:
            raise _does_not_apply(option, value, plugin)
    choice.options.check_for(choice.method, ())
    given = {"device": choice.device, "dtype": choice.dtype, "model": choice.model}
    defaults = {"device": "auto", "dtype": "auto", "model": default_model}
    given = {name: value for name, value in given.items() if value != defaults[name]}
    try:
        factory = plugin.load()
        accepted = inspect.signature(factory).parameters
        source = factory(**{name: value for name, value in given.items() if name in accepted})
    except CiesError:
        raise
    except Exception as error:
        raise _broken(plugin, error) from error
    try:
        encoder = CustomEncoder(source, choice.method)
    except UsageError as error:
        raise _broken(plugin, error) from error
    # A gallery's own model and dtype are given again when its encoder is loaded.
    resolved = {"model": encoder.spec.model, "dtype": encoder.spec.settings.get("dtype")}
    for name, value in given.items():
        if name not in accepted and resolved.get(name) != value:
            raise _does_not_apply(f"--{name}", value, plugin)
    return encoder


def _broken(plugin: Plugin, error: Exception) -> ModelError:
    why = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return ModelError(
        f"The method '{plugin.method}' of the package {plugin.package} cannot be loaded: {why}; "
        f"update {plugin.package}, or uninstall it."
    )


def _does_not_apply(option: str, value: object, plugin: Plugin) -> UsageError:
    return UsageError(
        f"{option} {value} does not apply to the method {plugin.method} of the package "
        f"{plugin.package}; leave it out."
    )
