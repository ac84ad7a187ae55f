"""The options of the command line that are about the encoder."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

ModelOption = Annotated[
    Optional[str],
    typer.Option(help="Built-in name, hub ORG/NAME or ORG/NAME@REVISION, or a folder."),
]
MethodOption = Annotated[
    Optional[str],
    typer.Option(help="How to embed: one of `cies methods`; added if the gallery has it not."),
]
PromptOption = Annotated[
    Optional[str],
    typer.Option(help="A prompt template, or a text with {condition}, for a new gallery."),
]
DtypeOption = Annotated[
    str, typer.Option(help="auto, float32, bfloat16 or float16, for a new gallery.")
]
LayerOption = Annotated[
    Optional[int], typer.Option(help="Whose states are read, from 0; -1 is the last.")
]
TokenOption = Annotated[Optional[str], typer.Option(help="last_prompt, first_generated or mean.")]
MaxSideOption = Annotated[
    Optional[int], typer.Option(help="Longest side in pixels a picture keeps; 700.")
]
AttentionOption = Annotated[
    Optional[str], typer.Option(help="sdpa, or eager with a pass for each condition.")
]
CompatOption = Annotated[
    Optional[str], typer.Option(help="reference, for the published code's vectors.")
]
SentencesOption = Annotated[
    Optional[str],
    typer.Option(help="What embeds the answers of --method generative; tiny-clip."),
]
GeometryOption = Annotated[
    Optional[str],
    typer.Option(help="raw, centred, standardised or residual vectors, for a new gallery."),
]
OtherGeometryOption = Annotated[
    Optional[str],
    typer.Option(
        "--geometry",
        help="Compare vectors raw, centred, standardised or residual, not as the gallery does.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:1 or mps; cuda:0,cuda:1 for a copy of the model on each.",
    ),
]
DeviceMapOption = Annotated[
    Optional[str], typer.Option(help="Spread the model over devices: auto, balanced, ...")
]
