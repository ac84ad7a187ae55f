"""How the pages of a gallery look, and the frame that all of them share."""

from __future__ import annotations

import html
from collections.abc import Sequence

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --card: #f4f4f5; --text: #1b1b1f;
  --quiet: #5f6068; --line: #dcdce0; --link: #0a58ca; --empty: #e9e9ec; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #131316; --card: #1e1e23; --text: #ececf0; --quiet: #a3a4ad;
    --line: #33343b; --link: #8ab4f8; --empty: #26272d; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1400px;
  padding: 1.25rem 1rem 3rem; background: var(--ground); color: var(--text);
  overflow-wrap: anywhere; }
a { color: var(--link); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { position: static; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .4rem; }
p { margin: 0 0 .6rem; max-width: 46rem; }
.quiet, footer { color: var(--quiet); font-size: .9rem; }
footer { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: .8rem; }
ul, ol { list-style: none; margin: 0; padding: 0; }
.crumbs ol, .pages ul { display: flex; flex-wrap: wrap; gap: .35rem .7rem; }
.crumbs li + li::before { content: "/"; color: var(--quiet); margin-right: .7rem; }
.step { display: flex; justify-content: space-between; gap: 1rem; margin: 1rem 0; }
.step a:only-child[rel=next] { margin-left: auto; }
.step a, .pages a, .pages span { padding: .3rem .1rem; }
.pages { margin: 1.25rem 0; }
.pages a, .pages span { display: inline-block; min-width: 1.9rem; text-align: center; }
.pages [aria-current] { font-weight: 700; border-bottom: 2px solid currentColor; }
.groups { display: grid; gap: 1rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); }
.more { margin-top: .8rem; }
.card { display: block; height: 100%; background: var(--card); border-radius: 10px;
  overflow: hidden; color: inherit; text-decoration: none; }
.card:hover .name { text-decoration: underline; }
.mosaic { display: grid; gap: 2px; aspect-ratio: 3 / 2; grid-auto-rows: minmax(0, 1fr);
  grid-template-columns: repeat(var(--across), minmax(0, 1fr)); }
.mosaic img { width: 100%; height: 100%; object-fit: cover; display: block;
  background: var(--empty); }
.label { display: flex; justify-content: space-between; align-items: baseline; gap: .75rem;
  padding: .55rem .8rem .65rem; }
.name { font-size: 1rem; font-weight: 600; margin: 0; }
.label .quiet { white-space: nowrap; }
.pictures { display: grid; gap: .9rem .7rem; margin-top: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
figure { margin: 0; }
figure img, .none { width: 100%; aspect-ratio: 1; object-fit: contain; display: block;
  background: var(--empty); border-radius: 6px; }
.none { display: grid; place-items: center; text-align: center; color: var(--quiet);
  font-size: .8rem; padding: .5rem; }
figcaption { font-size: .8rem; color: var(--quiet); margin-top: .2rem; line-height: 1.35; }
figcaption b { color: var(--text); display: block; }
@media (max-width: 30rem) {
  .groups { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .7rem; }
  .label { display: block; padding: .45rem .6rem .55rem; }
  .pictures { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
"""

#: The file that holds the style, in the folder's root.
STYLE_NAME = "style.css"


def text(value: str) -> str:
    """Text for a page, between tags or in quotes. What is not Unicode shows as a question mark."""
    plain = value.encode("utf-8", "replace").decode("utf-8")
    return html.escape(plain, quote=True)


def number(count: int, of: str = "pictures") -> str:
    """A count in words: ``1 picture``, ``1,500 pictures``; ``of`` is a plural."""
    return f"{count:,} {of.removesuffix('s') if count == 1 else of}"


def document(
    title: str, root: str, crumbs: Sequence[tuple[str, str]], heading: str, body: str, about: str
) -> str:
    """A whole page.

    Args:
        title: for the browser's tab and history.
        root: the way from this page's folder to the root, empty or ``../``.
        crumbs: names and addresses of the pages above this one, outermost first.
        heading: what this page is.
        body: HTML of all that follows the heading.
        about: HTML of the lines below the page.
    """
    above = "".join(f'<li><a href="{address}">{text(name)}</a></li>' for name, address in crumbs)
    way = (
        f'<nav class="crumbs" aria-label="Pages above"><ol>{above}'
        f'<li aria-current="page">{text(heading)}</li></ol></nav>'
        if crumbs
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="{root}{STYLE_NAME}"><title>{text(title)}</title></head>'
        '<body><a class="skip" href="#content">Skip to the content</a>'
        f'{way}<main id="content"><h1>{text(heading)}</h1>{body}</main>'
        f"<footer>{about}</footer></body></html>\n"
    )
