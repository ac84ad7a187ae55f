"""``cies methods``: what each does, needs and costs, and when to use which. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cies.console import print_json, print_table, say
from cies.measured import MeasuredCost, measured_costs, measured_speeds
from ingest.encoders.factory import METHODS
from query.hits import SCHEMA_VERSION


@dataclass(frozen=True)
class Advice:
    """What to know of a method before choosing it.

    Attributes:
        needs: what it is made with.
        condition: what a new condition takes.
        use: when to use it.
    """

    needs: str
    condition: str
    use: str


#: The figures behind these are in docs/methods.md.
ADVICE = {
    "dior": Advice(
        "an LVLM",
        "a pass over all pictures",
        "best by far under conditions that are searched often; give all of them at once",
    ),
    "generative": Advice(
        "an LVLM and a sentence encoder",
        "a pass over all pictures, answers spelled out",
        "when answers are to be read, filtered or counted; two shades of one word are one to it",
    ),
    "regional": Advice(
        "an LVLM, five vectors a picture",
        "five prompts a picture",
        "when what matters is a small part of the picture",
    ),
    "captions": Advice(
        "an LVLM and a CLIP",
        "nothing: it makes no difference",
        "for the composer weimo of `cies search --modify`, and to read what pictures show",
    ),
    "clip": Advice(
        "a CLIP or SigLIP",
        "nothing: it makes no difference",
        "for likeness as a whole, for texts, and as the base of the three views",
    ),
    "indirect": Advice(
        "base vectors of clip, and words",
        "seconds: a fit to the words",
        "as clay, where vectors of a fixed length are wanted; slower to fit, and weaker here",
    ),
    "crl": Advice(
        "base vectors of clip, and words",
        "at once",
        "at once under any condition whose words are known, one number a word",
    ),
    "clay": Advice(
        "base vectors of clip, and words",
        "at once",
        "at once under any condition whose words are known; the view to begin with",
    ),
}


def methods_document() -> dict[str, Any]:
    """The document that ``cies methods --json`` prints."""
    costs, speeds = measured_costs(), measured_speeds()
    entries = []
    for name, info in METHODS.items():
        advice = ADVICE[name]
        entries.append(
            {
                "name": name,
                "about": info.about,
                "kind": info.kind,
                "default_model": info.model,
                "needs": advice.needs,
                "new_condition": advice.condition,
                "use": advice.use,
                "costs": [_cost(cost) for cost in costs if cost.method == name],
                "ingests": [asdict(speed) for speed in speeds if speed.method == name],
            }
        )
    return {"schema_version": SCHEMA_VERSION, "methods": entries}


def _cost(cost: MeasuredCost) -> dict[str, Any]:
    more = max(0.0, 1 / cost.all_rate - 1 / cost.one_rate) / max(1, cost.conditions - 1)
    return {
        "model": cost.model,
        "device": cost.device,
        "dtype": cost.dtype,
        "threads": cost.threads,
        "pictures": cost.pictures,
        "picture_ms": 1000 / cost.one_rate,
        "further_condition_ms": 0.0 if METHODS[cost.method].kind == "view" else 1000 * more,
        "new_condition_seconds": cost.condition_seconds,
        "query_ms": cost.query_ms,
        "dimension": cost.dimension,
        "bytes_per_picture": 2 * cost.dimension if METHODS[cost.method].kind == "stored" else 0,
        "when": cost.when,
    }


def run_methods(as_json: bool) -> None:
    """Print what there is to know of every method."""
    document = methods_document()
    if as_json:
        print_json(document)
        return
    entries = document["methods"]
    print_table(
        ["method", "kind", "what it is", "needs", "a new condition takes", "use it"],
        [
            [e["name"], e["kind"], e["about"], e["needs"], e["new_condition"], e["use"]]
            for e in entries
        ],
        title="stored: kept in the gallery; view: worked out from the stored vectors of clip",
    )
    rows = [
        [
            entry["name"],
            cost["model"],
            f"{cost['device']} {cost['dtype']}, {cost['threads']} threads",
            f"{cost['picture_ms']:.3g}",
            f"{cost['further_condition_ms']:.3g}",
            f"{cost['new_condition_seconds']:.3g} s for {cost['pictures']:,}",
            f"{cost['query_ms']:.3g}",
            str(cost["dimension"]),
            cost["when"],
        ]
        for entry in entries
        for cost in entry["costs"]
    ]
    print()
    if not rows:
        say("What they cost on this machine is not known yet; `cies bench methods` measures it.")
        return
    columns = ["method", "model", "on", "ms a picture", "and a further condition"]
    columns += ["new condition", "ms a query", "numbers", "when"]
    print_table(
        columns,
        rows,
        title="Measured on this machine by `cies bench methods`; a query embeds one picture and "
        "ranks all others",
        numbers=["ms a picture", "and a further condition", "ms a query", "numbers"],
    )
