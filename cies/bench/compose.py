"""``cies bench compose`` and ``inversion``: print how well composers find changed pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from cies.console import print_json, print_table, say
from eval.bench import inversion
from eval.bench.compose import CUTS, PAIRS, ComposerComparison, as_markdown, compare
from eval.environment import environment
from indexes.errors import UsageError
from query.composers.factory import INVERSION
from query.hits import SCHEMA_VERSION

#: Libraries whose versions are printed.
_LIBRARIES = ("numpy", "faiss-cpu", "faiss-gpu", "lancedb", "pyarrow", "torch", "transformers")


def run_bench_compose(
    lvlm: str,
    clip: str,
    pictures: int,
    queries: int,
    seed: int,
    busy: bool,
    markdown: bool,
    as_json: bool,
    composers: Sequence[str] = (),
) -> None:
    """Measure all composers and print the table.

    Raises:
        UsageError: if there are too few pictures for the questions, or there is no such composer.
        ModelError: if a model is not available.
    """
    if markdown and as_json:
        raise UsageError("--markdown and --json exclude one another; give one of them.")
    try:
        found = compare(lvlm, clip, pictures, queries, seed, busy, say, only=composers)
    except ValueError as error:
        raise UsageError(f"{error}; give more --pictures or fewer --queries.") from error
    if as_json:
        print_json(document(found, lvlm, clip, seed, busy))
    elif markdown:
        print(as_markdown(found))
    else:
        _print(found, seed)


def document(
    found: ComposerComparison, lvlm: str, clip: str, seed: int, busy: bool
) -> dict[str, object]:
    """What ``cies bench compose --json`` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "lvlm": lvlm,
        "clip": clip,
        "pictures": found.pictures,
        "queries": len(found.factors),
        "seed": seed,
        "busy": busy,
        "right": found.right,
        "captions_seconds": found.captions_seconds,
        "composers": [row.to_json() for row in found.rows],
        "differences": found.differences(PAIRS),
    }


def _print(found: ComposerComparison, seed: int) -> None:
    names = [f"mAP@{k}" for k in CUTS] + [f"recall@{k}" for k in CUTS]
    columns = ["composer", *names, "mAP@10 between", "ms"]
    lines = []
    for row in found.rows:
        kept = row.to_json()
        low, high = kept["map_interval"]["10"]
        figures = [kept[kind][str(k)] for kind in ("map", "recall") for k in CUTS]
        numbers = [f"{figure:.3f}" for figure in figures]
        lines.append([row.name, *numbers, f"{low:.3f} {high:.3f}", f"{row.seconds * 1000:.0f}"])
    print_table(
        columns,
        lines,
        title=f"{len(found.factors)} changes to {found.pictures} rendered pictures of seed {seed}, "
        f"{found.right:.1f} right answers each",
        numbers=columns[1:],
    )
    for one in found.differences(PAIRS):
        low, high = one["interval"]
        say(
            f"{one['better']} over {one['worse']}, mAP@10: {one['difference']:+.3f} "
            f"(95 % between {low:+.3f} and {high:+.3f}, p {one['p_value']:.4f})"
        )


def run_bench_inversion(
    clip: str,
    pictures: int,
    seed: int,
    rounds: int,
    composers: list[str],
    markdown: bool,
    as_json: bool,
) -> None:
    """Measure composers by textual inversion and print the table.

    Raises:
        UsageError: if there is no such composer.
        ModelError: if the model or a network is not available.
    """
    if markdown and as_json:
        raise UsageError("--markdown and --json exclude one another; give one of them.")
    known = [made.name for made in INVERSION]
    for name in composers:
        if name not in known:
            raise UsageError(
                f"'{name}' is not a composer by textual inversion; choose among {', '.join(known)}."
            )
    found = inversion.measure(clip, pictures, seed, rounds, composers or known, say)
    about = environment(*_LIBRARIES)
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
        print(inversion.as_markdown(found))
    else:
        head, *rows = inversion.table(found)
        print_table(head, rows, f"{pictures} rendered pictures of seed {seed}, {clip}", head[1:])
    say(f"'itself first': a sentence with only the picture's word finds it among {pictures}.")
    say(f"'length': of the word's vector; words of the model have {found[0].own_length:.2f}.")
    say(
        f"'query': '{inversion.CHANGE}' with the word of a picture whose base vector is stored, "
        f"ranked among {pictures}; 'text': the same sentence with a word of the model; medians of "
        f"{rounds} queries in turn. The word of searle-oti is computed once and kept."
    )
    say("; ".join(f"{name} {value}" for name, value in about.items()))
