"""Commands about models and methods: models, methods, train-composer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cies.cli.options import DeviceOption, JsonOption, TrustOption


def models(as_json: JsonOption = False) -> None:
    """List the built-in models, models of the hub, and how each model family is run.

    Example: cies models
    """
    from cies.reports.models import run_models

    run_models(as_json)


def methods(as_json: JsonOption = False) -> None:
    """Show what each method does, needs and costs, and when to use it.

    Example: cies methods --json
    """
    from cies.reports.models import run_methods

    run_methods(as_json)


def train_composer(
    composer: Annotated[str, typer.Argument(help="searle, pic2word, lincir or palavra.")],
    images: Annotated[
        Optional[str], typer.Option(help="Pictures to train on: a folder, or as for ingest.")
    ] = None,
    model: Annotated[str, typer.Option(help="The CLIP that the network is for.")] = "tiny-clip",
    texts: Annotated[
        Optional[str], typer.Option(help="For lincir: a file with a text on each line.")
    ] = None,
    imported: Annotated[
        Optional[Path],
        typer.Option(
            "--import",
            help="In place of training: the checkpoint that the authors publish for --model.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps of the network.", min=1)] = 3000,
    batch: Annotated[int, typer.Option(help="Examples per step.", min=2)] = 128,
    rate: Annotated[float, typer.Option(help="Learning rate.", min=1e-7, max=1)] = 1e-3,
    hidden: Annotated[
        int, typer.Option(help="The network's width; 0 for the published one.", min=0)
    ] = 0,
    oti_steps: Annotated[
        int, typer.Option(help="For searle: steps to find a picture's word.", min=1)
    ] = 350,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.", min=0)] = 0,
    device: DeviceOption = "auto",
    trust_remote_code: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a composer of search --modify for a CLIP, on pictures, or lincir on texts.

    Run again after an interruption, it continues. The network is stored in your data folder, and
    found there by the CLIP it was trained for.

    Example: cies train-composer searle --images ~/photos --model openai/clip-vit-base-patch32

    Example: cies train-composer searle --import SEARLE.pt --model openai/clip-vit-base-patch32
    """
    from cies.reports.training import run_import, run_training
    from indexes.errors import UsageError
    from ingest.encoders.inversion.training import TrainingPlan

    if imported is not None:
        if images is not None or texts is not None:
            raise UsageError("--import takes a finished network; leave --images and --texts out.")
        run_import(composer, str(imported), model, device, as_json)
        return

    plan = TrainingPlan(
        steps=steps, batch=batch, rate=rate, hidden=hidden, oti_steps=oti_steps, seed=seed
    )
    run_training(composer, images, model, texts, plan, device, as_json)
