"""Permanent settings, from environment variables and ``cies.toml``, and the gallery's path.

The command line overrides the environment; the environment overrides the nearest ``cies.toml`` in
the current folder or above; that overrides the one in the user's folder of settings; and all of
them override the default. The option ``--copy-to`` of ``cies search`` is

- ``CIES_SEARCH_COPY_TO`` in the environment, or ``CIES_COPY_TO`` for every command that has it;
- ``copy-to = "..."`` under ``[search]`` in ``cies.toml``, or above all sections for every command.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cies.cli.command_tree import CommandOption, all_options
from indexes.errors import UsageError

if TYPE_CHECKING:
    import typer

FOLDER = ".cies"
FILE = "cies.toml"
PREFIX = "CIES_"

_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True}
_BOOLEANS |= {"0": False, "false": False, "no": False, "off": False}

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    Path: "a path in quotes",
    list: 'a list of texts, such as ["a", "b"]',
}


def find_gallery(given: Path | None) -> Path:
    """The gallery's folder: the given one, else a ``.cies`` here or above, else the user's own.

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
class Setting:
    """The value of an option that the command line does not give.

    Attributes:
        option: the option.
        value: its value, of the option's kind.
        origin: a variable, a file, or ``default``.
    """

    option: CommandOption
    value: Any
    origin: str


@dataclass(frozen=True)
class SettingsFile:
    """The content of a ``cies.toml``.

    Attributes:
        path: the file; paths in it are relative to its folder.
        values: its document.
    """

    path: Path
    values: Mapping[str, Any]


def settings_paths() -> list[Path]:
    """Where ``cies.toml`` may be: the nearest one here or above, then the user's own."""
    import platformdirs

    here = Path.cwd()
    candidates = [folder / FILE for folder in (here, *here.parents)]
    own = Path(platformdirs.user_config_dir("cies", appauthor=False)) / FILE
    nearest = next((path for path in candidates if path.is_file()), candidates[0])
    return [nearest] if nearest == own else [nearest, own]


def default_map(app: typer.Typer, invoked: str) -> dict[str, Any]:
    """The settings of a command in the form of Typer's default map: nested by commands' words.

    Args:
        app: the app with all commands.
        invoked: the first word of the command that was called.

    Raises:
        UsageError: naming the variable, or the file and key, if a setting is wrong.
    """
    has_variable = any(name.startswith(PREFIX) for name in os.environ)
    if not has_variable and not any(path.is_file() for path in settings_paths()):
        return {}
    options = all_options(app)
    nested: dict[str, Any] = {}
    own = [option for option in options if option.command.split()[0] == invoked]
    for setting in settings(own, read_files(options), os.environ):
        if setting.origin != "default":
            inner = nested
            for word in setting.option.command.split():
                inner = inner.setdefault(word, {})
            inner[setting.option.parameter] = plain(setting.value)
    return nested


def plain(value: Any) -> Any:
    """A value as Typer and JSON take it: a path as text."""
    return str(value) if isinstance(value, Path) else value


def read_files(options: Iterable[CommandOption]) -> list[SettingsFile]:
    """The existing settings files, the nearest first.

    Args:
        options: the options of all commands; other keys are refused.

    Raises:
        UsageError: naming the file, if it cannot be read, or has an unknown key or a value of
            the wrong kind.
    """
    files = []
    for path in settings_paths():
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
        file = SettingsFile(path, values)
        _check(file, list(options))
        files.append(file)
    return files


def settings(
    options: Sequence[CommandOption],
    files: Sequence[SettingsFile],
    environment: Mapping[str, str],
) -> list[Setting]:
    """The values in force for some options.

    Args:
        options: the options of one command or of all.
        files: the files from :func:`read_files`.
        environment: such as ``os.environ``; an empty variable is ignored.

    Raises:
        UsageError: naming the variable, if a value is of the wrong kind.
    """
    return [_setting(option, files, environment) for option in options]


def _setting(
    option: CommandOption, files: Sequence[SettingsFile], environment: Mapping[str, str]
) -> Setting:
    for variable in option.variables:
        if text := environment.get(variable):
            return Setting(option, _from_text(option, text, variable), variable)
    for file in files:
        for values in (_section(file, option.command), file.values):
            if option.key in values:
                value = values[option.key]
                return Setting(option, _from_toml(option, value, file), str(file.path))
    return Setting(option, option.default, "default")


def unknown_variables(
    options: Iterable[CommandOption], environment: Mapping[str, str]
) -> list[str]:
    """Variables that start with ``CIES_`` and set no option."""
    known = {variable for option in options for variable in option.variables}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def _section(file: SettingsFile, command: str) -> Mapping[str, Any]:
    found: Any = file.values
    for word in command.split():
        # A key may have the name of a command, such as `gallery`; then it is not a section.
        found = found.get(word, {}) if isinstance(found, dict) else {}
    return dict(found) if isinstance(found, dict) else {}


def _check(file: SettingsFile, options: Sequence[CommandOption]) -> None:
    """Refuse unknown keys, and values of the wrong kind, in all sections."""
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
                    f"{file.path}: '{inner}' is a command; put its settings into a section, "
                    f"[{inner.replace(' ', '.')}]."
                )
            if not fitting:
                known = {o.key for o in options if section in ("", o.command)}
                if not section:
                    known |= {name for name in commands | groups if " " not in name}
                raise _unknown_key(file, section, key, known)
            for option in fitting:
                _from_toml(option, value, file)

    walk(file.values, "")


def _unknown_key(file: SettingsFile, section: str, key: str, known: Iterable[str]) -> UsageError:
    from difflib import get_close_matches

    where = f" under [{section.replace(' ', '.')}]" if section else ""
    close = get_close_matches(key, list(known), 1)
    hint = f"did you mean '{close[0]}'?" if close else "`cies config --all` lists all options."
    command = f"`cies {section}`" if section else "any command"
    return UsageError(f"{file.path}: '{key}'{where} is not an option of {command}; {hint}")


def _from_toml(option: CommandOption, value: Any, file: SettingsFile) -> Any:
    """Convert a value of a file to the option's kind.

    Raises:
        UsageError: if it is of another kind.
    """
    kind = option.kind
    if kind is list and isinstance(value, option.element):
        value = [value]
    if kind is list:
        right = isinstance(value, list) and all(
            isinstance(one, option.element) and not isinstance(one, bool) for one in value
        )
    elif kind is bool:
        right = isinstance(value, bool)
    else:
        # Python's bool is a subclass of int; TOML has separate types.
        types = (int, float) if kind is float else (str,) if kind is Path else (kind,)
        right = isinstance(value, types) and not isinstance(value, bool)
    if not right:
        raise UsageError(
            f"{file.path}: '{option.key}' is {value!r}, but for `cies {option.command}` it must "
            f"be {_expected(option)}."
        )
    _check_range(option, value, f"{file.path}: '{option.key}'")
    # Symbolic links are not resolved, so that messages show the user's own names.
    return Path(os.path.normpath(file.path.parent / value)) if kind is Path else value


def _from_text(option: CommandOption, text: str, variable: str) -> Any:
    """Convert a variable's text to the option's kind; lists are split as on a command line.

    Raises:
        UsageError: if it cannot be converted.
    """
    import shlex

    try:
        if option.kind is bool:
            return _BOOLEANS[text.strip().lower()]
        if option.kind is list:
            value = [option.element(word) for word in shlex.split(text)]
        else:
            value = option.kind(text)
    except (KeyError, ValueError):
        expected = _expected(option).replace(" in quotes", "")
        if option.kind is list and option.element is str:
            expected = "words as on a command line, with quotes in pairs"
        raise UsageError(
            f"{variable} is {text!r}, but for `cies {option.command}` it must be {expected}."
        ) from None
    _check_range(option, value, variable)
    return value


def _expected(option: CommandOption) -> str:
    """What a value must be, for messages."""
    if option.kind is list and option.element is int:
        return "a whole number, or a list of them, such as [-1, 2]"
    return _KINDS[option.kind]


def _check_range(option: CommandOption, value: Any, name: str) -> None:
    if option.kind not in (int, float):
        return
    if option.least is not None and value < option.least:
        raise UsageError(f"{name} is {value}; it must be at least {option.least}.")
    if option.most is not None and value > option.most:
        raise UsageError(f"{name} is {value}; it must be at most {option.most}.")
