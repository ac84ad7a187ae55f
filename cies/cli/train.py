"""``cies train-composer`` and ``cies bench inversion``: pictures as words of a sentence."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from cies.cli.bench import bench
from cies.cli.encoder_options import DeviceOption
from cies.cli.options import JsonOption


def train_composer(
    composer: Annotated[str, typer.Argument(help="searle, pic2word, lincir or palavra.")],
    images: Annotated[
        Optional[str], typer.Option(help="Pictures to train on: a folder, or as for ingest.")
    ] = None,
    model: Annotated[str, typer.Option(help="The CLIP it shall serve.")] = "tiny-clip",
    texts: Annotated[
        Optional[str], typer.Option(help="For lincir: a file with a text on each line.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Of the network's training.", min=1)] = 3000,
    batch: Annotated[int, typer.Option(help="Examples at each step.", min=2)] = 128,
    rate: Annotated[float, typer.Option(help="Learning rate.", min=1e-7, max=1)] = 1e-3,
    hidden: Annotated[
        int, typer.Option(help="The network's width; as published by default.", min=0)
    ] = 0,
    oti_steps: Annotated[
        int, typer.Option(help="For searle: steps to find a picture's word.", min=1)
    ] = 350,
    seed: Annotated[int, typer.Option(help="Of weights and order.", min=0)] = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a composer of search --modify for a CLIP: on pictures, or lincir on texts.

    What a run has done is kept: stopped and given again, it goes on. The network is kept in your
    data folder and found there by the CLIP it was trained for.

    Example: cies train-composer searle --images ~/photos --model openai/clip-vit-base-patch32
    """
    from cies.reports.training import run_training
    from ingest.encoders.inversion.training import TrainingPlan

    plan = TrainingPlan(
        steps=steps, batch=batch, rate=rate, hidden=hidden, oti_steps=oti_steps, seed=seed
    )
    run_training(composer, images, model, texts, plan, device, as_json)


@bench.command("inversion")
def bench_inverting(
    clip: Annotated[str, typer.Option(help="The CLIP of the networks.")] = "tiny-clip",
    pictures: Annotated[int, typer.Option(help="How many to render.", min=2)] = 200,
    seed: Annotated[int, typer.Option(help="Of them; not that of a school.", min=0)] = 4711,
    rounds: Annotated[int, typer.Option(help="Questions that are timed.", min=1)] = 300,
    composer: Annotated[
        Optional[list[str]], typer.Option(help="Measure this one; may be repeated.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the table of docs/compose.md.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure whether a picture's word finds the picture, and what a question with it costs.

    Example: cies bench inversion --composer searle
    """
    from cies.bench.inversion import run_bench_inversion

    run_bench_inversion(clip, pictures, seed, rounds, composer or [], markdown, as_json)
