"""``cies bench quality``: what a model is worth where all there is to know is known."""

from __future__ import annotations

from cies.console import print_json, print_table, say
from eval.bench.quality import WORDINGS, compare
from eval.world.factors import FACTORS
from query.hits import SCHEMA_VERSION


def run_bench_quality(lvlm: str, clip: str, pictures: int, seed: int, as_json: bool) -> None:
    """Measure the methods on rendered pictures and print the table.

    Raises:
        ModelError: if a model cannot be had.
    """
    found = compare(lvlm, clip, pictures, seed, progress=lambda line: say(f"  {line}"))
    names = list(FACTORS)
    chance = {name: found.methods[0].cells[name][name].chance for name in names}
    if as_json:
        document = {
            "lvlm": lvlm,
            "clip": clip,
            "pictures": pictures,
            "seed": seed,
            "chance": chance,
            "texts_precision_at_10": found.texts,
            "load_seconds": found.load_seconds,
            "pictures_per_second": found.pictures_per_second,
            "methods": [quality.to_json() for quality in found.methods],
        }
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    lines = [
        [
            quality.method,
            *(f"{quality.cells[name][name].value:.3f}" for name in names),
            f"{quality.own:.3f}",
            f"{quality.leakage:.3f}",
        ]
        for quality in found.methods
    ]
    mean = sum(chance.values()) / len(chance)
    lines.append(["chance", *(f"{chance[name]:.3f}" for name in names), f"{mean:.3f}", "0.000"])
    print_table(
        ["method", *names, "mean", "leakage"],
        lines,
        title=f"MAP@R under the own label, {pictures} rendered pictures of seed {seed}",
        numbers=[*names, "mean", "leakage"],
    )
    say(
        f"Neighbours under {', '.join(WORDINGS)} shared: {found.methods[0].agreement:.3f} of the "
        f"first 10. {lvlm} loads in {found.load_seconds:.2f} s and embeds "
        f"{found.pictures_per_second:.0f} pictures/s under 4 conditions."
    )
    for factor, share in found.texts.items():
        say(
            f'Texts such as "red heart" under {factor}: {share:.3f} of the 10 nearest pictures '
            f"are right (chance {1 / len(FACTORS[factor]):.3f})."
        )
    say("Leakage: MAP@R over chance under the other labels, in the mean.")
