"""Explains in one sentence why a model cannot be loaded.

The libraries distinguish most of these errors by their text only, so the text is searched here.
"""

from __future__ import annotations

from pathlib import Path

from indexes.errors import ModelError
from ingest.encoders.devices import is_out_of_memory
from ingest.encoders.models.find import BUILTIN, ModelSource, read_json

_INSTEAD = "or name another model"

#: Texts of transformers' errors about a model that comes with Python code.
_OWN_CODE = ("trust_remote_code", "contains custom code", "execute custom code")


def explain(error: Exception, source: ModelSource) -> str:
    """Why a model could not be loaded and what to do, in one sentence.

    Args:
        error: what a library raised when it read the model's files.
        source: the model.
    """
    text = _one_line(str(error))
    if is_out_of_memory(error):
        return (
            f"There is not enough memory to load {source.name}; give --dtype bfloat16, --device "
            "cpu, --device-map auto, or a smaller --model."
        )
    reason = _explain_files(error, text, source.name)
    if reason is not None:
        return reason
    if source.local:
        return _explain_folder(error, text, Path(source.location))
    if not isinstance(error, OSError):
        return (
            f"The files of {source.name} cannot be used ({_first_sentence(text, error)}); give "
            f"another @REVISION, {_INSTEAD}."
        )
    return _explain_hub(text, source.name, source.revision)


def _explain_files(error: Exception, text: str, name: str) -> str | None:
    kind = type(error).__name__
    if any(sign in text for sign in _OWN_CODE):
        return (
            f"{name} needs Python code of its own, which runs only if you ask for it: read that "
            "code, name the model by its hub id and add --trust-remote-code ORG/NAME@COMMIT, "
            f"{_INSTEAD}."
        )
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


def _explain_folder(error: Exception, text: str, folder: Path) -> str:
    for path in sorted(folder.glob("*.json")):
        try:
            read_json(path)
        except ModelError as broken:
            return str(broken)
    for missing in ("preprocessor_config.json", "tokenizer_config.json"):
        if not (folder / missing).is_file() and not (folder / "processor_config.json").is_file():
            return (
                f"The folder {folder} holds a model without {missing}; copy that file there too, "
                f"{_INSTEAD}."
            )
    return (
        f"The model in {folder} cannot be loaded ({_first_sentence(text, error)}); restore its "
        f"files, {_INSTEAD}."
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


def _one_line(text: str) -> str:
    """A library's message without line breaks and without characters that control a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _first_sentence(text: str, error: Exception | None = None) -> str:
    """The first sentence, without its full stop; the kind of error where it says little."""
    first = text.partition(". ")[0].rstrip(".")[:200]
    if error is None or isinstance(error, (OSError, RuntimeError)) or len(first.split()) > 4:
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
