"""The command that asks a gallery."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Callable, Optional

import typer

from cies.cli.completion import condition_names
from cies.cli.compose_options import (
    CaptionOption,
    ComposerOption,
    LvlmOption,
    ModifyOption,
    MustNotOption,
    MustOption,
    RewriterModelOption,
    RewriterOption,
    RewriterTimeoutOption,
    VerifyOption,
    WeightOption,
    changes,
)
from cies.cli.encoder_options import DeviceOption
from cies.cli.options import GalleryOption, GoneOption, JsonOption
from cies.cli.output_options import (
    CopyToOption,
    HtmlOption,
    JsonLinesOption,
    LinkToOption,
    PicturesOption,
    PrintNullOption,
    QuietOption,
)

if TYPE_CHECKING:
    from ingest.fill.pipeline import Progress
    from query.hits import Hits

_ASKED = "What is asked"
_BY = "By which method"
_AMONG = "Among which pictures"
_SHOWN = "How it is shown"


def search(
    condition: Annotated[
        Optional[list[str]],
        typer.Option(
            "--condition",
            "-c",
            help="The respect in which to be alike; several weigh as -c color=2 -c shape.",
            autocompletion=condition_names,
        ),
    ] = None,
    image: Annotated[
        Optional[list[str]],
        typer.Argument(help="Picture files, or paths or keys in the gallery; - for stdin."),
    ] = None,
    text: Annotated[
        Optional[str],
        typer.Option(
            help="What to look for in words, in place of a picture.", rich_help_panel=_ASKED
        ),
    ] = None,
    unlike: Annotated[
        Optional[list[str]],
        typer.Option(
            "--not",
            help="A respect in which to differ, such as -c shape --not color.",
            autocompletion=condition_names,
            rich_help_panel=_ASKED,
        ),
    ] = None,
    combine: Annotated[
        str,
        typer.Option(
            help="Alike to several pictures: to them on the mean, to any, or to all.",
            rich_help_panel=_ASKED,
        ),
    ] = "mean",
    crop: Annotated[
        Optional[str],
        typer.Option(
            help="The part that is meant: x,y,w,h in pixels, or all at most 1 in fractions.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    method: Annotated[
        Optional[list[str]],
        typer.Option(
            "--method",
            "-m",
            help="Answered by METHOD or METHOD:MODEL, as `cies methods` lists them; several are "
            "fused.",
            rich_help_panel=_BY,
        ),
    ] = None,
    fuse: Annotated[
        bool,
        typer.Option(
            "--fuse",
            help="Fuse all that the gallery has for these conditions.",
            rich_help_panel=_BY,
        ),
    ] = False,
    rerank: Annotated[
        Optional[int],
        typer.Option(
            help="Of a view's best, how many the large model puts in its order; 200 if quick.",
            rich_help_panel=_BY,
        ),
    ] = None,
    rerank_model: Annotated[
        Optional[str],
        typer.Option(help="That model, if the gallery has none.", rich_help_panel=_BY),
    ] = None,
    fill: Annotated[
        bool,
        typer.Option(
            "--fill",
            help="Let the next ingest embed the whole gallery under the condition.",
            rich_help_panel=_BY,
        ),
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
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    where: Annotated[
        Optional[str],
        typer.Option(
            help="A filter such as \"brand = 'acme' AND taken_at >= '2024'\".",
            rich_help_panel=_AMONG,
        ),
    ] = None,
    exclude_same: Annotated[
        Optional[str],
        typer.Option(
            help="Leave out pictures with the query's value of this column.",
            rich_help_panel=_AMONG,
        ),
    ] = None,
    min_percentile: Annotated[
        float,
        typer.Option(help="Leave out hits below this percentile.", rich_help_panel=_AMONG),
    ] = 0.0,
    gone: GoneOption = False,
    sort: Annotated[
        str,
        typer.Option(
            help="The hits by score, by date (EXIF, newest first) or by path.",
            rich_help_panel=_SHOWN,
        ),
    ] = "score",
    group_dupes: Annotated[
        bool,
        typer.Option(
            "--group-dupes",
            help="Fold near-duplicates into the hit most like the query.",
            rich_help_panel=_SHOWN,
        ),
    ] = False,
    alike_above: Annotated[
        Optional[float],
        typer.Option(
            help="Say so when even the best hit's percentile is below this; 92.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    as_json: JsonOption = False,
    as_jsonl: JsonLinesOption = False,
    quiet: QuietOption = False,
    print0: PrintNullOption = False,
    pictures: PicturesOption = None,
    html: HtmlOption = None,
    copy_to: CopyToOption = None,
    link_to: LinkToOption = None,
    index: Annotated[str, typer.Option(help="As for `cies index --kind`, this time.")] = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Find the pictures most like one, or those that suit a text, in the respects you name.

    Example: cies search mug.jpg -c shape --not color -k 20 --html sheet.html
    """
    from cies import api
    from cies.cli.settings import find_gallery
    from cies.measured import remember_speed
    from cies.reports.hits import chosen, show_hits
    from cies.reports.status import say_model
    from indexes.errors import UsageError
    from query.question import ALIKE_ABOVE, Options, Question, examples_of, weighted

    output = chosen(as_json, as_jsonl, quiet, print0, pictures, html, copy_to, link_to)
    if bool(image) == (text is not None):
        raise UsageError("Give either a picture or --text, such as `cies search mug.jpg -c color`.")
    if not condition and modify is None:
        raise UsageError("Name a respect, such as `--condition color`, or a change by --modify.")
    change = changes(
        modify,
        composer,
        caption,
        must,
        must_not,
        weight,
        verify,
        lvlm,
        rewriter,
        rewriter_model,
        rewriter_timeout,
    )
    options = Options(
        unlike=unlike or (),
        combine=combine,
        crop=crop,
        where=where,
        exclude_same=exclude_same,
        min_percentile=min_percentile,
        sort=sort,
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
        say_model(engine.table(next(iter(weighted(condition))), method[0] if method else None))
    with ExitStack() as closing:
        engine.progress = _when_needed(closing)
        if text is not None:
            hits = engine.search_text(text, condition or (), k, **options)
        else:
            examples = examples_of([_stdin() if name == "-" else name for name in image or ()])
            hits = engine.ask(Question.of(examples, condition or (), k, **options))
    if hits.query.reranked:
        for encoder in engine.encoders.loaded:
            remember_speed(encoder)
    _say_notes(hits)
    show_hits(hits, output)


def _when_needed(closing: ExitStack) -> Callable[[Progress], None]:
    """Progress of embedding, shown from its first report on."""
    shown: list[Callable[[Progress], None]] = []

    def tell(state: Progress) -> None:
        from cies.console import counter

        if not shown:
            shown.append(closing.enter_context(counter("Embedding the best")))
        shown[0](state)

    return tell


def _stdin() -> bytes:
    """The picture on stdin.

    Raises:
        UsageError: if there is none, or it is larger than a picture may be.
    """
    from indexes.errors import UsageError
    from ingest.read.images import MAX_BYTES

    if sys.stdin.isatty():
        raise UsageError("There is no picture on stdin; pipe one in: `cies search - < mug.jpg`.")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if not data or len(data) > MAX_BYTES:
        problem = f"more than {MAX_BYTES // 2**20} MB lie" if data else "there is nothing"
        raise UsageError(f"Cannot read the query: {problem} on stdin; pipe a picture in.")
    return data


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
