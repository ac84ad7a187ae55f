"""Explains in one sentence why a model cannot be loaded.

The libraries distinguish most of these errors by their text only, so the text is searched here.
"""

from __future__ import annotations

import json
from pathlib import Path

from ingest.encoders.devices import is_out_of_memory
from ingest.encoders.models.find import BUILTIN, ModelSource

_INSTEAD = "or name another model"


def expected_errors() -> tuple[type[Exception], ...]:
    """Exceptions that loading a model may raise because of its files, the network or memory."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    kinds = (OSError, ValueError, ImportError, MemoryError, RuntimeError)
    return (*kinds, SafetensorError, StrictDataclassError)


def explain(error: Exception, source: ModelSource) -> str | None:
    """Why a model could not be loaded and what to do; ``None`` for an error in our own code.

    Args:
        error: one of :func:`expected_errors`.
        source: the model.
    """
    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        return (
            f"There is not enough memory to load {source.name}; give --dtype bfloat16, --device "
            "cpu, --device-map auto, or a smaller --model."
        )
    reason = _explain_files(error, text, source.name)
    if reason is not None:
        return reason
    if isinstance(error, RuntimeError):
        return None
    return (
        _explain_folder(text, Path(source.location))
        if source.local
        else _explain_hub(text, source.name, source.revision)
    )


def _explain_files(error: Exception, text: str, name: str) -> str | None:
    kind = type(error).__name__
    if kind == "SafetensorError":
        return (
            f"The weights of {name} are cut short or damaged ({_first_sentence(text)}); copy or "
            f"download them again, {_INSTEAD}."
        )
    if kind.startswith("StrictDataclass"):
        return (
            f"The config.json of {name} is wrong ({_first_sentence(text)}); restore it, {_INSTEAD}."
        )
    if "ignore_mismatched_sizes" in text:
        return (
            f"The weights of {name} have other sizes than its config.json says; restore one of "
            f"the two, {_INSTEAD}."
        )
    if isinstance(error, ImportError):
        return (
            f"{name} cannot be loaded: {_first_sentence(text)}; install what is missing, "
            f"{_INSTEAD}."
        )
    if "safetensors" in text or "pytorch_model.bin" in text:
        return (
            f"{name} has no safetensors weights, and other formats can run code when loaded; "
            f"convert them to safetensors, {_INSTEAD}."
        )
    if "does not recognize this architecture" in text:
        return (
            f"{name} is of a type that this version of transformers does not know; install a "
            f"newer one, {_INSTEAD}."
        )
    if "model_type" in text:
        return f"The config.json of {name} names no model type; restore it, {_INSTEAD}."
    return None


def _explain_folder(text: str, folder: Path) -> str:
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return f"The file {path} is not valid JSON; restore it, {_INSTEAD}."
    for missing in ("preprocessor_config.json", "tokenizer_config.json"):
        if not (folder / missing).is_file() and not (folder / "processor_config.json").is_file():
            return (
                f"The folder {folder} holds a model without {missing}; copy that file there too, "
                f"{_INSTEAD}."
            )
    return (
        f"The model in {folder} cannot be loaded: {_first_sentence(text)}; restore it, {_INSTEAD}."
    )


def _explain_hub(text: str, name: str, revision: str | None) -> str:
    if "gated repo" in text or "restricted" in text:
        return (
            f"{name} is available only to users who accepted its terms; accept them on its page on "
            f"the hub and log in with `hf auth login`, {_INSTEAD}."
        )
    if revision and "not a valid git identifier" in text:
        return (
            f"{name} has no revision '{revision}'; look its revisions up on the hub, or leave "
            "@REVISION out."
        )
    what = f"Revision '{revision}' of {name}" if revision else name
    return (
        f"{what} is not in the local cache and could not be downloaded from the hub; check the "
        f"name and the network, or name a folder or a built-in model ({', '.join(BUILTIN)})."
    )


def _first_sentence(text: str) -> str:
    """The first sentence, without its full stop."""
    return text.partition(". ")[0].rstrip(".")[:200]
