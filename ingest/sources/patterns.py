"""Patterns for names: ``.gitignore`` patterns, shell wildcards, and ``{000..012}.tar`` lists."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product
from typing import Iterable

import pathspec

from indexes.errors import UsageError

_WILDCARDS = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")

#: A list in braces that expands to more names than this is most likely a typing error.
_MAX_NAMES = 1_000_000

#: The part of pathspec's regular expressions that matches the slash behind a folder.
_FOLDER_SLASH = "ps_d"


def has_wildcard(text: str) -> bool:
    """Whether a text contains ``*``, ``?`` or ``[``."""
    return _WILDCARDS.search(text) is not None


def fixed_part(pattern: str) -> str:
    """The folder that contains everything a pattern can match; empty for the current folder."""
    kept = []
    for part in pattern.split("/")[:-1]:
        if has_wildcard(part):
            break
        kept.append(part)
    return "/".join(kept) or ("/" if pattern.startswith("/") else "")


def expand_braces(text: str) -> list[str]:
    """Expand ``{000..012}`` and ``{train,val}`` to all names, in order.

    Raises:
        UsageError: if a range runs backwards, or there are too many names.
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
            if last < first or last - first >= _MAX_NAMES:
                raise UsageError(
                    f"{{{part}}} in {text} is not a range of names; write the smaller number "
                    "first, such as {000..012}."
                )
            width = len(span[1])
            choices.append([f"{value:0{width}}" for value in range(first, last + 1)])
        elif "," in part:
            choices.append(part.split(","))
        else:
            choices.append(["{" + part + "}"])
        count *= len(choices[-1])
        if count > _MAX_NAMES:
            raise UsageError(f"{text} expands to more than {_MAX_NAMES:,} names; name a folder.")
    return ["".join(chosen) for chosen in product(*choices)]


class IgnorePatterns:
    """Matches paths against ``.gitignore`` patterns, exactly as git does.

    The patterns are parsed by ``pathspec``. Its own ``match_file`` lets a negated pattern that
    matches a parent folder win over a later pattern; git compares each folder and the file
    separately, from the top down, and so does this class.
    """

    def __init__(self, patterns: Iterable[str]):
        """Compile the patterns.

        Raises:
            UsageError: if one is not a ``.gitignore`` pattern.
        """
        self._rules: list[tuple[re.Pattern[str], bool, bool]] = []
        for pattern in patterns:
            # pathspec also matches the folder itself by "folder/**", git only what is inside.
            line = re.sub(r"/\*\*(/?)\s*$", r"/**/*\1", pattern)
            try:
                parsed = pathspec.GitIgnoreSpec.from_lines([line]).patterns
            except ValueError as error:
                raise UsageError(
                    f"{pattern!r} is not a .gitignore pattern; write one such as raw/ or '*.jpg'."
                ) from error
            for rule in parsed:  # None for an empty line.
                if rule.include is not None and rule.regex is not None:
                    regex = rule.regex
                    self._rules.append((regex, rule.include, _FOLDER_SLASH in regex.groupindex))
        self._rules.reverse()  # The last matching pattern decides.
        self._folder_matches = lru_cache(maxsize=1024)(self.match)

    def __bool__(self) -> bool:
        """Whether there is any pattern."""
        return bool(self._rules)

    def match(self, path: str) -> bool:
        """Whether git would ignore a path: itself, or because of a folder above it.

        Args:
            path: relative to the source, with ``/`` between folders, and with ``/`` at the end
                for a folder. Case counts.
        """
        if not self._rules:
            return False
        parent = path.rstrip("/").rpartition("/")[0]
        return (bool(parent) and self._folder_matches(parent + "/")) or self._match_itself(path)

    def _match_itself(self, path: str) -> bool:
        for regex, ignored, may_end_early in self._rules:
            for found in regex.finditer(path):
                # A match that ends at an inner slash is one of a parent folder.
                if not may_end_early or found.end(_FOLDER_SLASH) in (-1, len(path)):
                    return ignored
        return False


class NameFilter:
    """Chooses files and folders by the patterns of ``--include`` and ``--exclude``."""

    def __init__(self, include: Iterable[str], exclude: Iterable[str]):
        """Compile the patterns; without an ``include`` pattern every file is included.

        Raises:
            UsageError: if one is not a ``.gitignore`` pattern.
        """
        self._include = IgnorePatterns(include)
        self._exclude = IgnorePatterns(exclude)

    def excludes(self, path: str) -> bool:
        """Whether a file, or a folder (with ``/`` at its end), is excluded by a pattern."""
        return self._exclude.match(path)

    def accepts(self, path: str) -> bool:
        """Whether a file is included and not excluded."""
        return not self._exclude.match(path) and (not self._include or self._include.match(path))
