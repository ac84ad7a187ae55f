"""Answers of language models, kept in the user's cache, which may be emptied at any time.

An answer is kept under all that decides it: the model with its revision or address, the whole
prompt, the picture's pixels, the length allowed. A prompt changed by a comma is another question.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from PIL import Image


def folder() -> Path:
    """Where answers are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cies", appauthor=False)) / "answers"


def cached_answer(about: dict[str, str], image: Image.Image | None, ask: Callable[[], str]) -> str:
    """An answer as it was given before, else asked for now.

    Args:
        about: all that decides the answer beside the picture.
        image: the picture it is about, if any.
        ask: gives the answer; what it raises is passed on and nothing is kept.
    """
    pixels = ""
    if image is not None:
        content = f"{image.mode} {image.size} ".encode() + image.tobytes()
        pixels = hashlib.sha256(content).hexdigest()
    whole = json.dumps({**about, "picture": pixels}, sort_keys=True)
    name = hashlib.sha256(whole.encode()).hexdigest()
    place = folder() / name[:2] / f"{name}.json"
    with suppress(OSError, ValueError, LookupError, TypeError):
        kept = json.loads(place.read_text(encoding="utf-8"))
        # Another question of the same digest does not exist; a file cut short or edited does.
        if kept["question"] == whole and isinstance(kept["answer"], str):
            return str(kept["answer"])
    answer = ask()
    if answer.strip():
        with suppress(OSError, UnicodeError):
            place.parent.mkdir(parents=True, exist_ok=True)
            fresh = place.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps({"question": whole, "answer": answer}), encoding="utf-8")
            fresh.replace(place)
    return answer
