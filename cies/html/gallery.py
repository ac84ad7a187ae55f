"""The pages of a gallery in groups: an overview, one page a condition, and one or more a group."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cies.html.links import file_address
from cies.html.pictures import thumbnail_path
from cies.html.rendering import render
from indexes.search.open_table import OpenTable
from query.explore.groups import Group

#: Pictures on one page of a group; more go to further pages.
PER_PAGE = 240

#: Groups of each condition on the overview, where there are several conditions.
SHOWN = 10

#: Groups named as most like another.
LIKE = 4

THUMBNAILS = "thumbnails"
COPIES = "copies"
INDEX = "index.html"


@dataclass(frozen=True)
class ConditionGroups:
    """The groups of one condition, in the order of the pages: largest first."""

    table: OpenTable
    groups: Sequence[Group]

    @property
    def condition(self) -> str:
        """The gallery's name of the condition."""
        return self.table.table.name

    @property
    def pictures(self) -> int:
        """Number of pictures in all groups."""
        return sum(group.pictures for group in self.groups)

    @property
    def folder(self) -> str:
        """The folder of the condition's pages."""
        return file_name(self.condition)

    def page(self, group: int, page_number: int = 1) -> str:
        """The file name of a group's page; groups count from 0 and pages from 1."""
        name = file_name(self.groups[group].word)
        return f"{name}.html" if page_number == 1 else f"{name}.{page_number}.html"


@dataclass(frozen=True)
class Pictures:
    """Files and thumbnails of the pictures on the pages.

    Attributes:
        paths: content key to the places of its files, as a gallery's ``location`` gives them.
        unreadable: keys that have no thumbnail.
        originals: the folder of the pages, if pictures link to their files; else ``None``.
        copies: content key to the name of the copy of a picture that browsers can show.
    """

    paths: Mapping[str, Sequence[str]]
    unreadable: frozenset[str] | set[str]
    originals: Path | None = None
    copies: Mapping[str, str] = field(default_factory=dict)


def file_name(words: str) -> str:
    """A file name for any text: its letters and digits, and a hash. It is always the same.

    Different texts get different names, also on file systems that ignore case, and no name is
    reserved by an operating system.
    """
    ascii_only = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode("ascii")
    readable = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")[:40]
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest


def pages(sections: Sequence[ConditionGroups], pictures: Pictures) -> Iterator[tuple[str, str]]:
    """Every page as its relative path and its HTML; the overview, ``index.html``, comes last.

    Args:
        sections: the conditions, at least one.
        pictures: the pictures of all groups.
    """
    several = len(sections) > 1
    for section in sections:
        if several:
            yield f"{section.folder}/{INDEX}", _condition_page(section, pictures, "../")
        for number in range(len(section.groups)):
            yield from _group_pages(section, number, pictures, several)
    yield (
        INDEX,
        _overview(sections, pictures) if several else _condition_page(sections[0], pictures, ""),
    )


def page_names(sections: Sequence[ConditionGroups]) -> Iterator[str]:
    """The relative paths of :func:`pages`."""
    for section in sections:
        if len(sections) > 1:
            yield f"{section.folder}/{INDEX}"
        for number, group in enumerate(section.groups):
            for page_number in range(1, _page_count(group) + 1):
                yield f"{section.folder}/{section.page(number, page_number)}"
    yield INDEX


def _page_count(group: Group) -> int:
    """How many pages a group has."""
    return max(1, -(-group.pictures // PER_PAGE))


def _overview(sections: Sequence[ConditionGroups], pictures: Pictures) -> str:
    return render(
        "gallery_overview.html.j2",
        root="",
        title="The gallery",
        heading="The gallery, by condition",
        crumbs=[],
        sections=[_section(section, pictures, "", SHOWN) for section in sections],
    )


def _condition_page(section: ConditionGroups, pictures: Pictures, root: str) -> str:
    """All groups of a condition; ``root`` is the way from the page to the root."""
    heading = f"By {section.condition}"
    return render(
        "gallery_condition.html.j2",
        root=root,
        title=heading,
        heading=heading,
        crumbs=[("All conditions", f"../{INDEX}")] if root else [],
        section=_section(section, pictures, root, len(section.groups)),
    )


def _section(section: ConditionGroups, pictures: Pictures, root: str, shown: int) -> dict[str, Any]:
    """A condition with its largest groups, for a page in the root or one folder below it."""
    before = "" if root else f"{section.folder}/"
    return {
        "condition": section.condition,
        "page": f"{before}{INDEX}",
        "pictures": section.pictures,
        "groups": len(section.groups),
        "placed": sum(len(group.likely) for group in section.groups),
        "cards": [
            {
                "page": f"{before}{section.page(number)}",
                "word": group.word,
                "pictures": group.pictures,
                **_mosaic(section, group, pictures, root),
            }
            for number, group in enumerate(section.groups[:shown])
        ],
    }


def _mosaic(
    section: ConditionGroups, group: Group, pictures: Pictures, root: str
) -> dict[str, Any]:
    """A group's typical pictures, as many as fill a rectangle."""
    keys = [section.table.keys[row] for row in group.representatives]
    keys = [key for key in keys if key not in pictures.unreadable]
    # A mosaic has no holes: one, two, three, two by two, or three by two.
    keys = keys[: {5: 4}.get(len(keys), 6)]
    across = {0: 1, 4: 2, 6: 3}.get(len(keys), len(keys))
    return {"across": across, "thumbnails": [_thumbnail(key, root) for key in keys]}


def _thumbnail(key: str, root: str) -> str:
    return f"{root}{THUMBNAILS}/{thumbnail_path(key)}"


def _group_pages(
    section: ConditionGroups, number: int, pictures: Pictures, several: bool
) -> Iterator[tuple[str, str]]:
    group = section.groups[number]
    rows = [*group.sure.tolist(), *group.likely.tolist()]
    page_count = _page_count(group)
    above = [("All conditions", f"../{INDEX}")] if several else []
    above.append((f"By {section.condition}", INDEX if several else f"../{INDEX}"))
    for page_number in range(1, page_count + 1):
        start = (page_number - 1) * PER_PAGE
        shown = rows[start : start + PER_PAGE]
        sure = max(0, min(len(shown), len(group.sure) - start))
        count = f", page {page_number} of {page_count}" if page_count > 1 else ""
        page = render(
            "gallery_group.html.j2",
            root="../",
            title=f"{group.word}, by {section.condition}{count}",
            heading=group.word,
            crumbs=above,
            pictures=group.pictures,
            placed=len(group.likely),
            merged=group.facet.words[1:],
            nearest=[_link(section, other) for other in group.nearest[:LIKE]],
            # The groups are sorted by size: the next larger and the next smaller one.
            before=_link(section, number - 1) if number > 0 else None,
            next=_link(section, number + 1) if number + 1 < len(section.groups) else None,
            page_number=page_number,
            numbers=_numbers(section, number, page_number, page_count),
            sure=[_picture(section, group, row, pictures, False) for row in shown[:sure]],
            likely=[_picture(section, group, row, pictures, True) for row in shown[sure:]],
        )
        yield f"{section.folder}/{section.page(number, page_number)}", page


def _link(section: ConditionGroups, number: int) -> dict[str, str]:
    return {"word": section.groups[number].word, "page": section.page(number)}


def _numbers(
    section: ConditionGroups, number: int, page_number: int, page_count: int
) -> list[tuple[int | None, str]]:
    """Page numbers and their addresses: both ends, and those around this one.

    ``None`` is an omission; the list is empty where there is only one page.
    """
    near = {1, page_count, *range(max(1, page_number - 2), min(page_count, page_number + 2) + 1)}
    entries: list[tuple[int | None, str]] = []
    for other in sorted(near) if page_count > 1 else ():
        if other > 1 and other - 1 not in near:
            entries.append((None, ""))
        entries.append((other, section.page(number, other)))
    return entries


def _picture(
    section: ConditionGroups, group: Group, row: int, pictures: Pictures, likely: bool
) -> dict[str, str | None]:
    """A picture of a group, with its word if that differs from the group's or is ``likely``."""
    key, word = section.table.keys[row], section.table.words[row]
    paths = pictures.paths.get(key, [""])
    shown = None
    if likely or word != group.word:
        sureness = f", {section.table.word_probabilities[row]:.0%} sure" if likely and word else ""
        shown = f"{word or 'no word'}{sureness}"
    return {
        "name": PurePosixPath(paths[0]).name,
        "thumbnail": None if key in pictures.unreadable else _thumbnail(key, "../"),
        "link": f"../{COPIES}/{pictures.copies[key]}"
        if key in pictures.copies
        else _original(paths, pictures.originals, section.folder),
        "word": shown,
    }


def _original(paths: Sequence[str], root: Path | None, folder: str) -> str:
    """The address of the first file that exists, relative where the drive is the same, or empty."""
    if root is None:
        return ""
    addresses = (file_address(path, root / folder) for path in paths)
    return next((address for address in addresses if address), "")
