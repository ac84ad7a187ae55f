"""One sentence for each of the many ways in which a model cannot be loaded.

The libraries below tell them apart by words only, so that words are looked for here.
"""

from __future__ import annotations

import json
from pathlib import Path

from ingest.encoders.memory import ran_out

_INSTEAD = "or name another model"


def expected_errors() -> tuple[type[Exception], ...]:
    """What loading a model may raise for reasons that lie in its files, the network or memory."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    kinds = (OSError, ValueError, ImportError, MemoryError, RuntimeError)
    return (*kinds, SafetensorError, StrictDataclassError)


def explain(
    error: Exception, name: str, location: str, revision: str | None, local: bool
) -> str | None:
    """Why a model could not be loaded and what to do; ``None`` for an error of our own.

    Args:
        error: one of :func:`expected_errors`.
        name: of the model, for people.
        location: a hub id or a folder.
        revision: the one asked for.
        local: whether ``location`` is a folder.
    """
    text = " ".join(str(error).split())
    if ran_out(error):
        return (
            f"There is not enough memory to load {name}; give --dtype bfloat16, --device cpu, "
            "--device-map auto, or a smaller --model."
        )
    own = _of_its_files(error, text, name)
    if own is not None:
        return own
    if isinstance(error, RuntimeError):
        return None
    return _of_a_folder(text, Path(location)) if local else _of_the_hub(text, name, revision)


def _of_its_files(error: Exception, text: str, name: str) -> str | None:
    kind = type(error).__name__
    if kind == "SafetensorError":
        return (
            f"The weights of {name} are cut short or damaged ({_first(text)}); copy or download "
            f"them again, {_INSTEAD}."
        )
    if kind.startswith("StrictDataclass"):
        return f"The config.json of {name} is wrong ({_first(text)}); restore it, {_INSTEAD}."
    if "ignore_mismatched_sizes" in text:
        return (
            f"The weights of {name} have other sizes than its config.json says; restore the one "
            f"or the other, {_INSTEAD}."
        )
    if isinstance(error, ImportError):
        return f"{name} cannot be loaded: {_first(text)}; install what is missing, {_INSTEAD}."
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


def _of_a_folder(text: str, folder: Path) -> str:
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
    return f"The model in {folder} cannot be loaded: {_first(text)}; restore it, {_INSTEAD}."


def _of_the_hub(text: str, name: str, revision: str | None) -> str:
    from ingest.encoders.models.find import BUILTIN

    if "gated repo" in text or "restricted" in text:
        return (
            f"{name} is given only to those who accepted its terms; accept them on its page on "
            f"the hub and log in with `hf auth login`, {_INSTEAD}."
        )
    if revision and "not a valid git identifier" in text:
        return (
            f"{name} has no revision '{revision}'; look its revisions up on the hub, or leave "
            "@REVISION out."
        )
    what = f"Revision '{revision}' of {name}" if revision else name
    return (
        f"{what} is not in the local cache and could not be fetched from the hub; check the name "
        f"and the network, or name a folder or a built-in model ({', '.join(BUILTIN)})."
    )


def _first(text: str) -> str:
    """The first sentence, without its stop."""
    return text.partition(". ")[0].rstrip(".")[:200]
