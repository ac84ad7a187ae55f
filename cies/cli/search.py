"""``cies search``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

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
from cies.typed_search import TypedSearch, question_of, wire_picture

if TYPE_CHECKING:
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
    like: Annotated[
        Optional[list[str]],
        _asked(
            "--like",
            help="A picture that moves the query towards it, such as a hit of an earlier search; "
            "@NAME for a collection. May be repeated.",
        ),
    ] = None,
    dislike: Annotated[
        Optional[list[str]],
        _asked("--dislike", help="A picture that moves the query away from it; as --like."),
    ] = None,
    feedback: Annotated[
        str, _asked(help="How --like and --dislike move it: rocchio or ridge.")
    ] = "rocchio",
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
    no_server: Annotated[
        bool,
        typer.Option("--no-server", help="Search in this process, even if a server could answer."),
    ] = False,
    index: Annotated[
        str, typer.Option(help="The index for this search, as for `cies index --kind`.")
    ] = "auto",
    device: DeviceOption = "auto",
    trust_remote_code: TrustOption = None,
) -> None:
    """Find the pictures most like a picture or a text, under the conditions you name.

    Example: cies search mug.jpg -c shape --not color -k 20 --html sheet.html
    """
    from cies.reports.hits import choose_output, show_hits
    from indexes.errors import UsageError

    output = choose_output(
        as_json, as_jsonl, quiet, print0, pictures, html, copy_to, link_to, force=force
    )
    asked = bool(image or by) + (text is not None)
    if asked > 1 or not (asked or like):
        raise UsageError("Give either a picture or --text, such as `cies search mug.jpg -c color`.")
    if not condition and modify is None:
        raise UsageError("Name a condition, such as `--condition color`, or a change by --modify.")
    typed = TypedSearch(
        condition=condition or [],
        text=text,
        by=by or [],
        unlike=unlike or [],
        feedback=feedback,
        combine=combine,
        crop=crop,
        method=method or [],
        fuse=fuse,
        rerank=rerank,
        rerank_model=rerank_model,
        fill=fill,
        modify=modify,
        composer=composer,
        caption=caption,
        must=_objects(must),
        must_not=_objects(must_not),
        weight=weight or [],
        verify=verify,
        lvlm=lvlm,
        rewriter=rewriter,
        rewriter_model=rewriter_model,
        rewriter_timeout=rewriter_timeout,
        k=k,
        where=where,
        exclude_same=exclude_same,
        min_percentile=min_percentile,
        offset=offset,
        sort=sort,
        show=show,
        group_dupes=group_dupes,
        alike_above=alike_above,
    )
    pictures_of = {
        "pictures": [_example(given, allow_private) for given in image or ()],
        "like": [_example(given, allow_private) for given in like or ()],
        "dislike": [_example(given, allow_private) for given in dislike or ()],
    }
    place = find_gallery(gallery)
    if verify or (rerank and rerank_model):
        _say_cost(verify, rerank or 0, lvlm, rerank_model or "", in_words=text is not None)
    hits = None
    if not (no_server or gone or trust_remote_code):
        hits = _hits_of_server(place, index, device, typed, pictures_of)
    if hits is None:
        hits = _search(place, index, device, gone, typed, pictures_of)
    _say_notes(hits)
    show_hits(hits, output, columns=bool(show))


def _say_cost(verify: int, rerank: int, lvlm: str, rerank_model: str, in_words: bool) -> None:
    """Say what a model that looks at the best hits will cost, as far as it is known."""
    from cies.console import say
    from cies.measured import measured_speeds
    from ingest.encoders.embedders.presets import reranker_preset_of

    if not verify and reranker_preset_of(rerank_model) is None:
        return
    count, model = verify or rerank, lvlm or (rerank_model if not verify else "")
    pictures = count if in_words else 2 * count
    rates = [one.pictures_per_second for one in measured_speeds() if one.model == model]
    known = f", in about {pictures / rates[0]:.0f} s" if rates and rates[0] > 0 else ""
    say(
        f"{model or 'The LVLM'} will look at up to {count} of the best hits, one after the other: "
        f"{pictures} pictures{known}."
    )


def _search(
    gallery: Path,
    index: str,
    device: str,
    gone: bool,
    typed: TypedSearch,
    pictures: Mapping[str, Sequence[str | bytes]],
) -> Hits:
    """The hits of a search in this process."""
    from cies import api
    from query.question import parse_conditions

    engine = api.open(gallery, device, index, gone=gone)
    question = question_of(typed, pictures["pictures"], pictures["like"], pictures["dislike"])
    if typed["condition"]:
        first = next(iter(parse_conditions(typed["condition"])))
        table = engine.table(first, typed["method"][0] if typed["method"] else None)
        _say_model(table.made_by["model"])
    with ExitStack() as stack:
        engine.progress = _progress_when_needed(stack)
        hits = engine.ask(question)
    if hits.query.reranked:
        from cies.measured import remember_speed

        for encoder in engine.encoders.loaded:
            remember_speed(encoder)
    return hits


def _hits_of_server(
    gallery: Path,
    index: str,
    device: str,
    typed: TypedSearch,
    pictures: Mapping[str, Sequence[str | bytes]],
) -> Hits | None:
    """The hits by a running server of the gallery, which has the model in memory.

    Returns:
        ``None`` if there is no such server, or it has no answer; this process then finds the same
        hits, or the error.
    """
    from cies.server.running import ask_server, find_server

    server = find_server(gallery, index, device)
    if server is None:
        return None
    from cies.console import say
    from query.hits_wire import from_wire

    with ExitStack() as stack:
        progress = _progress_when_needed(stack)
        try:
            wired = {name: [wire_picture(one) for one in own] for name, own in pictures.items()}
            question = {"typed": typed, "pictures": wired}
            answer = ask_server(server, question, lambda state: progress(_progress(state)))
            hits = from_wire(answer) if answer is not None else None
        except (OSError, ValueError):
            return None
    if hits is not None:
        say(
            f"Answered by the server of this gallery at port {server.port} (--no-server searches "
            "without it)."
        )
        for model in hits.query.model.split(" + "):
            _say_model(model)
    return hits


def _progress(state: Mapping[str, Any]) -> Progress:
    from ingest.fill.pipeline import Progress

    return Progress(**state)


def _objects(given: Sequence[str] | None) -> list[str] | None:
    """The named objects: ``None`` without the option, none at all for an empty text."""
    return [text for text in given if text.strip()] if given else None


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


def _say_model(model: str) -> None:
    """Say so if a built-in model answers, once a day."""
    from cies.console import first_today, say
    from ingest.encoders.models.find import BUILTIN

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
