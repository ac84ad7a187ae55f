"""``cies bench methods``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import JsonOption


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
    method: Annotated[
        Optional[list[str]], typer.Option("--method", "-m", help="Only this one; repeatable.")
    ] = None,
    write: Annotated[Optional[Path], typer.Option(help="Write the tables as Markdown.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure every method by condition, what it costs, and remember it for `cies methods`.

    Example: cies bench methods -n 500 --write methods.md
    """
    from cies.bench.methods import run_bench_methods

    sets = triplets or [], renamed or []
    run_bench_methods(model, clip, pictures, seed, *sets, method or [], write, as_json)
