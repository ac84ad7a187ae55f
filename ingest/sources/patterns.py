"""Name patterns, and lists written short: ``*.jpg``, ``**/raw``, ``{000..012}.tar``."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

from indexes.errors import UsageError

_MAGIC = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")

#: More names than this are more likely a slip of the finger.
_MOST = 1_000_000


def has_pattern(text: str) -> bool:
    """Whether a text holds ``*``, ``?`` or ``[``."""
    return _MAGIC.search(text) is not None


def fixed_part(pattern: str) -> str:
    """The folder in which all that matches a pattern lies; empty for the current one."""
    kept = []
    for part in pattern.split("/")[:-1]:
        if has_pattern(part):
            break
        kept.append(part)
    return "/".join(kept) or ("/" if pattern.startswith("/") else "")


def expand_braces(text: str) -> list[str]:
    """The names that ``{000..012}`` and ``{train,val}`` stand for, in order.

    Raises:
        UsageError: if a range runs backwards or stands for too many names.
    """
    parts = _BRACES.split(text)
    choices: list[list[str]] = []
    count = 1
    for number, part in enumerate(parts):
        if number % 2 == 0:
            choices.append([part])
            continue
        span = _RANGE.fullmatch(part)
        if span:
            first, last = int(span[1]), int(span[2])
            if last < first or last - first >= _MOST:
                raise UsageError(
                    f"{{{part}}} in {text} is no range of names; write the smaller number first, "
                    "such as {000..012}."
                )
            width = len(span[1])
            choices.append([f"{value:0{width}}" for value in range(first, last + 1)])
        elif "," in part:
            choices.append(part.split(","))
        else:
            choices.append(["{" + part + "}"])
        count *= len(choices[-1])
        if count > _MOST:
            raise UsageError(f"{text} stands for more than {_MOST:,} names; name a folder.")
    return ["".join(chosen) for chosen in product(*choices)]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    expression = "".join(
        {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
        if not (part.startswith("[") and part.endswith("]"))
        else part.replace("[!", "[^", 1)
        for part in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern.strip("/"))
    )
    return re.compile(expression, re.DOTALL)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path, relative to its source and with ``/``, matches one of the patterns.

    A pattern without ``/`` is compared with the last part of the path, any other with all of it;
    ``*`` stays within a folder, ``**`` does not. Case counts.
    """
    last = name.rpartition("/")[2]
    return any(
        _compiled(pattern).fullmatch(name if "/" in pattern.strip("/") else last)
        for pattern in patterns
    )
