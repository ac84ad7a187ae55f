"""``cies bench``: the group, its commands that measure speed and quality, and its registrations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from cies.cli.measuring.benchmarks import (
    bench_check,
    bench_compare,
    bench_list,
    bench_measure,
    bench_report,
    bench_run,
    bench_submit,
    bench_trec,
)
from cies.cli.options import DeviceOption, ForceOption, GalleryOption, JsonOption, TrustOption
from cies.cli.settings import find_gallery
from indexes.errors import UsageError


class BenchGroup(TyperGroup):
    """Accepts the name of a benchmark as a command: ``cies bench circo`` runs it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Read a word that is not a command as the name of a benchmark."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


bench = typer.Typer(
    cls=BenchGroup,
    help="Measure speed and quality, in comparison with other ways to do the same.",
    epilog="A benchmark's name is a command too: `cies bench world`, `cies bench folder --data "
    "PHOTOS`, `cies bench circo --data ~/CIRCO`; `cies bench list` lists them.",
)

_BENCHMARKS: dict[str, Callable[..., None]] = {
    "run": bench_run,
    "measure": bench_measure,
    "compare": bench_compare,
    "report": bench_report,
    "list": bench_list,
    "check": bench_check,
    "submit": bench_submit,
    "trec": bench_trec,
}
for _name, _command in _BENCHMARKS.items():
    bench.command(_name)(_command)

_VectorsOption = Annotated[int, typer.Option(help="Number of random vectors.", min=300)]
_DimensionOption = Annotated[int, typer.Option("--dim", help="Length of a vector.", min=8)]
_VectorSeedOption = Annotated[int, typer.Option(help="Equal seeds give equal vectors.", min=0)]
_RoundsOption = Annotated[int, typer.Option(help="Rounds; medians are printed.", min=1)]
_FolderOption = Annotated[
    Optional[Path], typer.Option(help="An existing folder to work in.", exists=True)
]

#: Of a command that was replaced: it accepts all arguments, and names its replacement.
_ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}


@bench.command("embed")
def bench_embed(
    model: Annotated[
        Optional[str], typer.Option(help="As for ingest; by default a model with random weights.")
    ] = None,
    shape: Annotated[
        str, typer.Option(help="Size of that model: 136m, or Qwen2.5-VL's 3b or 7b for a GPU.")
    ] = "136m",
    counts: Annotated[
        str, typer.Option("--conditions", help="Numbers of conditions, up to 16.")
    ] = "1,4,8,16",
    images: Annotated[int, typer.Option(help="Pictures per batch.", min=1)] = 4,
    size: Annotated[int, typer.Option(help="Their side in pixels.", min=32)] = 448,
    rounds: _RoundsOption = 3,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: DeviceOption = "auto",
    trust_remote_code: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure embedding: one pass per condition, with a key-value cache, and CIES' packed pass.

    Example: cies bench embed --shape 3b --device cuda --dtype bfloat16 --images 32
    """
    from cies.bench.speed import run_bench_embed

    run_bench_embed(model, shape, counts, images, size, rounds, dtype, device, as_json)


@bench.command("ingest")
def bench_ingest(
    cost_ms: Annotated[
        float, typer.Option(help="Milliseconds the stand-in encoder takes for a picture.", min=0)
    ] = 20.0,
    pictures: Annotated[int, typer.Option(help="Number of pictures.", min=1)] = 1000,
    megapixels: Annotated[
        float, typer.Option(help="Size of each picture.", min=0.0001, max=60)
    ] = 12.0,
    folder: _FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure reading, decoding and writing around an encoder of a given speed.

    Example: cies bench ingest --cost-ms 20 --pictures 1000 --megapixels 12
    """
    from cies.bench.speed import run_bench_ingest

    run_bench_ingest(cost_ms, pictures, megapixels, folder, as_json)


@bench.command("metrics")
def bench_metrics(
    vectors: _VectorsOption = 60_000,
    dimension: _DimensionOption = 512,
    labels: Annotated[int, typer.Option(help="Number of random labels.", min=2)] = 11_000,
    seed: Annotated[int, typer.Option(help="Seed of vectors and labels.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure the seconds and memory that MAP@R and other metrics of a whole gallery take.

    Example: cies bench metrics --vectors 60000 --dim 512
    """
    from cies.bench.speed import run_bench_metrics

    run_bench_metrics(vectors, dimension, labels, seed, as_json)


@bench.command("quality", hidden=True, context_settings=_ANY_ARGUMENTS)
def bench_quality() -> None:
    """Name the replacement of this command."""
    raise UsageError(
        "`cies bench quality` is now `cies bench methods` (the same figures, of every method), and "
        "`cies bench world` compares wordings of one condition."
    )


@bench.command("methods")
def bench_methods(
    model: Annotated[str, typer.Option(help="The LVLM, as for ingest.")] = "tiny-lvlm",
    clip: Annotated[str, typer.Option(help="The CLIP, as for ingest.")] = "tiny-clip",
    pictures: Annotated[
        int, typer.Option("-n", help="Number of rendered pictures; 0 for none.", min=0)
    ] = 2000,
    seed: Annotated[
        int, typer.Option(help="Seed of the pictures; not one that a model was trained on.")
    ] = 4711,
    triplets: Annotated[
        Optional[list[Path]],
        typer.Option(help="CSV as for `cies eval`, with its pictures in images/; may be repeated."),
    ] = None,
    renamed: Annotated[
        Optional[list[str]],
        typer.Option("--as", help="CONDITION=ASKED: search by another name than the CSV has."),
    ] = None,
    method: Annotated[
        Optional[list[str]],
        typer.Option("--method", "-m", help="Only this method; may be repeated."),
    ] = None,
    write: Annotated[Optional[Path], typer.Option(help="Write the tables as Markdown.")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the quality of every method by condition, and its cost, for `cies methods`.

    Example: cies bench methods -n 500 --write methods.md
    """
    from cies.bench.methods import run_bench_methods
    from indexes.outputs import check_output

    if write is not None:
        check_output(write, force)
    sets = triplets or [], renamed or []
    run_bench_methods(model, clip, pictures, seed, *sets, method or [], write, as_json)


@bench.command("start")
def bench_start(
    rounds: _RoundsOption = 5,
    as_json: JsonOption = False,
) -> None:
    """Measure cold starts, each compared with the imports that it needs in any case.

    Example: cies bench start --rounds 9
    """
    from cies.bench.speed import run_bench_start

    run_bench_start(rounds, as_json)


@bench.command("search")
def bench_search(
    vectors: _VectorsOption = 100_000,
    dimension: _DimensionOption = 512,
    seed: _VectorSeedOption = 0,
    gallery: Annotated[
        Optional[Path], typer.Option("--gallery", "-g", help="With -c: the gallery's folder.")
    ] = None,
    condition: Annotated[
        Optional[str],
        typer.Option("--condition", "-c", help="Measure a gallery's vectors instead."),
    ] = None,
    folder: _FolderOption = None,
    kind: Annotated[
        Optional[list[str]],
        typer.Option(help="Measure this index, as for `cies index`; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure speed, recall, size and cold start of every index, and of plain libraries.

    Example: cies bench search --vectors 1000000 --dim 512
    """
    from cies.bench.search import run_bench_search

    place = gallery if condition is None else find_gallery(gallery)
    run_bench_search(vectors, dimension, seed, place, condition, folder, kind or [], as_json)


@bench.command("serve")
def bench_serve(
    pictures: Annotated[int, typer.Option(help="Pictures of the gallery.", min=300)] = 100_000,
    dimension: _DimensionOption = 512,
    requests: Annotated[
        int, typer.Option(help="Requests for each number of clients.", min=4)
    ] = 2000,
    steady: Annotated[
        int, typer.Option(help="Requests over which memory is compared; 0 for none.", min=0)
    ] = 50_000,
    uploads: Annotated[
        int,
        typer.Option(help="Clients that send new pictures at the same time; 0 for none.", min=0),
    ] = 32,
    cost_ms: Annotated[
        float, typer.Option(help="Milliseconds the stand-in encoder takes for a picture.", min=0)
    ] = 50.0,
    seed: _VectorSeedOption = 0,
    folder: _FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure `cies serve` under load: time of searches, memory, and uploads.

    Example: cies bench serve --pictures 100000 --requests 2000
    """
    try:
        from cies.bench.serve import run_bench_serve
    except ModuleNotFoundError as error:
        raise UsageError(
            f"`cies bench serve` needs the package {error.name}; run `pip install 'cies[serve]'`."
        ) from error
    asked = pictures, dimension, requests, steady, uploads, cost_ms, seed
    run_bench_serve(*asked, folder, as_json)


@bench.command("learn")
def bench_learn(
    labels: Annotated[Path, typer.Option(help="CSV as for `cies eval`.")],
    gallery: GalleryOption = None,
    column: Annotated[
        Optional[list[str]],
        typer.Option(help="Only this column; may be repeated; all by default."),
    ] = None,
    examples: Annotated[str, typer.Option(help="Numbers of examples for each value.")] = "3,5,10",
    method: Annotated[
        Optional[list[str]],
        typer.Option("--method", "-m", help="Learn from vectors of this method; may be repeated."),
    ] = None,
    draws: Annotated[int, typer.Option(help="How often examples are drawn.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the draws.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure `cies conditions learn` by labels: precision@10 by the number of examples.

    Example: cies bench learn -g photos.cies --labels labels.csv --examples 3,5
    """
    from cies.bench.learned import run_bench_learn

    asked = column or [], examples, method or [], draws, seed
    run_bench_learn(find_gallery(gallery), labels, *asked, as_json)


@bench.command("view")
def bench_view(
    vectors: _VectorsOption = 100_000,
    dimension: _DimensionOption = 512,
    seed: _VectorSeedOption = 0,
    folder: _FolderOption = None,
    method: Annotated[
        Optional[list[str]],
        typer.Option("--method", "-m", help="Only this method; may be repeated; all by default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the first search under a condition that is computed from base vectors.

    Example: cies bench view --vectors 100000 --dim 512
    """
    from cies.bench.search import run_bench_view

    run_bench_view(vectors, dimension, seed, folder, method or [], as_json)


@bench.command("rerank")
def bench_rerank(
    gallery: GalleryOption = None,
    condition: Annotated[
        Optional[list[str]],
        typer.Option("--condition", "-c", help="A condition; all of the gallery's by default."),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", "-m", help="The method whose hits are re-ranked.")
    ] = "clay",
    rerank: Annotated[int, typer.Option(help="Number of hits that are re-ranked.", min=1)] = 200,
    queries: Annotated[int, typer.Option(help="Number of query pictures.", min=1)] = 100,
    labels: Annotated[
        Optional[Path], typer.Option(help="CSV as for `cies eval`: also measure by labels.")
    ] = None,
    earlier: Annotated[
        int, typer.Option(help="Also measure after this many other searches; 0 for none.", min=0)
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure how much of a full table's answer re-ranking finds.

    The gallery needs tables of a large model, and base vectors of a CLIP.

    Example: cies bench rerank -g photos.cies --rerank 200
    """
    from cies.bench.search import run_bench_rerank

    asked = condition or [], method, rerank, queries, labels, earlier
    run_bench_rerank(find_gallery(gallery), *asked, as_json)


@bench.command("feedback")
def bench_feedback(
    labels: Annotated[Path, typer.Option(help="CSV as for `cies eval`.")],
    gallery: GalleryOption = None,
    queries: Annotated[int, typer.Option(help="Query pictures of each measurement.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="Of halves and queries.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure how much better hits are after 1, 3 and 5 rounds of likes and dislikes.

    Example: cies bench feedback -g demo/gallery --labels demo/world/labels.csv
    """
    from cies.bench.search import run_bench_feedback

    run_bench_feedback(find_gallery(gallery), labels, queries, seed, as_json)


@bench.command("compose")
def bench_compose(
    lvlm: Annotated[
        str, typer.Option(help="The LVLM that writes captions, and embeds by dior.")
    ] = "tiny-lvlm",
    clip: Annotated[str, typer.Option(help="The CLIP of the base vectors.")] = "tiny-clip",
    pictures: Annotated[int, typer.Option(help="Pictures in the gallery.", min=1)] = 1800,
    queries: Annotated[int, typer.Option(help="Number of queries.", min=1)] = 240,
    seed: Annotated[int, typer.Option(help="Seed of both.", min=0)] = 20261,
    busy: Annotated[
        bool, typer.Option("--busy", help="Vary the factors that do not count as well.")
    ] = False,
    composer: Annotated[
        Optional[list[str]],
        typer.Option(help="Only this composer of base vectors; may be repeated; all by default."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables of docs/compose.md.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure all composers of search --modify on rendered pictures with known right answers.

    Example: cies bench compose --busy --markdown
    """
    from cies.bench.compose import run_bench_compose

    run_bench_compose(lvlm, clip, pictures, queries, seed, busy, markdown, as_json, composer or ())


@bench.command("inversion")
def bench_inversion(
    clip: Annotated[str, typer.Option(help="The CLIP of the networks.")] = "tiny-clip",
    pictures: Annotated[int, typer.Option(help="Number of rendered pictures.", min=2)] = 200,
    seed: Annotated[
        int, typer.Option(help="Their seed; not one that a model was trained on.", min=0)
    ] = 4711,
    rounds: Annotated[int, typer.Option(help="Number of timed queries.", min=1)] = 300,
    composer: Annotated[
        Optional[list[str]], typer.Option(help="Only this composer; may be repeated.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/compose.md.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how often a picture's pseudo-word finds the picture, and the cost of such a query.

    Example: cies bench inversion --composer searle
    """
    from cies.bench.compose import run_bench_inversion

    run_bench_inversion(clip, pictures, seed, rounds, composer or [], markdown, as_json)
