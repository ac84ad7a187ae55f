"""Caches answers of language models in the user's cache folder, which may be emptied at any time.

The cache key contains all that decides an answer: the model with its revision or address, the
whole prompt, the picture's pixels, the allowed length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from PIL import Image

from indexes.files import write_atomic


def cache_folder() -> Path:
    """The folder of the cached answers."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cies", appauthor=False)) / "answers"


def cached_answer(
    about: Mapping[str, str], image: Image.Image | None, ask: Callable[[], str]
) -> str:
    """An answer from the cache, or else a new one, which is then cached unless it is empty.

    Args:
        about: all that decides the answer besides the picture.
        image: the picture that is asked about, if any.
        ask: gives the answer; its errors are passed on and nothing is cached.
    """
    pixels = ""
    if image is not None:
        content = f"{image.mode} {image.size} ".encode() + image.tobytes()
        pixels = hashlib.sha256(content).hexdigest()
    question = json.dumps({**about, "picture": pixels}, sort_keys=True)
    name = hashlib.sha256(question.encode()).hexdigest()
    path = cache_folder() / name[:2] / f"{name}.json"
    with suppress(OSError, ValueError, LookupError, TypeError):
        cached = json.loads(path.read_text(encoding="utf-8"))
        # The file may be cut short or edited.
        if cached["question"] == question and isinstance(cached["answer"], str):
            return str(cached["answer"])
    answer = ask()
    if answer.strip():
        with suppress(OSError, UnicodeError):
            document = json.dumps({"question": question, "answer": answer})
            write_atomic(path, document.encode(), durable=False)
    return answer
