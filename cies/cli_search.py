"""The command that asks a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

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
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON line a hit.")] = False,
    quiet: Annotated[bool, typer.Option("-q", help="Print paths only.")] = False,
    html: Annotated[Optional[Path], typer.Option(help="Write a contact sheet here.")] = None,
    index: Annotated[str, typer.Option(help="auto, exact or faiss.")] = "auto",
    gone: GoneOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Find the pictures most like one, or those that suit a text, in one respect.

    Example: cies search mug.jpg -c color -k 20 --html sheet.html
    """
    from cies import api
    from cies.commands import print_hits, say_model, write_sheet
    from cies.settings import find_gallery
    from indexes.errors import UsageError

    if as_json + as_jsonl + quiet > 1:
        raise UsageError("--json, --jsonl and -q exclude one another; give one of them.")
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
    if html is not None:
        write_sheet(html, hits)
    print_hits(hits, "json" if as_json else "jsonl" if as_jsonl else "paths" if quiet else "table")
