"""``cies bench``: runs of benchmarks by name, their figures, and files for their servers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import DeviceOption, ForceOption, JsonOption, TrustOption, encoder_options

_changed = partial(typer.Option, rich_help_panel="Modifications in words")

RunArgument = Annotated[Path, typer.Argument(help="A run folder.")]


def bench_run(
    name: Annotated[str, typer.Argument(help="world, folder, or one of `cies bench list`.")],
    data: Annotated[Optional[Path], typer.Option(help="The benchmark's folder.")] = None,
    output: Annotated[
        Optional[Path],
        typer.Option("--output", "-o", help="The run's folder; by default runs/NAME here."),
    ] = None,
    method: Annotated[
        Optional[list[str]],
        typer.Option(help="METHOD or METHOD:MODEL, of `cies methods`; may be repeated."),
    ] = None,
    model: Annotated[Optional[str], typer.Option(help="The model of a single method.")] = None,
    option: Annotated[
        Optional[list[str]],
        typer.Option("--option", help="NAME=VALUE of the benchmark; may be repeated."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept incomplete data; the task's name says so.")
    ] = False,
    composer: Annotated[
        Optional[list[str]],
        _changed(
            help="How picture and modification become one query: one of docs/compose.md, or all; "
            "may be repeated. Image only, text only and sum are always measured."
        ),
    ] = None,
    condition: Annotated[
        Optional[list[str]],
        _changed(
            "--condition",
            "-c",
            help="A condition of the composers dior and dior-split; may be repeated. By default "
            "the factors of the world, and none for other benchmarks.",
        ),
    ] = None,
    weight: Annotated[
        Optional[list[str]], _changed(help="A weight of the composer, such as alpha_i=1.2.")
    ] = None,
    lvlm: Annotated[
        str, _changed(help="The LVLM that writes captions; the built-in one by default.")
    ] = "",
    rewriter: Annotated[
        str, _changed(help="Address of an OpenAI-compatible API that rewrites captions instead.")
    ] = "",
    rewriter_model: Annotated[str, _changed(help="The model of that API.")] = "",
    depth: Annotated[
        int, typer.Option(help="Number of best answers stored per query.", min=1)
    ] = 1000,
    prompt: Annotated[str, typer.Option(help="As for ingest.")] = "describe",
    layer: Annotated[
        Optional[list[int]],
        typer.Option(help="As for ingest; of several, each is a system named METHOD@LAYER."),
    ] = None,
    token: Annotated[Optional[str], typer.Option(help="As for ingest.")] = None,
    compat: Annotated[Optional[str], typer.Option(help="As for ingest.")] = None,
    dtype: Annotated[str, typer.Option(help="As for ingest.")] = "auto",
    device: DeviceOption = "auto",
    trust_remote_code: TrustOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Accept conditions that the model was not trained on.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Seed of chance, intervals and the world's pictures.", min=0)
    ] = 4711,
    as_json: JsonOption = False,
) -> None:
    """Run a benchmark: store the answers, then measure them. An interrupted run continues.

    Example: cies bench world --method dior --method clip -o runs/world

    Example: cies bench clevr4 --data CLEVR4 --model Qwen/Qwen2.5-VL-7B-Instruct --compat reference

    Example: cies bench circo --data CIRCO --method clip --composer pdv --composer cirevl
    """
    from cies.bench.runs import ComposerArguments, run_benchmark

    layers = list(dict.fromkeys(layer or []))
    single = layers[0] if len(layers) == 1 else None
    options = encoder_options(layer=single, token=token, compat=compat)
    how = {"prompt": prompt, "dtype": dtype, "device": device, "force": force}
    run_benchmark(
        name,
        data,
        output,
        method or [],
        model,
        option or [],
        partial,
        how if options is None else {**how, "options": options},
        ComposerArguments(
            composer or [], condition or [], weight or [], lvlm, rewriter, rewriter_model
        ),
        seed,
        depth,
        as_json,
        layers if single is None else (),
    )


def bench_measure(
    run: RunArgument,
    again: Annotated[bool, typer.Option("--again", help="Measure everything again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the stored answers of a run; needs neither its data nor a model.

    Example: cies bench measure runs/world --again
    """
    from cies.bench.runs import run_measure

    run_measure(run, again, as_json)


def bench_compare(
    first: Annotated[str, typer.Argument(help="RUN, or RUN:METHOD if it has several.")],
    second: Annotated[str, typer.Argument(help="Another, of the same benchmark and data.")],
    every: Annotated[
        bool, typer.Option("--all", help="Print every figure, not only the main ones.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the differences of two runs: settings, and figures with interval and p-value.

    Example: cies bench compare runs/world:dior runs/world:clip
    """
    from cies.bench.runs import run_compare

    run_compare(first, second, every, as_json)


def bench_report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, all of one task.")],
    output: Annotated[
        Optional[Path],
        typer.Option("--output", "-o", help="A folder; by default report in the first run's."),
    ] = None,
    title: Annotated[Optional[str], typer.Option(help="The report's heading.")] = None,
    into: Annotated[
        Optional[Path],
        typer.Option(
            help="A Markdown page whose part between '<!-- run of NAME -->' and "
            "'<!-- end of NAME -->' is replaced by the figures."
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write report.html, report.md and report.json, with plots and the worst queries.

    Example: cies bench report runs/world -o docs/world --into docs/reproduce.md
    """
    from cies.bench.runs import run_report

    run_report(runs, output, title, into, force)


def bench_list(
    name: Annotated[
        Optional[str], typer.Argument(help="One benchmark, to show everything it needs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the published benchmarks: their tasks, and where and on what terms the data are.

    Example: cies bench list cub200
    """
    from cies.bench.benchmarks import run_bench_list

    run_bench_list(name, as_json)


def bench_check(
    file: Annotated[Path, typer.Argument(help="A submission file of CIRCO or CIRR.")],
    data: Annotated[
        Optional[Path], typer.Option(help="The benchmark's folder, to check every picture too.")
    ] = None,
) -> None:
    """Check a submission file of a test split, before the server refuses it.

    Example: cies bench check circo-test.json --data ~/CIRCO
    """
    from cies.bench.benchmarks import run_bench_check

    run_bench_check(file, data)


def bench_submit(
    run: Annotated[str, typer.Argument(help="RUN of a test split, or RUN:NAME of one system.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the files.")] = Path(),
    force: ForceOption = False,
) -> None:
    """Write the submission files of a run for the server of CIRCO or CIRR, and check them.

    Example: cies bench submit runs/circo:"clip sum" -o submission
    """
    from cies.bench.benchmarks import run_bench_submit

    run_bench_submit(run, output, force)


def bench_trec(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the files.")],
    depth: Annotated[int, typer.Option(help="Answers per query.", min=1)] = 1000,
    force: ForceOption = False,
) -> None:
    """Write the answers of a run, and the right answers, as TREC run and qrels files.

    Example: cies bench trec runs/world -o trec
    """
    from cies.bench.benchmarks import run_bench_trec

    run_bench_trec(run, output, depth, force)
