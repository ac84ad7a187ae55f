"""The command line. Light to import: each command brings in what it needs when it runs."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from cies.cli.bench import bench
from cies.cli.bench_methods import bench_methods
from cies.cli.browse import dupes, facets, make_gallery, outliers
from cies.cli.completion import condition_names
from cies.cli.conditions import conditions
from cies.cli.config import config, defaults
from cies.cli.encoder_options import (
    AttentionOption,
    CompatOption,
    DeviceMapOption,
    DeviceOption,
    DtypeOption,
    GeometryOption,
    LayerOption,
    MaxSideOption,
    MethodOption,
    ModelOption,
    OtherGeometryOption,
    PromptOption,
    SentencesOption,
    TokenOption,
)
from cies.cli.index import index
from cies.cli.maintenance import prune, repair, verify
from cies.cli.methods import list_methods
from cies.cli.options import (
    ByMethodOption,
    ColumnsOption,
    ExcludeOption,
    GalleryOption,
    ImageColumnOption,
    IncludeOption,
    JsonOption,
    ListGoneOption,
    NullOption,
    PlanOption,
    RetryOption,
    RootOption,
    SourceArgument,
)
from cies.cli.search import search
from cies.cli.train import train_composer
from indexes.errors import CiesError

if TYPE_CHECKING:
    from ingest.encoders.base import BaseEncoder
    from ingest.encoders.options import DiorOptions

app = typer.Typer(
    name="cies",
    help="Conditional image search: find the pictures that are alike in the respect you name.",
    epilog="Example: cies ingest photos -c color -c shape; cies search photos/mug.jpg -c color. "
    "Any option can be set for good, in the environment or in cies.toml: cies config --all.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(bench, name="bench", no_args_is_help=True)
app.add_typer(conditions, name="conditions")
bench.command("methods")(bench_methods)


def _version(wanted: bool) -> None:
    if wanted:
        from cies import __version__

        print(f"cies {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Conditional image search: find the pictures that are alike in the respect you name."""
    if context.invoked_subcommand not in (None, "config"):
        context.default_map = defaults(app, context.invoked_subcommand)


@app.command()
def ingest(
    source: SourceArgument = None,
    gallery: GalleryOption = None,
    condition: Annotated[
        Optional[list[str]],
        typer.Option("--condition", "-c", help="A respect to embed under; may be repeated."),
    ] = None,
    model: ModelOption = None,
    method: MethodOption = None,
    prompt: PromptOption = None,
    dtype: DtypeOption = "auto",
    layer: LayerOption = None,
    token: TokenOption = None,
    max_side: MaxSideOption = None,
    attention: AttentionOption = None,
    compat: CompatOption = None,
    sentences: SentencesOption = None,
    geometry: GeometryOption = None,
    device: DeviceOption = "auto",
    device_map: DeviceMapOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    image_column: ImageColumnOption = None,
    root: RootOption = None,
    columns: ColumnsOption = None,
    null: NullOption = False,
    retry_failed: RetryOption = False,
    plan: PlanOption = False,
    force: Annotated[
        bool, typer.Option(help="Accept conditions the model was not schooled on.")
    ] = False,
    strict: Annotated[bool, typer.Option(help="Leave with code 3 if a file failed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Embed pictures into a gallery; run again, it does only what is new.

    Example: cies ingest ~/photos -c color -c "kind of place"
    """
    from cies import api
    from cies.cli.settings import find_gallery
    from cies.console import print_json, progress_bar, say
    from cies.measured import remember_speed
    from cies.reports.filling import existing, open_named, run_plan
    from cies.reports.status import ingest_summary, print_failures, say_sources
    from ingest.sources.base import SourceOptions

    place = find_gallery(gallery)
    kept = None if columns is None else tuple(filter(None, columns.split(",")))
    patterns = tuple(include or ()), tuple(exclude or ())
    chosen = SourceOptions(*patterns, image_column, root, kept, null)
    opened = open_named(place, source or [], chosen)
    if plan:
        asked = place, opened, condition or [], model, method, retry_failed, as_json
        run_plan(existing(place), *asked, device, geometry)
        return
    options = _options(
        layer=layer,
        token=token,
        max_side=max_side,
        attention=attention,
        compat=compat,
        sentences=sentences,
    )
    store = api.create(place, geometry)
    with progress_bar("Embedding") as progress:

        def announce(encoder: BaseEncoder) -> None:
            say(f"Model: {encoder.description}.")

        report = api.ingest(
            store,
            opened,
            condition or [],
            model,
            method,
            prompt,
            dtype,
            device,
            force,
            progress,
            announce,
            options,
            device_map,
            retry_failed=retry_failed,
            finished=remember_speed,
        )
    say_sources(opened, report)
    print_failures(report)
    for note in report.notes:
        say(f"Note: {note}.")
    summary = ingest_summary(place, report)
    if as_json:
        print_json(summary)
    else:
        rate = report.embedded / report.embedding_seconds if report.embedded else 0
        gone = f", {report.gone} gone" if report.gone else ""
        speed = f" at {rate:.1f} pictures/s" if rate else ""
        say(
            f"{report.embedded} pictures embedded{speed}, {report.unchanged + report.known} known, "
            f"{len(report.failed)} unreadable{gone}; gallery {place}, conditions: "
            f"{', '.join(report.conditions)}."
        )
    if strict and (report.failed or report.unreachable):
        raise typer.Exit(3)


def _options(**given: int | str | None) -> DiorOptions | None:
    """What was chosen of the encoder's options, if anything was."""
    from ingest.encoders.options import DiorOptions

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return DiorOptions(**chosen) if chosen else None


@app.command()
def status(
    gallery: GalleryOption = None,
    failed: Annotated[bool, typer.Option(help="List the files that could not be read.")] = False,
    gone: ListGoneOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is in the gallery."""
    from cies.cli.settings import find_gallery
    from cies.console import print_json
    from cies.reports.status import (
        failed_files,
        gallery_status,
        print_failed,
        print_gone,
        print_status,
    )
    from indexes.store.gallery import Gallery

    opened = Gallery.open(find_gallery(gallery))
    if failed:
        found = failed_files(opened)
        print_json(found) if as_json else print_failed(found)
        return
    document = gallery_status(opened)
    if as_json:
        print_json(document)
    elif gone:
        print_gone(document)
    else:
        print_status(document)


for command in (search, facets, outliers, dupes, prune, verify, repair, index, config):
    app.command()(command)
app.command("gallery")(make_gallery)
app.command("methods")(list_methods)
app.command("train-composer")(train_composer)


@app.command()
def export(
    condition: Annotated[
        list[str],
        typer.Option("--condition", "-c", help="Whose vectors.", autocompletion=condition_names),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet, .npy or .csv.")],
    gallery: GalleryOption = None,
    method: ByMethodOption = None,
) -> None:
    """Write a condition's vectors, words and columns to a file that other tools read.

    FILE.parquet has all of it, FILE.csv all but the vectors, FILE.npy the matrix alone, with the
    keys of its rows in FILE.keys.txt.

    Example: cies export -c color -o color.parquet
    """
    from cies import api
    from cies.cli.settings import find_gallery
    from cies.console import say
    from indexes.errors import UsageError
    from query.explore.export import export as write

    if len(condition) > 1:
        raise UsageError(
            f"A file takes one condition, and here are {len(condition)}; run `cies export` once "
            "for each, with an -o of its own."
        )
    rows = write(api.open(find_gallery(gallery), method=method), condition[0], output)
    say(f"{rows} rows written to {output}.")


@app.command("eval")
def evaluate(
    gallery: Annotated[Path, typer.Argument(help="The gallery's folder.")],
    labels: Annotated[Path, typer.Option(help="CSV: file, then one column a label.")],
    triplets: Annotated[
        Optional[Path],
        typer.Option(help="CSV: pair, condition, query, positive, negative."),
    ] = None,
    exclude_same: Annotated[
        Optional[str],
        typer.Option(help="Leave out pictures with the query's value of this column."),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="All figures of every condition and label.")
    ] = False,
    geometry: OtherGeometryOption = None,
    method: ByMethodOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge every condition by every label: P@1, recall@10 and MAP@R, beside chance.

    Example: cies eval demo/gallery --labels demo/world/labels.csv
    """
    from cies import api
    from cies.console import print_json
    from cies.reports.status import print_matrix, print_triplets
    from eval.labels import read_labels, read_triplets
    from eval.matrix import evaluate as judge
    from eval.matrix import evaluate_triplets

    engine = api.open(gallery, geometry=geometry, method=method)
    matrix = judge(engine, read_labels(labels), exclude_same)
    scores = evaluate_triplets(engine, read_triplets(triplets), triplets) if triplets else []
    if as_json:
        print_json({**matrix.to_json(), "triplets": [vars(score) for score in scores]})
    else:
        print_matrix(matrix, pairs)
        if scores:
            print_triplets(scores)


@app.command()
def models(as_json: JsonOption = False) -> None:
    """List the built-in models, and how other families are run."""
    from cies.reports.status import print_models

    print_models(as_json)


@app.command()
def world(
    folder: Annotated[Path, typer.Argument(help="Gets images/ and labels.csv.")],
    pictures: Annotated[int, typer.Option("-n", help="How many.")] = 1500,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal pictures.")] = 0,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=32, max=2048)] = 256,
) -> None:
    """Render labelled pictures whose factors are independent: a benchmark from nothing."""
    from cies.console import say
    from eval.world.gallery import write_world

    labels = write_world(folder, pictures, seed, size)
    say(f"{pictures} pictures and {labels} written.")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where to; made if it is not there.")] = Path("demo"),
    pictures: Annotated[int, typer.Option("-n", help="How many.", min=20)] = 600,
) -> None:
    """Render a gallery, embed it, search it and measure it: all of CIES in two minutes."""
    from cies.reports.demo import run_demo

    run_demo(folder, pictures)


class _Interrupted(BaseException):
    """Ctrl-C and the like; not a KeyboardInterrupt, which Typer would answer in its own way."""


def _interrupt(number: int, frame: object) -> None:
    raise _Interrupted


def _catch_signals() -> None:
    """Ctrl-C, a polite kill and a closed terminal all end a command in order."""
    signal.signal(signal.SIGINT, _interrupt)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # What was started with nohup ignores the terminal's end, and goes on doing so.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)


def main() -> None:
    """Run a command; every expected failure is one sentence on stderr and an exit code."""
    _catch_signals()
    for stream in (sys.stdout, sys.stderr):
        # File names that are not UTF-8 come out as the bytes they are.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    try:
        app()
    except CiesError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except _Interrupted:
        print(
            "\nInterrupted. What was stored is kept; run the same command again to go on.",
            file=sys.stderr,
        )
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; silence Python's complaint at exit too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
