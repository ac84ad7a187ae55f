"""The description of a benchmark, by which it is listed, checked and loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.tasks import BenchmarkSource, Task
from indexes.errors import UsageError


@dataclass(frozen=True)
class ProtocolOption:
    """A choice between forms in which a protocol is published.

    Attributes:
        name: such as ``gallery``.
        about: what it decides, for listings.
        values: the allowed ones, the default first; empty if any text is allowed.
    """

    name: str
    about: str
    values: tuple[str, ...] = ()

    @property
    def default(self) -> str:
        """The value if none is given."""
        return self.values[0] if self.values else ""


@dataclass(frozen=True)
class Protocol:
    """A benchmark by name.

    Attributes:
        name: as typed, such as ``cub200-indirect``.
        about: one line for listings.
        source: where the data come from.
        files: what the user's folder must hold, one line each.
        reader: makes a task of the files; options are checked before.
        options: the forms in which it is published.
        expected: counts and checksums of the published files.
    """

    name: str
    about: str
    source: BenchmarkSource
    files: tuple[str, ...]
    reader: Callable[[BenchmarkFolder, Mapping[str, str]], Task]
    options: tuple[ProtocolOption, ...] = ()
    expected: Expected = field(default_factory=Expected)

    @property
    def option_names(self) -> set[str]:
        """The names of the options."""
        return {option.name for option in self.options}

    def check(self, options: Mapping[str, str]) -> None:
        """Check the names and values of options.

        Raises:
            UsageError: naming the allowed ones.
        """
        known = {option.name: option for option in self.options}
        for name, value in options.items():
            if name not in known:
                names = ", ".join(known) or "none"
                raise UsageError(f"{self.name} has no option '{name}'; it has: {names}.")
            if known[name].values and value not in known[name].values:
                raise UsageError(
                    f"{self.name} has no {name} '{value}'; name one of "
                    f"{', '.join(known[name].values)}."
                )

    def load(
        self,
        folder: Path,
        *,
        partial: bool = False,
        expected: Expected | None = None,
        **options: str,
    ) -> Task:
        """Read the benchmark's files.

        Args:
            folder: the folder that :attr:`files` are below.
            partial: whether a subset of the data is accepted. The task's name then ends in
                ``-partial`` if it is one, because its figures compare with no published ones.
            expected: in place of the published counts and checksums, for other data.
            options: see :attr:`options`.

        Raises:
            UsageError: if there is no such option or value.
            DataError: if the data are missing, incomplete, or not as published.
        """
        self.check(options)
        chosen = {option.name: options.get(option.name, option.default) for option in self.options}
        data = BenchmarkFolder(
            self.name, self.source, Path(folder), expected or self.expected, partial=partial
        )
        if not data.folder.is_dir():
            raise data.error(f"there is no folder {data.folder}")
        return self.reader(data, chosen)
