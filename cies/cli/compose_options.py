"""Options of ``cies search`` for a change that is asked for, and ``cies bench compose``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from cies.cli.bench import bench
from cies.cli.options import JsonOption

if TYPE_CHECKING:
    from query.composers.base import ModifyOptions

_CHANGED = "Alike, but changed"

ModifyOption = Annotated[
    Optional[str],
    typer.Option(
        help="What shall be otherwise, such as 'the same in green'; -c is then what to keep.",
        rich_help_panel=_CHANGED,
    ),
]
ComposerOption = Annotated[
    Optional[str],
    typer.Option(
        help="How picture and change become one question; docs/compose.md has them all.",
        rich_help_panel=_CHANGED,
    ),
]
CaptionOption = Annotated[
    str,
    typer.Option(
        help="What the pictures looked for show, in place of the composer's own words.",
        rich_help_panel=_CHANGED,
    ),
]
MustOption = Annotated[
    Optional[list[str]],
    typer.Option(help="An object that must be there; '' for none.", rich_help_panel=_CHANGED),
]
MustNotOption = Annotated[
    Optional[list[str]],
    typer.Option(help="One that must not; '' for none.", rich_help_panel=_CHANGED),
]
WeightOption = Annotated[
    Optional[list[str]],
    typer.Option(
        help="One of the composer's weights, such as alpha_i=1.2.", rich_help_panel=_CHANGED
    ),
]
VerifyOption = Annotated[
    int,
    typer.Option(
        help="How many of the best an LVLM looks through, asked yes or no.",
        rich_help_panel=_CHANGED,
        min=0,
    ),
]
LvlmOption = Annotated[
    str,
    typer.Option(
        help="That writes captions and verifies; the gallery's own, or the built-in one.",
        rich_help_panel=_CHANGED,
    ),
]
RewriterOption = Annotated[
    str,
    typer.Option(
        help="OpenAI-compatible API that rewrites captions; its key is REWRITER_API_KEY.",
        rich_help_panel=_CHANGED,
    ),
]
RewriterModelOption = Annotated[
    str, typer.Option(help="The model there.", rich_help_panel=_CHANGED)
]
RewriterTimeoutOption = Annotated[
    float, typer.Option(help="Seconds to wait for it.", rich_help_panel=_CHANGED)
]


def changes(
    modify: str | None,
    composer: str | None,
    caption: str,
    must: Sequence[str] | None,
    must_not: Sequence[str] | None,
    weight: Sequence[str] | None,
    verify: int,
    lvlm: str,
    rewriter: str,
    rewriter_model: str,
    rewriter_timeout: float,
) -> ModifyOptions:
    """These options as :class:`query.composers.base.ModifyOptions`.

    What belongs to a rewriter or an LVLM may be set for good, and is left out where no change is
    asked for.

    Raises:
        UsageError: if a weight is no number.
    """
    from query.composers.base import ModifyOptions, parse_composer_weights

    given = ModifyOptions(
        modify=modify,
        composer=composer,
        caption=caption,
        must=_objects(must),
        must_not=_objects(must_not),
        weights=parse_composer_weights(weight or ()),
        verify=verify,
    )
    if modify is not None:
        given["lvlm"] = lvlm
        given["rewriter"] = rewriter
        given["rewriter_model"] = rewriter_model
        given["rewriter_timeout"] = rewriter_timeout
    return given


def _objects(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Those named; none at all if one is empty."""
    if not given:
        return None
    return tuple(text for text in given if text.strip())


@bench.command("compose")
def bench_composing(
    lvlm: Annotated[str, typer.Option(help="Writes captions, and embeds by dior.")] = "tiny-lvlm",
    clip: Annotated[str, typer.Option(help="Makes the base vectors.")] = "tiny-clip",
    pictures: Annotated[int, typer.Option(help="Of the gallery.", min=1)] = 1800,
    queries: Annotated[int, typer.Option(help="Changes that are asked for.", min=1)] = 240,
    seed: Annotated[int, typer.Option(help="Of both.", min=0)] = 20261,
    busy: Annotated[
        bool, typer.Option("--busy", help="Pictures differ in what does not count as well.")
    ] = False,
    composer: Annotated[
        Optional[list[str]],
        typer.Option(help="Measure this one of base vectors; may be repeated; all by default."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the tables of docs/compose.md.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure all composers of search --modify on rendered changes with every right answer known.

    Example: cies bench compose --busy --markdown
    """
    from cies.bench.compose import run_bench_compose

    run_bench_compose(lvlm, clip, pictures, queries, seed, busy, markdown, as_json, composer or ())
