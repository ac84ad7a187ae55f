"""``cies bench``: measure, each claim beside what it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.benchmarks import (
    BenchGroup,
    RunArgument,
    bench_compare,
    bench_measure,
    bench_report,
    bench_run,
)
from cies.cli.encoder_options import DeviceOption
from cies.cli.options import GalleryOption, JsonOption

bench = typer.Typer(
    cls=BenchGroup,
    help="Measure speed and quality, each claim beside what it is compared with.",
    epilog="A benchmark's name is a command too: `cies bench world`, `cies bench folder --data "
    "PHOTOS`, `cies bench circo --data ~/CIRCO`; `cies bench list` has them all.",
)

bench.command("run")(bench_run)
bench.command("measure")(bench_measure)
bench.command("compare")(bench_compare)
bench.command("report")(bench_report)


@bench.command("embed")
def bench_embedding(
    model: Annotated[
        Optional[str],
        typer.Option(help="As for ingest; by default a random-weight model."),
    ] = None,
    shape: Annotated[
        str, typer.Option(help="Of that model: 136m, or Qwen2.5-VL's 3b or 7b for a GPU.")
    ] = "136m",
    counts: Annotated[
        str, typer.Option("--conditions", help="Numbers of conditions, up to 16.")
    ] = "1,4,8,16",
    images: Annotated[int, typer.Option(help="Pictures in a batch.", min=1)] = 4,
    size: Annotated[int, typer.Option(help="Their side in pixels.", min=32)] = 448,
    rounds: Annotated[int, typer.Option(help="Rounds; medians are shown.", min=1)] = 3,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure embedding: one pass a pair, the cached way, and ours, in one process.

    Example: cies bench embed --shape 3b --device cuda --dtype bfloat16 --images 32
    """
    from cies.bench.embed import run_bench_embed

    run_bench_embed(model, shape, counts, images, size, rounds, dtype, device, as_json)


@bench.command("ingest")
def bench_ingesting(
    cost_ms: Annotated[
        float, typer.Option(help="Milliseconds the stand-in encoder takes for a picture.", min=0)
    ] = 20.0,
    pictures: Annotated[int, typer.Option(help="How many.", min=1)] = 1000,
    megapixels: Annotated[float, typer.Option(help="Of each picture.", min=0.0001, max=60)] = 12.0,
    folder: Annotated[
        Optional[Path], typer.Option(help="An existing folder to work in.", exists=True)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure reading, decoding and writing around an encoder of a given speed.

    Example: cies bench ingest --cost-ms 20 --pictures 1000 --megapixels 12
    """
    from cies.bench.ingest import run_bench_ingest

    run_bench_ingest(cost_ms, pictures, megapixels, folder, as_json)


@bench.command("metrics")
def bench_measuring(
    vectors: Annotated[int, typer.Option(help="How many to generate.", min=300)] = 60_000,
    dimension: Annotated[int, typer.Option("--dim", help="Of each.", min=8)] = 512,
    labels: Annotated[int, typer.Option(help="Distinct random ones.", min=2)] = 11_000,
    seed: Annotated[int, typer.Option(help="Of vectors and labels.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure MAP@R and its kin of a whole gallery against itself: seconds and memory.

    Example: cies bench metrics --vectors 60000 --dim 512
    """
    from cies.bench.metrics import run_bench_metrics

    run_bench_metrics(vectors, dimension, labels, seed, as_json)


@bench.command("quality")
def bench_quality(
    model: Annotated[str, typer.Option(help="The LVLM, as for ingest.")] = "tiny-lvlm",
    clip: Annotated[str, typer.Option(help="The CLIP it is compared with.")] = "tiny-clip",
    pictures: Annotated[int, typer.Option("-n", help="How many.", min=100)] = 2000,
    seed: Annotated[int, typer.Option(help="Of the pictures; not that of a school.")] = 4711,
    as_json: JsonOption = False,
) -> None:
    """Judge DIOR, CLIP, InDiReCT and Generative on rendered pictures: MAP@R and leakage.

    Example: cies bench quality --model ~/models/mine
    """
    from cies.bench.quality import run_bench_quality

    run_bench_quality(model, clip, pictures, seed, as_json)


@bench.command("trec")
def bench_exporting(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the files.")],
    depth: Annotated[int, typer.Option(help="Answers of each question.", min=1)] = 1000,
) -> None:
    """Write what a run answered, and what is right, as TREC run and qrels files.

    Example: cies bench trec runs/world -o trec
    """
    from cies.bench.trec import run_bench_trec

    run_bench_trec(run, output, depth)


@bench.command("start")
def bench_starting(
    rounds: Annotated[int, typer.Option(help="Rounds; medians are shown.", min=1)] = 5,
    as_json: JsonOption = False,
) -> None:
    """Measure cold starts, each beside the imports that no such command can avoid.

    Example: cies bench start --rounds 9
    """
    from cies.bench.start import run_bench_start

    run_bench_start(rounds, as_json)


@bench.command("search")
def bench_searching(
    vectors: Annotated[int, typer.Option(help="How many to generate.", min=300)] = 100_000,
    dimension: Annotated[int, typer.Option("--dim", help="Of each.", min=8)] = 512,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal vectors.", min=0)] = 0,
    gallery: Annotated[
        Optional[Path], typer.Option("--gallery", "-g", help="With -c: where its vectors are.")
    ] = None,
    condition: Annotated[
        Optional[str],
        typer.Option("--condition", "-c", help="Measure a gallery's vectors instead."),
    ] = None,
    folder: Annotated[
        Optional[Path], typer.Option(help="An existing folder to work in.", exists=True)
    ] = None,
    kind: Annotated[
        Optional[list[str]],
        typer.Option(help="Measure this index, as for `cies index`; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure search: speed, recall, disk and cold start of every index, beside plain libraries.

    Example: cies bench search --vectors 1000000 --dim 512
    """
    from cies.bench.search import run_bench_search

    run_bench_search(vectors, dimension, seed, gallery, condition, folder, kind or [], as_json)


@bench.command("view")
def bench_viewing(
    vectors: Annotated[int, typer.Option(help="How many to generate.", min=300)] = 100_000,
    dimension: Annotated[int, typer.Option("--dim", help="Of each.", min=8)] = 512,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal vectors.", min=0)] = 0,
    folder: Annotated[
        Optional[Path], typer.Option(help="An existing folder to work in.", exists=True)
    ] = None,
    method: Annotated[
        Optional[list[str]],
        typer.Option("--method", "-m", help="Measure this view; may be repeated; all by default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how long a condition takes that a gallery of base vectors never heard of.

    Example: cies bench view --vectors 100000 --dim 512
    """
    from cies.bench.view import run_bench_view

    run_bench_view(vectors, dimension, seed, folder, method or [], as_json)


@bench.command("rerank")
def bench_re_ranking(
    gallery: GalleryOption = None,
    condition: Annotated[
        Optional[list[str]],
        typer.Option("--condition", "-c", help="Of this one; all of the gallery's by default."),
    ] = None,
    method: Annotated[str, typer.Option("--method", "-m", help="The view.")] = "clay",
    rerank: Annotated[int, typer.Option(help="How many are ranked again.", min=1)] = 200,
    queries: Annotated[int, typer.Option(help="Pictures that are asked with.", min=1)] = 100,
    labels: Annotated[
        Optional[Path], typer.Option(help="CSV as for `cies eval`: which hits are right, too.")
    ] = None,
    earlier: Annotated[
        int, typer.Option(help="Also after so many other questions; 0 for not.", min=0)
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure what re-ranking a view's best finds of what a full table gives.

    The gallery has both: tables by a large model, and base vectors by a CLIP.

    Example: cies bench rerank -g photos.cies --rerank 200
    """
    from cies.bench.rerank import run_bench_rerank
    from cies.cli.settings import find_gallery

    asked = condition or [], method, rerank, queries, labels, earlier
    run_bench_rerank(find_gallery(gallery), *asked, as_json)


@bench.command("list")
def bench_listing(
    name: Annotated[
        Optional[str], typer.Argument(help="One benchmark, to see all it needs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the published benchmarks: what they ask, where their data are, on what terms.

    Example: cies bench list cub200
    """
    from cies.bench.list import run_bench_list

    run_bench_list(name, as_json)


@bench.command("check")
def bench_checking(
    file: Annotated[Path, typer.Argument(help="A file to be handed in, of CIRCO or CIRR.")],
    data: Annotated[
        Optional[Path], typer.Option(help="The benchmark's folder, to check every picture too.")
    ] = None,
) -> None:
    """Check a file that a test split is handed in by, before the server refuses it.

    Example: cies bench check circo-test.json --data ~/CIRCO
    """
    from cies.bench.list import run_bench_check

    run_bench_check(file, data)


@bench.command("submit")
def bench_submitting(
    run: Annotated[str, typer.Argument(help="RUN of a test split, or RUN:NAME of one system.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the files.")] = Path(),
) -> None:
    """Write what CIRCO's or CIRR's server takes of a run, and check it.

    Example: cies bench submit runs/circo:"clip sum" -o handed-in
    """
    from cies.bench.list import run_bench_submit

    run_bench_submit(run, output)
