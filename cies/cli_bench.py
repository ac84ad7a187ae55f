"""``cies bench``: measure, each claim beside what it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.encoder_words import DeviceOption
from cies.words import GalleryOption, JsonOption

bench = typer.Typer(help="Measure speed and quality, each claim beside what it is compared with.")


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
    from cies.bench_embed import run_bench_embed

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
    from cies.bench_ingest import run_bench_ingest

    run_bench_ingest(cost_ms, pictures, megapixels, folder, as_json)


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
    from cies.bench_quality import run_bench_quality

    run_bench_quality(model, clip, pictures, seed, as_json)


@bench.command("methods")
def bench_methods(
    model: Annotated[str, typer.Option(help="The LVLM, as for ingest.")] = "tiny-lvlm",
    clip: Annotated[str, typer.Option(help="The CLIP, as for ingest.")] = "tiny-clip",
    pictures: Annotated[
        int, typer.Option("-n", help="How many rendered pictures; 0 for none.", min=0)
    ] = 2000,
    seed: Annotated[int, typer.Option(help="Of the pictures; not that of a school.")] = 4711,
    triplets: Annotated[
        Optional[list[Path]],
        typer.Option(help="CSV as for `cies eval`, pictures in images/ beside it; repeatable."),
    ] = None,
    renamed: Annotated[
        Optional[list[str]],
        typer.Option("--as", help="CONDITION=ASKED: ask for a condition of these by that name."),
    ] = None,
    write: Annotated[Optional[Path], typer.Option(help="Write the tables as Markdown.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure every method by condition, what it costs, and remember it for `cies methods`.

    Example: cies bench methods -n 500 --write methods.md
    """
    from cies.bench_methods import run_bench_methods

    run_bench_methods(model, clip, pictures, seed, triplets or [], renamed or [], write, as_json)


@bench.command("start")
def bench_starting(
    rounds: Annotated[int, typer.Option(help="Rounds; medians are shown.", min=1)] = 5,
    as_json: JsonOption = False,
) -> None:
    """Measure cold starts, each beside the imports that no such command can avoid.

    Example: cies bench start --rounds 9
    """
    from cies.bench_start import run_bench_start

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
    from cies.bench_search import run_bench_search

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
    from cies.bench_view import run_bench_view

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
    as_json: JsonOption = False,
) -> None:
    """Measure what re-ranking a view's best finds of what a full table gives.

    The gallery has both: tables by a large model, and base vectors by a CLIP.

    Example: cies bench rerank -g photos.cies --rerank 200
    """
    from cies.bench_rerank import run_bench_rerank
    from cies.settings import find_gallery

    run_bench_rerank(find_gallery(gallery), condition or [], method, rerank, queries, as_json)
