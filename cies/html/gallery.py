"""The pages of a gallery in groups: an overview, one page a condition, and one or more a group."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from cies.html.pictures import place_of
from cies.html.style import document, number, text
from indexes.search.open_table import OpenTable
from indexes.store.records import is_address
from query.explore.groups import Group

#: Pictures on one page of a group; more go to further pages.
PER_PAGE = 240

#: Groups of each condition on the overview, where there are several conditions.
SHOWN = 10

#: Groups named as most like another.
LIKE = 4

THUMBNAILS = "thumbnails"
INDEX = "index.html"

_ABOUT = (
    "Groups go by the word the model has for a picture. What it had no word for, was unsure of, "
    "or called by a rare word is placed by likeness, and marked so. Made by CIES."
)


@dataclass(frozen=True)
class Section:
    """One condition's groups, as they are shown."""

    table: OpenTable
    groups: Sequence[Group]

    @property
    def condition(self) -> str:
        """The gallery's name of the condition."""
        return self.table.table.name

    @property
    def pictures(self) -> int:
        """How many are in the groups."""
        return sum(group.pictures for group in self.groups)

    @property
    def folder(self) -> str:
        """Where its pages lie."""
        return file_name(self.condition)

    def page(self, group: int, turn: int = 1) -> str:
        """A page of a group, by its number from 0 and the page's from 1, in the folder."""
        name = file_name(self.groups[group].word)
        return f"{name}.html" if turn == 1 else f"{name}.{turn}.html"


@dataclass(frozen=True)
class Pictures:
    """What the pages know of pictures beside their vectors.

    Attributes:
        paths: content key to the places of its files, as a gallery's ``location`` gives them.
        unreadable: keys that have no thumbnail.
        originals: the folder of the pages, if pictures link to their files; else ``None``.
    """

    paths: Mapping[str, Sequence[str]]
    unreadable: frozenset[str] | set[str]
    originals: Path | None = None


def file_name(words: str) -> str:
    """A file name for any text: what can be read of it, and a hash, the same every time.

    Different texts have different names, also where a system does not tell case apart, and none
    is a name that a system keeps for itself.
    """
    ascii_only = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode("ascii")
    readable = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")[:40]
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest


def pages(sections: Sequence[Section], pictures: Pictures) -> Iterator[tuple[str, str]]:
    """Every page as its relative path and its HTML; the overview, ``index.html``, comes last.

    Args:
        sections: the conditions, at least one.
        pictures: of all groups.
    """
    several = len(sections) > 1
    for section in sections:
        if several:
            yield f"{section.folder}/{INDEX}", _condition_page(section, pictures)
        for place in range(len(section.groups)):
            yield from _group_pages(section, place, pictures, several)
    yield INDEX, _overview(sections, pictures)


def page_names(sections: Sequence[Section]) -> Iterator[str]:
    """The relative paths of :func:`pages`."""
    for section in sections:
        if len(sections) > 1:
            yield f"{section.folder}/{INDEX}"
        for place, group in enumerate(section.groups):
            for turn in range(1, _turns(group) + 1):
                yield f"{section.folder}/{section.page(place, turn)}"
    yield INDEX


def _turns(group: Group) -> int:
    """How many pages a group has."""
    return max(1, -(-group.pictures // PER_PAGE))


def _overview(sections: Sequence[Section], pictures: Pictures) -> str:
    several = len(sections) > 1
    body = ""
    if not several:
        (section,) = sections
        body = f"<p>{_extent(section)}</p>{_cards(section, section.groups, pictures, '')}"
        return document(f"By {section.condition}", "", [], f"By {section.condition}", body, _ABOUT)
    for section in sections:
        link = f"{section.folder}/{INDEX}"
        rest = len(section.groups) - SHOWN
        more = (
            f'<p class="more"><a href="{link}">All {len(section.groups)} groups</a></p>'
            if rest > 0
            else ""
        )
        body += (
            f'<section><h2><a href="{link}">{text(section.condition)}</a></h2>'
            f'<p class="quiet">{_extent(section)}</p>'
            f"{_cards(section, section.groups[:SHOWN], pictures, '', 'h3')}{more}</section>"
        )
    return document("The gallery", "", [], "The gallery, by condition", body, _ABOUT)


def _condition_page(section: Section, pictures: Pictures) -> str:
    body = f"<p>{_extent(section)}</p>{_cards(section, section.groups, pictures, '../')}"
    above = [("All conditions", f"../{INDEX}")]
    heading = f"By {section.condition}"
    return document(heading, "../", above, heading, body, _ABOUT)


def _extent(section: Section) -> str:
    placed = sum(len(group.likely) for group in section.groups)
    said = f"{number(section.pictures)} in {number(len(section.groups), 'groups')}"
    return f"{said}; {placed:,} of them placed by likeness." if placed else f"{said}."


def _cards(
    section: Section, groups: Sequence[Group], pictures: Pictures, root: str, level: str = "h2"
) -> str:
    """Groups as cards; ``root`` is the way from the page to the root."""
    before = "" if root else f"{section.folder}/"
    cards = []
    for place, group in enumerate(groups):
        keys = [section.table.keys[row] for row in group.representatives]
        keys = [key for key in keys if key not in pictures.unreadable]
        # A mosaic has no holes: one, two, three, two by two, or three by two.
        keys = keys[: {5: 4}.get(len(keys), 6)]
        across = {0: 1, 4: 2, 6: 3}.get(len(keys), len(keys))
        images = "".join(
            f'<img loading="lazy" decoding="async" alt="" src="{_thumbnail(key, root)}">'
            for key in keys
        )
        cards.append(
            f'<li><a class="card" href="{before}{section.page(place)}">'
            f'<div class="mosaic" style="--across:{across}">{images}</div>'
            f'<div class="label"><{level} class="name">{text(group.word)}</{level}>'
            f'<span class="quiet">{number(group.pictures)}</span></div></a></li>'
        )
    return f'<ul class="groups">{"".join(cards)}</ul>'


def _thumbnail(key: str, root: str) -> str:
    return f"{root}{THUMBNAILS}/{place_of(key)}"


def _group_pages(
    section: Section, place: int, pictures: Pictures, several: bool
) -> Iterator[tuple[str, str]]:
    group = section.groups[place]
    rows = [*group.sure.tolist(), *group.likely.tolist()]
    turns = _turns(group)
    above = [("All conditions", f"../{INDEX}")] if several else []
    above.append((f"By {section.condition}", INDEX if several else f"../{INDEX}"))
    steps = _steps(section, place)
    for turn in range(1, turns + 1):
        start = (turn - 1) * PER_PAGE
        shown = rows[start : start + PER_PAGE]
        sure = max(0, min(len(shown), len(group.sure) - start))
        pager = _pager(section, place, turn, turns)
        body = (
            f"{_about_group(section, place)}{steps}{pager}"
            f"{_list(section, group, shown[:sure], pictures)}"
        )
        if sure < len(shown):
            body += (
                "<h2>Placed by likeness</h2><p class='quiet'>The model had no word for these, was "
                "unsure of it, or called them by a rare one; of all groups they are nearest to "
                f"this one.</p>{_list(section, group, shown[sure:], pictures, said=True)}"
            )
        count = f", page {turn} of {turns}" if turns > 1 else ""
        title = f"{group.word}, by {section.condition}{count}"
        yield (
            f"{section.folder}/{section.page(place, turn)}",
            document(title, "../", above, group.word, body + pager + steps, _ABOUT),
        )


def _about_group(section: Section, place: int) -> str:
    group = section.groups[place]
    placed = f", {len(group.likely):,} of them placed by likeness" if len(group.likely) else ""
    lines = [f"<p>{number(group.pictures)}{placed}.</p>"]
    merged = group.facet.words[1:]
    if merged:
        said = ", ".join(f"<b>{text(w.word)}</b> ({w.pictures:,})" for w in merged)
        lines.append(f"<p>The model also calls them {said}.</p>")
    if group.nearest:
        links = ", ".join(
            f'<a href="{section.page(other)}">{text(section.groups[other].word)}</a>'
            for other in group.nearest[:LIKE]
        )
        lines.append(f'<p class="quiet">Most like it: {links}.</p>')
    return "".join(lines)


def _steps(section: Section, place: int) -> str:
    """To the group before and the one after, largest first."""
    links = ""
    if place > 0:
        name = text(section.groups[place - 1].word)
        links += f'<a rel="prev" href="{section.page(place - 1)}">&larr; {name}</a>'
    if place + 1 < len(section.groups):
        name = text(section.groups[place + 1].word)
        links += f'<a rel="next" href="{section.page(place + 1)}">{name} &rarr;</a>'
    return f'<nav class="step" aria-label="Groups">{links}</nav>' if links else ""


def _pager(section: Section, place: int, turn: int, turns: int) -> str:
    if turns == 1:
        return ""
    # Both ends, and those around this one.
    near = {1, turns, *range(max(1, turn - 2), min(turns, turn + 2) + 1)}
    entries = []
    for other in sorted(near):
        if other > 1 and other - 1 not in near:
            entries.append("<li><span>&hellip;</span></li>")
        if other == turn:
            entries.append(f'<li><span aria-current="page">{other}</span></li>')
        else:
            link = section.page(place, other)
            entries.append(f'<li><a href="{link}" aria-label="Page {other}">{other}</a></li>')
    return f'<nav class="pages" aria-label="Pages"><ul>{"".join(entries)}</ul></nav>'


def _list(
    section: Section, group: Group, rows: Sequence[int], pictures: Pictures, said: bool = False
) -> str:
    """Pictures in a grid; ``said`` shows the model's word for each, not only others than
    the group's.
    """
    figures = []
    for row in rows:
        key, word = section.table.keys[row], section.table.words[row]
        paths = pictures.paths.get(key, [""])
        name = PurePosixPath(paths[0]).name
        image = (
            f'<div class="none" role="img" aria-label="{text(name)}, not readable now">'
            "not readable now</div>"
            if key in pictures.unreadable
            else f'<img loading="lazy" decoding="async" alt="{text(group.word)}: {text(name)}" '
            f'src="{_thumbnail(key, "../")}">'
        )
        link = _original(paths, pictures.originals, PurePosixPath(section.folder))
        if link:
            image = f'<a href="{link}">{image}</a>'
        chance = f", {section.table.word_probabilities[row]:.0%} sure" if said and word else ""
        differs = said or word != group.word
        shown = f"<b>{text(word) or 'no word'}{chance}</b>" if differs else ""
        figures.append(
            f"<li><figure>{image}<figcaption>{shown}{text(name)}</figcaption></figure></li>"
        )
    return f'<ul class="pictures">{"".join(figures)}</ul>'


def _original(paths: Sequence[str], root: Path | None, folder: PurePosixPath) -> str:
    """The address of the first file that is there, relative where the drive is the same."""
    if root is None:
        return ""
    for path in paths:
        if not is_address(path) and Path(path).is_file():
            try:
                way = os.path.relpath(path, root / folder)
            except ValueError:  # another drive of Windows
                return text(Path(path).as_uri())
            return quote(os.fsencode(way).replace(os.fsencode(os.sep), b"/"))
    return ""
