"""What a benchmark's loader says of itself, so that it can be listed, asked for and loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eval.protocols.published import Expected, Published
from eval.tasks import Source, Task
from indexes.errors import UsageError


@dataclass(frozen=True)
class Option:
    """One way in which a protocol is published in several forms.

    Attributes:
        name: such as ``gallery``.
        about: what it decides, for listings.
        values: those allowed, the default first; empty where any text will do.
    """

    name: str
    about: str
    values: tuple[str, ...] = ()

    @property
    def default(self) -> str:
        """What is meant when nothing is said."""
        return self.values[0] if self.values else ""


@dataclass(frozen=True)
class Protocol:
    """A benchmark by name.

    Attributes:
        name: as typed, such as ``cub200-indirect``.
        about: one line for listings.
        source: where the data come from.
        files: what the user's folder must hold, one line each.
        reader: turns the files into a task; options are checked before.
        options: in which forms it is published.
        expected: counts and checksums of the published files.
    """

    name: str
    about: str
    source: Source
    files: tuple[str, ...]
    reader: Callable[[Published, Mapping[str, str]], Task]
    options: tuple[Option, ...] = ()
    expected: Expected = field(default_factory=Expected)

    def check(self, options: Mapping[str, str]) -> None:
        """Refuse options that there are not, or that have no such value.

        Raises:
            UsageError: naming those there are.
        """
        known = {option.name: option for option in self.options}
        for name, value in options.items():
            if name not in known:
                there = ", ".join(known) or "none"
                raise UsageError(f"{self.name} has no option '{name}'; it has: {there}.")
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
            folder: what :attr:`files` is below.
            partial: whether a subset of the data will do; where it is one, the task's name ends
                in ``-partial``, because its figures compare with no published one.
            expected: in place of the published counts and checksums, for data made otherwise.
            options: see :attr:`options`.

        Raises:
            UsageError: for an option or a value that there is not.
            DataError: if the data are missing, incomplete, or not as published.
        """
        self.check(options)
        chosen = {one.name: options.get(one.name, one.default) for one in self.options}
        data = Published(
            self.name, self.source, Path(folder), expected or self.expected, partial=partial
        )
        if not data.folder.is_dir():
            raise data.wrong(f"there is no folder {data.folder}")
        return self.reader(data, chosen)
