"""The only place that lets a library load the files of a model.

Every ``from_pretrained`` of transformers, for a configuration, weights, a processor or a tokenizer,
and every load of open_clip is called here. The files are untrusted: code in them runs only if the
user named it by ``--trust-remote-code``, nothing asks a question on the terminal, and whatever goes
wrong is one :class:`ModelError`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from indexes.errors import CiesError, ModelError
from ingest.encoders.models.find import (
    ModelSource,
    check_config,
    hub_answers,
    read_json,
    settings_of,
)
from ingest.encoders.models.load_errors import explain
from ingest.encoders.models.trust import is_trusted

_COMMIT = re.compile(r"[0-9a-f]{40}")
#: Held while a library loads, because transformers' switch for questions is global.
_loading = threading.RLock()

#: Files that may name classes of the model's own code.
_CODE_FILES = (
    "config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)

#: Settings of image processors that are lengths in pixels, and their highest value.
_SIDES, _MAX_SIDE = ("height", "width"), 10_000


def load_pretrained(kind: Any, source: ModelSource, **options: Any) -> Any:
    """Call ``kind.from_pretrained`` on a model's files.

    Args:
        kind: a class of transformers, such as ``AutoConfig``.
        source: the model.
        **options: of that ``from_pretrained``.

    Raises:
        ModelError: if it fails for whatever reason.
    """
    with library_call(source):
        return kind.from_pretrained(
            source.location,
            **hub_arguments(source),
            trust_remote_code=is_trusted(source),
            **options,
        )


def load_config(source: ModelSource, **options: Any) -> Any:
    """The configuration of a model, checked before a model is built from it.

    Args:
        source: the model.
        **options: of ``from_pretrained``, such as ``subfolder``.

    Raises:
        ModelError: if it does not exist, is broken, needs code that is not trusted, or has sizes
            that no model has.
    """
    from transformers import AutoConfig

    silence_libraries()
    if source.local:
        folder = Path(source.location, options.get("subfolder", ""))
        written = read_json(folder / "config.json")
        check_config(written, source.name)
        if not isinstance(written.get("model_type", ""), str):
            raise ModelError(
                f"The config.json of {source.name} names no model type; restore it, or name "
                "another model."
            )
    if is_trusted(source):
        _check_origin_of_code(source)
    config = load_pretrained(AutoConfig, source, **options)
    check_config(config.to_dict(), source.name)
    return config


def build_empty(kind: Any, source: ModelSource, config: Any) -> Any:
    """A model of a configuration without weights, on torch's meta device.

    Args:
        kind: a class of transformers, such as ``AutoModel``.
        source: the model.
        config: its configuration.

    Raises:
        ModelError: if the configuration makes no model.
    """
    import torch

    with library_call(source), torch.device("meta"):
        if not hasattr(kind, "from_config"):
            return kind(config)
        return kind.from_config(config, trust_remote_code=is_trusted(source))


def check_picture_sizes(source: ModelSource) -> None:
    """Refuse settings of an image processor that would fill the memory with one picture.

    Raises:
        ModelError: naming the setting, or if the file is broken.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = model_file(source, name)
        for key, value in () if path is None else settings_of(read_json(path)):
            if key in _SIDES and isinstance(value, (int, float)) and value > _MAX_SIDE:
                raise ModelError(
                    f"{name} of {source.name} makes pictures of {value} pixels {key}; restore it, "
                    "or name another model."
                )


def load_open_clip_files(
    source: ModelSource, architecture: str, weights: str | None
) -> tuple[Any, Any, Any]:
    """The model, transform and tokenizer of open_clip.

    Args:
        source: the model.
        architecture: as open_clip names it; ``local-dir:FOLDER`` for a folder.
        weights: one of its pretrained tags; ``None`` for a folder.

    Raises:
        ImportError: if open_clip is not installed.
        ModelError: if it cannot load the model, or the model's settings allow code to run.
    """
    import open_clip

    if source.local:
        settings = read_json(Path(source.location) / "open_clip_config.json")
        if _allows_code(settings):
            raise ModelError(
                f"open_clip_config.json of {source.name} asks for code of its own to run, which "
                "CIES does not do for open_clip; name another model."
            )
    with library_call(source):
        model, transform = open_clip.create_model_from_pretrained(
            architecture, pretrained=weights, device="cpu", weights_only=True
        )
        return model, transform, open_clip.get_tokenizer(architecture)


def hub_arguments(source: ModelSource) -> dict[str, Any]:
    """Keyword arguments of ``from_pretrained`` for a model's revision."""
    arguments: dict[str, Any] = {"revision": source.revision} if source.revision else {}
    if _commit_is_cached(source) or not (source.local or hub_answers(source.location)):
        # A commit never changes, so the hub need not be asked; it may be out of reach.
        arguments["local_files_only"] = True
    return arguments


@contextmanager
def library_call(source: ModelSource) -> Iterator[None]:
    """Run calls of a library on a model's files; whatever it raises becomes a :class:`ModelError`.

    Only such calls belong inside: an error of our own code would be reported as a broken file.
    """
    with _no_questions():
        try:
            yield
        except CiesError:
            raise
        except Exception as error:
            raise ModelError(explain(error, source)) from error
        except BaseException as error:
            # A panic of the tokenizers library, which is written in Rust, is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise ModelError(explain(ValueError(str(error)), source)) from error


@contextmanager
def _no_questions() -> Iterator[None]:
    """Keep transformers from asking on the terminal whether a model's code may run.

    It asks where a library between it and us leaves ``trust_remote_code`` out. With a waiting time
    of zero it raises an error.
    """
    from transformers import dynamic_module_utils

    with _loading:
        before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
        try:
            yield
        finally:
            dynamic_module_utils.TIME_OUT_REMOTE_CODE = before


def _check_origin_of_code(source: ModelSource) -> None:
    """Refuse trusted models that name code of another repository, whose commit nobody named.

    Raises:
        ModelError: naming that repository.
    """
    for name in _CODE_FILES:
        path = model_file(source, name)
        if path is None:
            continue
        for reference in _texts(read_json(path).get("auto_map")):
            repository, dashes, _ = reference.partition("--")
            if dashes and repository != source.location:
                raise ModelError(
                    f"{name} of {source.name} names code of {repository}, which is another "
                    "repository than the one that is trusted; name another model."
                )


def model_file(source: ModelSource, name: str) -> Path | None:
    """The path of a model's file, or ``None`` if there is no such file."""
    if source.local:
        path = Path(source.location) / name
        return path if path.is_file() else None
    from transformers.utils import cached_file

    with library_call(source):
        cached = cached_file(
            source.location,
            name,
            _raise_exceptions_for_missing_entries=False,
            # Without a network, a file that is not cached counts as missing.
            _raise_exceptions_for_connection_errors=False,
            **hub_arguments(source),
        )
    return None if cached is None else Path(str(cached))


def silence_libraries() -> None:
    """Turn off the progress bars and warnings of transformers and the hub's client."""
    from logging import ERROR, getLogger

    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    getLogger("huggingface_hub").setLevel(ERROR)


def _commit_is_cached(source: ModelSource) -> bool:
    """Whether the revision is a commit whose weights are in the hub's cache."""
    if source.local or not _COMMIT.fullmatch(source.revision or ""):
        return False
    from huggingface_hub import try_to_load_from_cache

    weights = ("model.safetensors", "model.safetensors.index.json")
    return any(
        isinstance(try_to_load_from_cache(source.location, name, revision=source.revision), str)
        for name in weights
    )


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, Mapping)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _allows_code(value: Any) -> bool:
    """Whether a JSON value has a setting ``trust_remote_code`` that is not false."""
    if isinstance(value, Mapping):
        return bool(value.get("trust_remote_code")) or any(map(_allows_code, value.values()))
    return isinstance(value, list) and any(map(_allows_code, value))
