"""``cies search``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from cies.cli.options import (
    CaptionOption,
    ComposerOption,
    CopyToOption,
    DeviceOption,
    GalleryOption,
    GoneOption,
    HtmlOption,
    JsonLinesOption,
    JsonOption,
    LinkToOption,
    LvlmOption,
    ModifyOption,
    MustNotOption,
    MustOption,
    PicturesOption,
    PrintNullOption,
    QuietOption,
    ReplaceOption,
    RewriterModelOption,
    RewriterOption,
    RewriterTimeoutOption,
    TrustOption,
    VerifyOption,
    WeightOption,
    condition_names,
    shown,
)
from cies.cli.settings import find_gallery

if TYPE_CHECKING:
    from indexes.store.records import VectorTable
    from ingest.fill.pipeline import Progress
    from query.hits import Hits

_asked = partial(typer.Option, rich_help_panel="What is asked")
_by = partial(typer.Option, rich_help_panel="By which method")
_among = partial(typer.Option, rich_help_panel="Among which pictures")


def search(
    condition: Annotated[
        Optional[list[str]],
        typer.Option(
            "--condition",
            "-c",
            help="The condition, such as color; may be repeated, with weights as in -c color=2.",
            autocompletion=condition_names,
        ),
    ] = None,
    image: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="Picture files, paths or keys in the gallery, or web addresses; - for stdin."
        ),
    ] = None,
    text: Annotated[Optional[str], _asked(help="Search by words instead of a picture.")] = None,
    by: Annotated[
        Optional[list[str]],
        _asked("--by", help="Search with the pictures that have a value, such as --by sku=00005."),
    ] = None,
    unlike: Annotated[
        Optional[list[str]],
        _asked(
            "--not",
            help="A condition under which hits differ, such as -c shape --not color.",
            autocompletion=condition_names,
        ),
    ] = None,
    combine: Annotated[
        str, _asked(help="With several pictures: alike to their mean, to any, or to all.")
    ] = "mean",
    allow_private: Annotated[
        bool,
        _asked("--allow-private", help="Fetch a web address from a private network, too."),
    ] = False,
    crop: Annotated[
        Optional[str],
        _asked(help="Use only a part of the picture: x,y,w,h in pixels, or as fractions up to 1."),
    ] = None,
    method: Annotated[
        Optional[list[str]],
        _by(
            "--method",
            "-m",
            help="METHOD or METHOD:MODEL that answers, of `cies methods`; several are fused.",
        ),
    ] = None,
    fuse: Annotated[
        bool, _by("--fuse", help="Fuse all methods that the gallery has for these conditions.")
    ] = False,
    rerank: Annotated[
        Optional[int],
        _by(
            help="Number of hits that the large model re-ranks, for clay, crl and indirect; by "
            "default 200 if that is quick."
        ),
    ] = None,
    rerank_model: Annotated[
        Optional[str], _by(help="The re-ranking model, if the gallery has none.")
    ] = None,
    fill: Annotated[
        bool, _by("--fill", help="Let the next ingest embed the whole gallery under the condition.")
    ] = False,
    modify: ModifyOption = None,
    composer: ComposerOption = None,
    caption: CaptionOption = "",
    must: MustOption = None,
    must_not: MustNotOption = None,
    weight: WeightOption = None,
    verify: VerifyOption = 0,
    lvlm: LvlmOption = "",
    rewriter: RewriterOption = "",
    rewriter_model: RewriterModelOption = "",
    rewriter_timeout: RewriterTimeoutOption = 30.0,
    gallery: GalleryOption = None,
    k: Annotated[int, typer.Option("-k", help="Number of hits.")] = 10,
    where: Annotated[
        Optional[str], _among(help="A filter such as \"brand = 'acme' AND taken_at >= '2024'\".")
    ] = None,
    exclude_same: Annotated[
        Optional[str], _among(help="Leave out pictures with the query's value of this column.")
    ] = None,
    min_percentile: Annotated[float, _among(help="Leave out hits below this percentile.")] = 0.0,
    gone: GoneOption = False,
    offset: Annotated[
        Optional[int],
        shown(help="Leave out so many of the best: --offset 0, 10, 20 ... for page after page."),
    ] = None,
    sort: Annotated[
        str,
        shown(
            help="Order of the hits: score, date (EXIF, newest first), path, or a column, "
            "descending as -price."
        ),
    ] = "score",
    show: Annotated[
        Optional[list[str]],
        shown("--show", help="Columns to show and to store with the hits, such as sku,price."),
    ] = None,
    group_dupes: Annotated[
        bool,
        shown("--group-dupes", help="Of near-duplicates, show only the one most like the query."),
    ] = False,
    alike_above: Annotated[
        Optional[float],
        shown(help="Warn if even the best hit is below this percentile; 92 by default."),
    ] = None,
    as_json: JsonOption = False,
    as_jsonl: JsonLinesOption = False,
    quiet: QuietOption = False,
    print0: PrintNullOption = False,
    pictures: PicturesOption = None,
    html: HtmlOption = None,
    force: ReplaceOption = False,
    copy_to: CopyToOption = None,
    link_to: LinkToOption = None,
    index: Annotated[
        str, typer.Option(help="The index for this search, as for `cies index --kind`.")
    ] = "auto",
    device: DeviceOption = "auto",
    trust_remote_code: TrustOption = None,
) -> None:
    """Find the pictures most like a picture or a text, under the conditions you name.

    Example: cies search mug.jpg -c shape --not color -k 20 --html sheet.html
    """
    from cies import api
    from cies.reports.hits import choose_output, show_hits
    from indexes.errors import UsageError
    from ingest.encoders.base import check_text
    from query.composers.modification import ModifyOptions, parse_composer_weights
    from query.question import ALIKE_ABOVE, Options, Question, parse_conditions

    output = choose_output(
        as_json, as_jsonl, quiet, print0, pictures, html, copy_to, link_to, force=force
    )
    if bool(image or by) == (text is not None):
        raise UsageError("Give either a picture or --text, such as `cies search mug.jpg -c color`.")
    if not condition and modify is None:
        raise UsageError("Name a condition, such as `--condition color`, or a change by --modify.")
    change = ModifyOptions(
        modify=modify,
        composer=composer,
        caption=caption,
        must=_objects(must),
        must_not=_objects(must_not),
        weights=parse_composer_weights(weight or ()),
        verify=verify,
    )
    if modify is not None:
        # These may be set permanently, and are ignored by searches without a modification.
        change["lvlm"] = lvlm
        change["rewriter"] = rewriter
        change["rewriter_model"] = rewriter_model
        change["rewriter_timeout"] = rewriter_timeout
    options = Options(
        unlike=unlike or (),
        combine=combine,
        crop=crop,
        where=where,
        exclude_same=exclude_same,
        min_percentile=min_percentile,
        sort=sort,
        by=by,
        show=show,
        offset=offset,
        group_duplicates=group_dupes,
        alike_above=ALIKE_ABOVE if alike_above is None else alike_above,
        method=method,
        fuse=fuse,
        rerank=rerank,
        rerank_model=rerank_model,
        fill=fill,
        **change,
    )
    engine = api.open(find_gallery(gallery), device, index, gone=gone)
    if condition:
        first = next(iter(parse_conditions(condition)))
        _say_model(engine.table(first, method[0] if method else None))
    with ExitStack() as stack:
        engine.progress = _progress_when_needed(stack)
        if text is not None:
            check_text(text)
            hits = engine.ask(Question.of((), condition or (), k, text, **options))
        else:
            examples = tuple(_example(given, allow_private) for given in image or ())
            hits = engine.ask(Question.of(examples, condition or (), k, **options))
    if hits.query.reranked:
        from cies.measured import remember_speed

        for encoder in engine.encoders.loaded:
            remember_speed(encoder)
    _say_notes(hits)
    show_hits(hits, output, columns=bool(show))


def _objects(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """The named objects: ``None`` without the option, none at all for an empty text."""
    return tuple(text for text in given if text.strip()) if given else None


def _progress_when_needed(stack: ExitStack) -> Callable[[Progress], None]:
    """A function that shows progress of embedding, from its first call on.

    Args:
        stack: closes the progress display.
    """
    shown: list[Callable[[Progress], None]] = []

    def report(state: Progress) -> None:
        from cies.console import counter

        if not shown:
            shown.append(stack.enter_context(counter("Embedding the best")))
        shown[0](state)

    return report


def _example(given: str, allow_private: bool) -> str | bytes:
    """A picture as named on the command line: one on stdin or at a web address is read."""
    if given == "-":
        return _read_stdin()
    if not given.lower().startswith(("http://", "https://")):
        return given
    from ingest.sources.web import fetch

    return fetch(given, allow_private)


def _read_stdin() -> bytes:
    """The picture on stdin.

    Raises:
        UsageError: if there is none, or it is larger than allowed.
    """
    from indexes.errors import UsageError
    from ingest.read.images import MAX_BYTES

    if sys.stdin.isatty():
        raise UsageError("There is no picture on stdin; pipe one in: `cies search - < mug.jpg`.")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if not data or len(data) > MAX_BYTES:
        problem = f"more than {MAX_BYTES // 2**20} MB are" if data else "there is nothing"
        raise UsageError(f"Cannot read the query: {problem} on stdin; pipe a picture in.")
    return data


def _say_model(table: VectorTable) -> None:
    """Say so if a built-in model answers, once a day."""
    from cies.console import first_today, say
    from ingest.encoders.models.find import BUILTIN

    model = table.made_by["model"]
    if model in BUILTIN and first_today(f"model-{model}"):
        say(f"Model: {model}, {BUILTIN[model]}.")


def _say_notes(hits: Hits) -> None:
    from cies.console import say

    if hits.query.composed:
        from query.composers.base import Interpretation

        for line in Interpretation(**hits.query.composed).lines():
            say(line)
    for note in hits.notes:
        say(f"Note: {note}")
    if hits.nothing_alike:
        say(
            "Nothing here is really alike: even the best hit is less alike to the query than the "
            f"{100 - hits.alike_above:g} % most alike pairs of this gallery (--alike-above)."
        )
