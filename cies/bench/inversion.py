"""Prints whether pictures' words find them, and what they cost. See :mod:`eval.bench.inversion`."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version

from cies.console import print_json, print_table, say
from eval.bench.inversion import CHANGE, as_markdown, measure, table
from eval.bench.search.measure import environment
from indexes.errors import UsageError
from query.composers.factory import INVERSION
from query.hits import SCHEMA_VERSION


def run_bench_inversion(
    clip: str,
    pictures: int,
    seed: int,
    rounds: int,
    composers: list[str],
    markdown: bool,
    as_json: bool,
) -> None:
    """Measure and print.

    Raises:
        UsageError: if there is no such composer.
        ModelError: if the model or a network cannot be had.
    """
    if markdown and as_json:
        raise UsageError("--markdown and --json exclude one another; give one of them.")
    known = [made.name for made in INVERSION]
    for name in composers:
        if name not in known:
            raise UsageError(
                f"'{name}' is no composer by textual inversion; choose some of {', '.join(known)}."
            )
    found = measure(clip, pictures, seed, rounds, composers or known, say)
    own = ("torch", "transformers")
    about = {**environment(), **{name: version(name) for name in own}}
    asked = {"clip": clip, "pictures": pictures, "seed": seed, "rounds": rounds}
    if as_json:
        document = {
            "environment": about,
            "asked": asked,
            "composers": [asdict(one) for one in found],
        }
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    if markdown:
        print(as_markdown(found))
    else:
        head, *rows = table(found)
        print_table(head, rows, f"{pictures} rendered pictures of seed {seed}, {clip}", head[1:])
    say(f"'itself first': a sentence with the picture's word alone finds it among {pictures}.")
    say(f"'length': of the word's vector; words of the model have {found[0].own_length:.2f}.")
    say(
        f"'query': '{CHANGE}' said with the word of a picture whose base vector is there, found "
        f"among {pictures}; 'text': the same sentence with a word of the model, {rounds} times in "
        "turn, medians; the word of searle-oti is kept once it was found."
    )
    say("; ".join(f"{name} {value}" for name, value in about.items()))
