"""``cies bench NAME``, ``measure``, ``compare`` and ``report``: published figures, run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from cies.cli.encoder_options import DeviceOption
from cies.cli.options import JsonOption

_CHANGED = "Changes in words"

RunArgument = Annotated[Path, typer.Argument(help="A run folder.")]


class BenchGroup(TyperGroup):
    """Takes the name of a benchmark for a command: ``cies bench circo`` runs it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """What is no command of the group is a benchmark's name."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


def bench_run(
    name: Annotated[str, typer.Argument(help="world, folder, or one of `cies bench list`.")],
    data: Annotated[Optional[Path], typer.Option(help="The benchmark's folder.")] = None,
    output: Annotated[
        Optional[Path],
        typer.Option("--output", "-o", help="The run's folder; runs/NAME here by default."),
    ] = None,
    method: Annotated[
        Optional[list[str]],
        typer.Option(help="METHOD or METHOD:MODEL, of `cies methods`; may be repeated."),
    ] = None,
    model: Annotated[Optional[str], typer.Option(help="Of a single method.")] = None,
    option: Annotated[
        Optional[list[str]],
        typer.Option("--option", help="NAME=VALUE of the benchmark; may be repeated."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take a part of the data; the name says so.")
    ] = False,
    composer: Annotated[
        Optional[list[str]],
        typer.Option(
            help="How a picture and a change become one question, of docs/compose.md, or all; "
            "may be repeated. Image only, text only and sum are always asked.",
            rich_help_panel=_CHANGED,
        ),
    ] = None,
    condition: Annotated[
        Optional[list[str]],
        typer.Option(
            "--condition",
            "-c",
            help="A condition that the composers dior and dior-split look under; of the world its "
            "factors by default, else none.",
            rich_help_panel=_CHANGED,
        ),
    ] = None,
    weight: Annotated[
        Optional[list[str]],
        typer.Option(
            help="A weight of the composer, such as alpha_i=1.2.", rich_help_panel=_CHANGED
        ),
    ] = None,
    lvlm: Annotated[
        str,
        typer.Option(
            help="The LVLM that writes captions; the built-in one by default.",
            rich_help_panel=_CHANGED,
        ),
    ] = "",
    rewriter: Annotated[
        str,
        typer.Option(
            help="Address of an OpenAI-compatible API that rewrites captions in its place.",
            rich_help_panel=_CHANGED,
        ),
    ] = "",
    rewriter_model: Annotated[
        str, typer.Option(help="The model there.", rich_help_panel=_CHANGED)
    ] = "",
    depth: Annotated[
        int, typer.Option(help="Best answers of a question that are kept.", min=1)
    ] = 1000,
    prompt: Annotated[str, typer.Option(help="As for ingest.")] = "describe",
    dtype: Annotated[str, typer.Option(help="As for ingest.")] = "auto",
    device: DeviceOption = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Ask a model what it was not schooled on.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Of chance, intervals and the world's pictures.", min=0)
    ] = 4711,
    as_json: JsonOption = False,
) -> None:
    """Run a benchmark: store the answers, then measure them; go on if it was broken off.

    Example: cies bench world --method dior --method clip -o runs/world

    Example: cies bench circo --data CIRCO --method clip --composer pdv --composer cirevl
    """
    from cies.bench.runs import Changes, run_benchmark

    run_benchmark(
        name,
        data,
        output,
        method or [],
        model,
        option or [],
        partial,
        {"prompt": prompt, "dtype": dtype, "device": device, "force": force},
        Changes(composer or [], condition or [], weight or [], lvlm, rewriter, rewriter_model),
        seed,
        depth,
        as_json,
    )


def bench_measure(
    run: RunArgument,
    again: Annotated[bool, typer.Option("--again", help="Measure all anew.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what a run stored; needs neither its data nor a model.

    Example: cies bench measure runs/world --again
    """
    from cies.bench.runs import run_measure

    run_measure(run, again, as_json)


def bench_compare(
    first: Annotated[str, typer.Argument(help="RUN, or RUN:METHOD where it has several.")],
    second: Annotated[str, typer.Argument(help="Another, of the same benchmark and data.")],
    every: Annotated[
        bool, typer.Option("--all", help="Show every figure, not the headlines alone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what differs between two runs: in settings, and in figures with interval and p-value.

    Example: cies bench compare runs/world:dior runs/world:clip
    """
    from cies.bench.runs import run_compare

    run_compare(first, second, every, as_json)


def bench_report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; of one task, side by side.")],
    output: Annotated[
        Optional[Path],
        typer.Option("--output", "-o", help="A folder; report in the first run's by default."),
    ] = None,
    title: Annotated[Optional[str], typer.Option(help="The report's heading.")] = None,
    into: Annotated[
        Optional[Path],
        typer.Option(
            help="A Markdown page whose part between '<!-- run of NAME -->' and "
            "'<!-- end of NAME -->' gets the figures."
        ),
    ] = None,
) -> None:
    """Write report.html, report.md and report.json, with plots and the worst queries.

    Example: cies bench report runs/world -o docs/world --into docs/reproduce.md
    """
    from cies.bench.runs import run_report

    run_report(runs, output, title, into)
