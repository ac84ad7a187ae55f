"""What is set for good: in the environment and in ``cies.toml``, and where the gallery is.

The command line comes before the environment, that before the nearest ``cies.toml`` here or
above, that before the one in the user's folder of settings, and all of them before the default.
An option ``--copy-to`` of ``cies search`` is

- ``CIES_SEARCH_COPY_TO`` in the environment, or ``CIES_COPY_TO`` for every command that has it;
- ``copy-to = "..."`` under ``[search]`` in ``cies.toml``, or above all sections for every command.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexes.errors import UsageError

FOLDER = ".cies"
FILE = "cies.toml"
PREFIX = "CIES_"

_WORDS = {"1": True, "true": True, "yes": True, "on": True}
_WORDS |= {"0": False, "false": False, "no": False, "off": False}

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    Path: "a path in quotes",
    list: 'a list of texts, such as ["a", "b"]',
}


def find_gallery(given: Path | None) -> Path:
    """The gallery's folder: as given, else a ``.cies`` here or above, else the user's own.

    Args:
        given: from ``--gallery``, ``CIES_GALLERY`` or ``cies.toml``.
    """
    if given is not None:
        return given
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER / "manifest.lance").is_dir():
            return folder / FOLDER
    import platformdirs

    return Path(platformdirs.user_data_dir("cies", appauthor=False)) / "gallery"


@dataclass(frozen=True)
class Option:
    """One option of one command.

    Attributes:
        command: its words, such as ``search`` or ``bench embed``.
        key: its name as typed, without dashes: ``copy-to``.
        parameter: the name of the function's parameter.
        kind: ``bool``, ``int``, ``float``, ``str``, ``Path`` or ``list`` (of texts).
        default: the value when nobody says.
        least: the least number allowed, if there is one.
        most: the greatest number allowed, if there is one.
    """

    command: str
    key: str
    parameter: str
    kind: type
    default: Any
    least: float | None = None
    most: float | None = None

    @property
    def variables(self) -> tuple[str, str]:
        """What sets it in the environment: for this command, and for every one that has it."""
        return tuple(  # type: ignore[return-value]
            PREFIX + name.upper().replace("-", "_").replace(" ", "_")
            for name in (f"{self.command} {self.key}", self.key)
        )


@dataclass(frozen=True)
class Setting:
    """An option's value in force, before the command line has its say.

    Attributes:
        option: whose.
        value: of the option's kind.
        origin: a variable, a file, or ``default``.
    """

    option: Option
    value: Any
    origin: str


@dataclass(frozen=True)
class File:
    """A ``cies.toml`` that was read.

    Attributes:
        path: where it lies; paths in it are relative to its folder.
        values: what it says.
    """

    path: Path
    values: Mapping[str, Any]


def places() -> list[Path]:
    """Where ``cies.toml`` may be: the nearest one here or above, then the user's own."""
    import platformdirs

    here = Path.cwd()
    above = [folder / FILE for folder in (here, *here.parents)]
    own = Path(platformdirs.user_config_dir("cies", appauthor=False)) / FILE
    nearest = next((path for path in above if path.is_file()), above[0])
    return [nearest] if nearest == own else [nearest, own]


def read_files(options: Iterable[Option]) -> list[File]:
    """Those that are there, the nearest first.

    Args:
        options: of every command, against which the keys are held.

    Raises:
        UsageError: naming the file, if it cannot be read or says something unknown or of the
            wrong kind.
    """
    files = []
    for path in places():
        if not path.is_file():
            continue
        import tomllib

        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"Cannot read {path}: {reason}; mend it or move it away.") from error
        except ValueError as error:
            raise UsageError(f"{path} is not TOML: {error}; mend it or move it away.") from error
        file = File(path, values)
        _check(file, list(options))
        files.append(file)
    return files


def settings(
    options: Sequence[Option], files: Sequence[File], environment: Mapping[str, str]
) -> list[Setting]:
    """What is in force for some options.

    Args:
        options: of one command or of all.
        files: from :func:`read_files`.
        environment: such as ``os.environ``; an empty variable counts as none.

    Raises:
        UsageError: naming the variable, if a value is of the wrong kind.
    """
    return [_setting(option, files, environment) for option in options]


def _setting(option: Option, files: Sequence[File], environment: Mapping[str, str]) -> Setting:
    for variable in option.variables:
        if text := environment.get(variable):
            return Setting(option, _from_text(option, text, variable), variable)
    for file in files:
        for values in (_section(file, option.command), file.values):
            if option.key in values:
                value = values[option.key]
                return Setting(option, _from_toml(option, value, file), str(file.path))
    return Setting(option, option.default, "default")


def unknown_variables(options: Iterable[Option], environment: Mapping[str, str]) -> list[str]:
    """Variables that begin like ours and set nothing."""
    known = {variable for option in options for variable in option.variables}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def _section(file: File, command: str) -> Mapping[str, Any]:
    found: Any = file.values
    for word in command.split():
        # A key may have a command's name, as `gallery` has; then there is no section of it.
        found = found.get(word, {}) if isinstance(found, dict) else {}
    return dict(found) if isinstance(found, dict) else {}


def _check(file: File, options: Sequence[Option]) -> None:
    """Refuse keys that are no option's and values of the wrong kind, wherever they stand."""
    commands = {option.command for option in options}
    groups = {command.split()[0] for command in commands if " " in command}

    def walk(values: Mapping[str, Any], section: str) -> None:
        for key, value in values.items():
            inner = f"{section} {key}".strip()
            if isinstance(value, dict) and (inner in commands or inner in groups):
                walk(value, inner)
                continue
            fitting = [o for o in options if o.key == key and section in ("", o.command)]
            if inner in commands | groups and not fitting:
                raise UsageError(
                    f"{file.path}: '{inner}' is a command; what is set for it stands in a section, "
                    f"[{inner.replace(' ', '.')}]."
                )
            if not fitting:
                known = {o.key for o in options if section in ("", o.command)} | (
                    {name for name in commands | groups if " " not in name}
                    if not section
                    else set()
                )
                _unknown(file, section, key, known)
            for option in fitting:
                _from_toml(option, value, file)

    walk(file.values, "")


def _unknown(file: File, section: str, key: str, known: Iterable[str]) -> None:
    from difflib import get_close_matches

    where = f" under [{section.replace(' ', '.')}]" if section else ""
    close = get_close_matches(key, list(known), 1)
    hint = f"did you mean '{close[0]}'?" if close else "`cies config --all` lists those there are."
    command = f"`cies {section}`" if section else "any command"
    raise UsageError(f"{file.path}: '{key}'{where} is no option of {command}; {hint}")


def _from_toml(option: Option, value: Any, file: File) -> Any:
    """A value of a file in the option's kind.

    Raises:
        UsageError: if it is of another.
    """
    kind = option.kind
    if kind is list and isinstance(value, str):
        value = [value]
    if kind is list:
        right = isinstance(value, list) and all(isinstance(one, str) for one in value)
    elif kind is bool:
        right = isinstance(value, bool)
    else:
        # In Python true and false are whole numbers, in a file they are not.
        types = (int, float) if kind is float else (str,) if kind is Path else (kind,)
        right = isinstance(value, types) and not isinstance(value, bool)
    if not right:
        raise UsageError(
            f"{file.path}: '{option.key}' is {value!r}, but for `cies {option.command}` it must "
            f"be {_KINDS[kind]}."
        )
    _check_range(option, value, f"{file.path}: '{option.key}'")
    # Not resolved: a link is named as the user named it.
    return Path(os.path.normpath(file.path.parent / value)) if kind is Path else value


def _from_text(option: Option, text: str, variable: str) -> Any:
    """A variable's text in the option's kind; a list's parts stand as on a command line.

    Raises:
        UsageError: if it cannot be read so.
    """
    import shlex

    try:
        if option.kind is bool:
            return _WORDS[text.strip().lower()]
        value = shlex.split(text) if option.kind is list else option.kind(text)
    except (KeyError, ValueError):
        wanted = _KINDS[option.kind].replace(" in quotes", "")
        if option.kind is list:
            wanted = "words as on a command line, with quotes in pairs"
        raise UsageError(
            f"{variable} is {text!r}, but for `cies {option.command}` it must be {wanted}."
        ) from None
    _check_range(option, value, variable)
    return value


def _check_range(option: Option, value: Any, where: str) -> None:
    if option.kind not in (int, float):
        return
    if option.least is not None and value < option.least:
        raise UsageError(f"{where} is {value}; it must be at least {option.least}.")
    if option.most is not None and value > option.most:
        raise UsageError(f"{where} is {value}; it must be at most {option.most}.")


def environment() -> Mapping[str, str]:
    """The environment's variables."""
    return os.environ
