"""``cies bench embed``: our pass beside a pass a pair and beside a key-value cache."""

from __future__ import annotations

from dataclasses import asdict

from cies.console import print_json, print_table, say
from eval.bench.embed import CONDITIONS, bench_embed, environment
from eval.bench.stand_in_model import SHAPES, make_stand_in
from eval.world.factors import sample_scenes
from eval.world.render import render
from indexes.errors import UsageError
from ingest.conditions import Condition
from ingest.encoders.devices import check_dtype
from ingest.encoders.methods.dior import DiorEncoder
from query.hits import SCHEMA_VERSION


def run_bench_embed(
    model: str | None,
    shape: str,
    counts: str,
    images: int,
    size: int,
    rounds: int,
    dtype: str,
    device: str,
    as_json: bool,
) -> None:
    """Measure embedding and print the table.

    Raises:
        UsageError: if the numbers of conditions, the shape or the dtype are not such.
        ModelError: if the model cannot be had or is not run packed.
    """
    try:
        wanted = [int(part) for part in counts.split(",")]
    except ValueError:
        wanted = []
    if not wanted or not all(1 <= number <= len(CONDITIONS) for number in wanted):
        raise UsageError(
            f"--conditions takes numbers from 1 to {len(CONDITIONS)}, such as 1,4,8,16, "
            f"not '{counts}'."
        )
    check_dtype(dtype)
    if shape not in SHAPES:
        raise UsageError(f"There is no shape '{shape}'; choose one of {', '.join(SHAPES)}.")
    if model is None:
        asked = [Condition.parse(name) for name in CONDITIONS]
        kind = "float32" if dtype == "auto" else dtype
        place = "cpu" if device == "auto" else device
        encoder = make_stand_in(asked, kind, place, SHAPES[shape])
    else:
        encoder = DiorEncoder.load(model, dtype=dtype, device=device, force=True)
    if not encoder.lvlm.packs:
        raise UsageError(f"{model} runs plain ({encoder.lvlm.family.reason}); nothing to compare.")
    pictures = [render(scene, size) for scene in sample_scenes(images, seed=3)]
    lines = bench_embed(encoder, pictures, wanted, rounds, progress=lambda line: say(f"  {line}"))
    about = environment(encoder)
    if as_json:
        document = {"environment": about, "lines": [asdict(line) for line in lines]}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    print_table(
        [
            "conditions",
            "way",
            "images/s",
            "over reference",
            "over cached",
            "GFLOP/image",
            "FLOP ratio",
            "share of ceiling",
            "vision passes",
            "worst cosine",
            "TFLOP/s",
            "share of peak",
        ],
        [
            [
                str(line.conditions),
                line.way,
                f"{line.images_per_second:.3f}",
                f"{line.over_reference:.2f}",
                f"{line.over_cached:.2f}",
                f"{line.gigaflops:.1f}",
                f"{line.flop_ratio:.2f}",
                f"{line.share_of_ceiling:.3f}",
                f"{line.vision_passes:.0f}",
                f"{line.worst_cosine:.6f}",
                f"{line.teraflops_per_second:.3f}",
                f"{line.share_of_peak:.2f}",
            ]
            for line in lines
        ],
    )
    say("; ".join(f"{name} {value}" for name, value in about.items()))
    say(f"{images} pictures of {size} px, medians of {rounds} rounds, preparation left out.")
