"""``cies ingest``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from cies.cli.options import DeviceOption, GalleryOption, JsonOption, TrustOption, encoder_options
from cies.cli.settings import find_gallery

if TYPE_CHECKING:
    from ingest.encoders.base import BaseEncoder

_encoder = partial(typer.Option, rich_help_panel="How pictures are embedded")
_run = partial(typer.Option, rich_help_panel="How the run goes")
_sources = partial(typer.Option, rich_help_panel="How sources are read")


def ingest(
    source: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="Folders, files, patterns, tables (CSV, JSONL, Parquet), tar shards, s3:// and "
            "other addresses, - for paths on stdin; all earlier sources by default."
        ),
    ] = None,
    gallery: GalleryOption = None,
    condition: Annotated[
        Optional[list[str]],
        typer.Option("--condition", "-c", help="Embed under this condition; may be repeated."),
    ] = None,
    model: Annotated[
        Optional[str],
        _encoder(
            help="Built-in name, hub ORG/NAME or ORG/NAME@REVISION, a folder, or openai:URL#NAME "
            "for a served model; its key is in MODEL_API_KEY."
        ),
    ] = None,
    method: Annotated[
        Optional[str],
        _encoder(help="One of `cies methods`; added to the gallery if it is new there."),
    ] = None,
    prompt: Annotated[
        Optional[str],
        _encoder(help="A prompt template, or a text with {condition}, for a new gallery."),
    ] = None,
    dtype: Annotated[
        str, _encoder(help="auto, float32, bfloat16 or float16, for a new gallery.")
    ] = "auto",
    layer: Annotated[
        Optional[list[int]],
        _encoder(
            help="The layer whose states are read, from 0, or from -1 for the last one; several "
            "take one pass and are searched as --method METHOD@LAYER."
        ),
    ] = None,
    token: Annotated[
        Optional[str],
        _encoder(
            help="last_prompt, first_generated, mean, or the number of a token of the prompt, such "
            "as -2."
        ),
    ] = None,
    words: Annotated[
        Optional[bool],
        _encoder("--words/--no-words", help="Store the model's word for each picture, or do not."),
    ] = None,
    max_side: Annotated[
        Optional[int],
        _encoder(help="Pictures are reduced to this longest side in pixels; 700 by default."),
    ] = None,
    attention: Annotated[
        Optional[str], _encoder(help="sdpa, or eager with a pass for each condition.")
    ] = None,
    system: Annotated[
        Optional[str],
        _encoder(help="A system turn before every question, in place of the model's own."),
    ] = None,
    compat: Annotated[
        Optional[str], _encoder(help="reference, for the vectors of the published code.")
    ] = None,
    sentences: Annotated[
        Optional[str],
        _encoder(
            help="The model that embeds the answers of --method generative; tiny-clip by default."
        ),
    ] = None,
    answer_tokens: Annotated[
        Optional[int],
        _encoder(help="Most tokens of an answer of --method generative; 16 by default."),
    ] = None,
    temperature: Annotated[
        Optional[float],
        _encoder(help="Draw the answers of --method generative with this temperature; 0 for none."),
    ] = None,
    dimension: Annotated[
        Optional[int],
        _encoder(
            help="Numbers that are kept of a vector of --method embedder, if its model was "
            "trained for that; all by default."
        ),
    ] = None,
    geometry: Annotated[
        Optional[str],
        _encoder(help="raw, centred, standardised or residual vectors, for a new gallery."),
    ] = None,
    device: DeviceOption = "auto",
    trust_remote_code: TrustOption = None,
    device_map: Annotated[
        Optional[str], _encoder(help="Spread the model over devices: auto, balanced, ...")
    ] = None,
    include: Annotated[
        Optional[list[str]],
        _sources(help="Read only files that match, such as '*.jpg'; may be repeated."),
    ] = None,
    exclude: Annotated[
        Optional[list[str]], _sources(help="Skip files and folders that match; may be repeated.")
    ] = None,
    image_column: Annotated[
        Optional[str], _sources(help="The column of tables that names or contains the picture.")
    ] = None,
    root: Annotated[
        Optional[str],
        _sources(help="The folder that a table's paths are relative to; the table's by default."),
    ] = None,
    columns: Annotated[
        Optional[str],
        _sources(help="Your columns to store: NAME[:TYPE],...; all of them by default."),
    ] = None,
    null: Annotated[
        bool, _sources("--null", "-0", help="Paths on stdin end in NUL, not newline.")
    ] = False,
    allow_remote: Annotated[
        bool,
        _sources("--allow-remote", help="Read addresses, such as s3://, that rows of tables name."),
    ] = False,
    allow_outside: Annotated[
        bool,
        _sources("--allow-outside", help="Read relative paths of tables that leave --root."),
    ] = False,
    retry_failed: Annotated[
        bool, _run("--retry-failed", help="Read files again that could not be read before.")
    ] = False,
    plan: Annotated[
        bool, _run("--plan", help="Only say what would be done, and what it would cost.")
    ] = False,
    force: Annotated[
        bool, _encoder(help="Accept conditions that the model was not trained on.")
    ] = False,
    strict: Annotated[bool, _run(help="Exit with code 3 if a file failed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Embed pictures into a gallery; run again, it embeds only what is new.

    Example: cies ingest ~/photos -c color -c "kind of place"
    """
    from cies import api
    from cies.console import progress_bar, say
    from cies.first_run import advise_once, usual_geometry, usual_method
    from cies.measured import remember_speed
    from cies.reports.ingest import open_named_sources, print_ingest
    from ingest.sources.base import SourceOptions

    place = find_gallery(gallery)
    kept = None if columns is None else tuple(filter(None, columns.split(",")))
    opened = open_named_sources(
        place,
        source or [],
        SourceOptions(
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            image_column=image_column,
            root=root,
            columns=kept,
            null=null,
            allow_remote=allow_remote,
            allow_outside=allow_outside,
        ),
    )
    asked = layer or None
    chosen: tuple[Any, ...] = (model, method, prompt, system, asked, token, attention, compat)
    chosen += (sentences, device_map, words)
    if all(value is None for value in chosen) and (dtype, device, force) == ("auto", "auto", False):
        method = usual_method(place, opened, condition or [])
    geometry = geometry or usual_geometry(place, method, model)
    if plan:
        from cies.reports.plan import run_plan

        run_plan(
            place, opened, condition or [], model, method, retry_failed, as_json, device, geometry
        )
        return
    layers = list(dict.fromkeys(layer or []))
    options = encoder_options(
        layer=layers[0] if layers else None,
        token=token,
        max_side=max_side,
        attention=attention,
        compat=compat,
        system=system,
        sentences=sentences,
        words=words,
        answer_tokens=answer_tokens,
        temperature=temperature,
        dimension=dimension,
    )

    def announce(encoder: BaseEncoder) -> None:
        say(f"Model: {encoder.description}.")

    store = api.create(place, geometry)
    with progress_bar("Embedding") as progress:
        report = api.ingest(
            store,
            opened,
            condition or [],
            model=model,
            method=method,
            prompt=prompt,
            dtype=dtype,
            device=device,
            force=force,
            progress=progress,
            announce=announce,
            options=options,
            layers=layers[1:] and layers,
            device_map=device_map,
            retry_failed=retry_failed,
            finished=remember_speed,
        )
    print_ingest(place, opened, report, as_json)
    if not as_json:
        advise_once()
    if strict and (report.failed or report.unreachable):
        raise typer.Exit(3)
