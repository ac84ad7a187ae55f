"""The command that asks a gallery."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from cies.cli_output import (
    CopyToOption,
    HtmlOption,
    JsonLinesOption,
    LinkToOption,
    PicturesOption,
    PrintNullOption,
    QuietOption,
)
from cies.encoder_words import DeviceOption
from cies.words import ConditionOption, GalleryOption, GoneOption, JsonOption


def search(
    condition: ConditionOption,
    image: Annotated[
        Optional[str], typer.Argument(help="A picture file, or a path or key in the gallery.")
    ] = None,
    text: Annotated[
        Optional[str], typer.Option(help="What to look for in words, in place of a picture.")
    ] = None,
    gallery: GalleryOption = None,
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    as_json: JsonOption = False,
    as_jsonl: JsonLinesOption = False,
    quiet: QuietOption = False,
    print0: PrintNullOption = False,
    pictures: PicturesOption = None,
    html: HtmlOption = None,
    copy_to: CopyToOption = None,
    link_to: LinkToOption = None,
    index: Annotated[str, typer.Option(help="auto, exact or faiss.")] = "auto",
    gone: GoneOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Find the pictures most like one, or those that suit a text, in one respect.

    Example: cies search mug.jpg -c color -k 20 --html sheet.html
    """
    from cies import api
    from cies.commands import say_model
    from cies.output import chosen, show_hits
    from cies.settings import find_gallery
    from indexes.errors import UsageError

    output = chosen(as_json, as_jsonl, quiet, print0, pictures, html, copy_to, link_to)
    if (image is None) == (text is None):
        raise UsageError("Give either a picture or --text, such as `cies search mug.jpg -c color`.")
    if index not in ("auto", "exact", "faiss"):
        raise UsageError(f"There is no index '{index}'; choose auto, exact or faiss.")
    engine = api.open(find_gallery(gallery), device, index, gone=gone)
    say_model(engine.table(condition))
    if text is not None:
        hits = engine.search_text(text, condition, k)
    else:
        hits = engine.search(str(image), condition, k)
    show_hits(hits, output)
