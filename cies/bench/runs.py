"""``cies bench NAME``, ``measure``, ``compare`` and ``report``: benchmark runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cies.console import counter, print_json, print_line, print_table, say
from eval.benchmarks import WORLD, WORLD_METHODS, tasks_of
from eval.reports.compare import RunSelection, compare
from eval.reports.markdown import as_markdown, headline_rows
from eval.reports.report import Report, report
from eval.reports.reproduce_page import write_into
from eval.runs.composers import ALL, ComposerOptions
from eval.runs.files import write_bytes
from eval.runs.measuring import measure
from eval.runs.run import Run
from eval.runs.run_encoders import EvaluatedEncoder, run_encoders
from eval.tasks import LabelTask
from eval.world.factors import FACTORS
from indexes.errors import UsageError
from indexes.outputs import check_output
from ingest.encoders.base import BaseEncoder
from ingest.encoders.options import ASKING_METHODS, DEFAULT_OPTIONS, EncoderOptions
from ingest.fill.pipeline import Progress
from ingest.fill.vector_sources import LAYERED
from query.composers.factory import CONDITION_COMPOSERS
from query.composers.modification import Modification, parse_composer_weights


@dataclass(frozen=True)
class ComposerArguments:
    """The options of ``cies bench NAME`` for composers, as typed."""

    composers: Sequence[str] = ()
    conditions: Sequence[str] = ()
    weights: Sequence[str] = ()
    lvlm: str = ""
    rewriter: str = ""
    rewriter_model: str = ""

    def options(self, benchmark: str, device: str) -> ComposerOptions | None:
        """Return the options for a run; ``None`` if no composer is named.

        Raises:
            UsageError: if there is no such composer, or an option needs a composer and none is
                named.
        """
        if not self.composers:
            for option in ("conditions", "weights", "lvlm", "rewriter", "rewriter_model"):
                if getattr(self, option):
                    shown = option.removesuffix("s").replace("_", "-")
                    raise UsageError(f"--{shown} needs a composer; name one by --composer.")
            return None
        change = Modification(
            "as the question says",
            weights=parse_composer_weights(self.weights),
            lvlm=self.lvlm,
            rewriter=self.rewriter,
            rewriter_model=self.rewriter_model,
        )
        conditions = list(self.conditions)
        if (
            not conditions
            and benchmark == WORLD
            and {*self.composers} & {ALL, *CONDITION_COMPOSERS}
        ):
            conditions = list(FACTORS)
        return ComposerOptions.from_names(self.composers, change, device, conditions)


def run_benchmark(
    name: str,
    data: Path | None,
    output: Path | None,
    methods: Sequence[str],
    model: str | None,
    options: Sequence[str],
    allow_partial: bool,
    how: Mapping[str, Any],
    composers: ComposerArguments,
    seed: int,
    depth: int,
    as_json: bool,
    layers: Sequence[int] = (),
) -> None:
    """Embed and rank, store the answers, measure them, and print the headline metrics.

    Args:
        name: the name of the benchmark.
        data: its folder.
        output: the run's folder.
        methods: ``METHOD``, ``METHOD@LAYER`` or ``METHOD:MODEL``; the benchmark's own if empty.
        model: the model of a single method.
        options: ``NAME=VALUE`` of the benchmark.
        allow_partial: whether a part of the data is enough.
        how: prompt, dtype, device, force and options, as
            :func:`ingest.encoders.factory.make_encoder`; options apply to the methods that ask an
            LVLM.
        composers: the composers of changes in words.
        seed: the seed of chance, intervals and rendered pictures.
        depth: number of best answers of a query that are stored.
        as_json: whether to print a JSON document.
        layers: several layers, each a system of its own of the methods that read one.

    Raises:
        UsageError: if an argument is invalid or does not fit the run folder.
        DataError: if the data differ from the published ones.
        ModelError: if a model cannot be loaded or cannot serve a condition.
        CiesError: if a picture cannot be read or the run is damaged.
    """
    given = _options(options)
    folder = name if data is None else f"{name}-{data.resolve().name}"
    place = output or Path("runs") / folder
    composing = composers.options(name, how["device"])
    if name == WORLD:
        # The world asks in other wordings too, which the models were not trained on.
        methods, how = methods or WORLD_METHODS, {**how, "force": True}
    # Composers work on the vectors of clip.
    methods = methods or ["clip" if composing else "dior"]
    encoders = _encoders(each_layer(methods, layers) if layers else methods, model, how)
    began = time.monotonic()
    with counter(f"Rendering {name}" if name == WORLD else f"Reading {name}") as show:
        tasks = tasks_of(
            name,
            data,
            given,
            allow_partial,
            seed,
            place / "pictures",
            lambda done, total: show(Progress(done, total, done, 0)),
        )
    run = Run.begin(place, name, given, tasks, seed, depth)
    run.spend("rendering" if name == WORLD else "reading", time.monotonic() - began)
    began = time.monotonic()
    with ExitStack() as stack:
        shown: dict[str, Callable[[Progress], None]] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in shown:
                stack.close()
                shown.clear()
                shown[what] = stack.enter_context(counter(what))
            shown[what](Progress(done, total, done, 0))

        run_encoders(run, encoders, composing, tell, say)
    run.spend("asking", time.monotonic() - began)
    began = time.monotonic()
    measure(run, lambda line: say(f"  {line}"))
    run.spend("measuring", time.monotonic() - began)
    _print(report([run], sheets=False), as_json)
    say(f"Stored in {place}; `cies bench report {place}` writes a report.")


def _options(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not name:
            raise UsageError(f"--option {text}: write it as NAME=VALUE, such as gallery=split.")
        if name in found:
            raise UsageError(f"--option {name} is given twice; give it once.")
        found[name] = value
    return found


def _encoders(
    methods: Sequence[str], model: str | None, how: Mapping[str, Any]
) -> list[EvaluatedEncoder]:
    """The encoders of a run.

    Raises:
        UsageError: if there is no such method, or one model is given to several.
    """
    from ingest.encoders.factory import METHODS

    if model is not None and len({text.partition("@")[0] for text in methods}) > 1:
        raise UsageError(
            "--model takes one method, and several are given; write each as METHOD:MODEL."
        )
    found: dict[str, EvaluatedEncoder] = {}
    for text in methods:
        layered, _, named = text.partition(":")
        method, _, layer = layered.partition("@")
        chosen = named or model
        if method not in METHODS:
            raise UsageError(f"There is no method '{method}'; choose one of {', '.join(METHODS)}.")
        name = layered if chosen is None else f"{layered} {chosen}"
        wanted = {"method": method, "model": chosen or METHODS[method].model}
        applies = how if method in ASKING_METHODS else {**how, "options": DEFAULT_OPTIONS}
        if layer:
            options = applies.get("options", DEFAULT_OPTIONS)
            applies = {**applies, "options": _at_layer(options, layered, layer)}
        wanted |= {k: v for k, v in applies.items() if k not in ("device", "options")}
        wanted |= _changed_options(applies.get("options", DEFAULT_OPTIONS))
        found[name] = EvaluatedEncoder(name, wanted, partial(_load, method, chosen, applies))
    clips = {one.wanted["model"] for one in found.values() if one.wanted["method"] == "clip"}
    return [
        replace(
            one,
            without_condition=METHODS[one.wanted["method"]].kind == "stored" or model not in clips,
        )
        for one in found.values()
        for model in [one.wanted["model"]]
    ]


def each_layer(methods: Sequence[str], layers: Sequence[int]) -> list[str]:
    """Methods, those that read a layer once for each of some layers, as ``METHOD@LAYER``.

    Args:
        methods: ``METHOD`` or ``METHOD:MODEL``.
        layers: numbers of layers, -1 for the last one.
    """
    found = []
    for text in methods:
        method, colon, model = text.partition(":")
        if method in LAYERED:
            marks = ["" if layer == -1 else f"@{layer}" for layer in dict.fromkeys(layers)]
            found += [f"{method}{mark}{colon}{model}" for mark in marks]
        else:
            found.append(text)
    return found


def _at_layer(options: EncoderOptions, method: str, layer: str) -> EncoderOptions:
    """The options with the layer that ``METHOD@LAYER`` names.

    Raises:
        UsageError: if the method has no layers, or it is no number.
    """
    if method.partition("@")[0] not in LAYERED or not layer.removeprefix("-").isdecimal():
        raise UsageError(
            f"There is no method '{method}'; a layer is named as in {LAYERED[0]}@-2, of the "
            f"methods {' and '.join(LAYERED)}."
        )
    return replace(options, layer=int(layer))


def _changed_options(options: EncoderOptions) -> dict[str, Any]:
    """The options that are not the defaults, as JSON values."""
    usual = asdict(DEFAULT_OPTIONS)
    return {name: value for name, value in asdict(options).items() if value != usual[name]}


def _load(method: str, model: str | None, how: Mapping[str, Any]) -> BaseEncoder:
    from ingest.encoders.factory import make_encoder

    return make_encoder(method, model, **how)


def run_measure(path: Path, again: bool, as_json: bool) -> None:
    """Measure a run and print the headline metrics.

    Raises:
        UsageError: if the folder is not a run.
        CiesError: if it is damaged.
    """
    run = Run.open(path)
    measure(run, lambda line: say(f"  {line}"), again)
    _print(report([run], sheets=False), as_json)


def _print(found: Report, as_json: bool) -> None:
    if as_json:
        print_json(found.to_json())
        return
    for section in found.sections:
        head, rows = headline_rows(section, section.headline)
        print_table(head, rows, f"{section.task.name}: {section.headline}", head[1:])


def run_compare(first: str, second: str, every: bool, as_json: bool) -> None:
    """Print the differences of two runs in settings and figures.

    Raises:
        UsageError: if the two have nothing to compare.
        CiesError: if one is damaged.
    """
    sides = RunSelection.of(first), RunSelection.of(second)
    found = compare(*sides)
    if as_json:
        print_json(found.to_json())
        return
    if found.settings:
        print_table(["setting", first, second], found.settings, "Settings that differ")
    else:
        say("Both runs have the same settings.")
    shown = [d for d in found.differences if every or _headline(sides[0].run, d.task) == d.metric]
    shown = [d for d in shown if every or d.judge in ("", d.row)]
    rows = [
        [
            d.task,
            d.row,
            *([d.judge] if every else []),
            d.metric,
            f"{d.first:.3f}",
            f"{d.second:.3f}",
            f"{d.difference:+.3f}",
            f"[{d.low:+.3f}, {d.high:+.3f}]",
            f"{d.p:.4f}",
            f"{d.p_adjusted:.4f}",
            str(d.queries),
        ]
        for d in shown
    ]
    judge = ["judged by"] if every else []
    head = ["task", "row", *judge, "metric", "first", "second", "difference", "95 %", "p"]
    pairs = dict.fromkeys(f"{a} and {b}" for _, a, b in found.pairs)
    print_table([*head, "p (Holm)", "queries"], rows, "; ".join(pairs))


def _headline(run: Run, name: str) -> str:
    task = run.tasks[name]
    return task.headline if isinstance(task, LabelTask) else task.metrics[0]


def run_report(
    paths: Sequence[Path],
    output: Path | None,
    title: str | None,
    into: Path | None,
    force: bool = False,
) -> None:
    """Write a report as JSON, Markdown and HTML, and its figures into a page if one is named.

    Raises:
        UsageError: if a folder is not a run, the page has no marks for the figures, or a file
            exists that CIES did not make, and ``force`` is not given.
        CiesError: if one is damaged, or the report cannot be written.
    """
    from cies.html.report import report_page

    runs = [Run.open(path) for path in paths]
    names = list(dict.fromkeys(run.document["benchmark"] for run in runs))
    heading = title or f"Benchmark: {', '.join(names)}"
    found = report(runs)
    place = output or paths[0] / "report"
    document = json.dumps(found.to_json(), allow_nan=False)
    forms = {
        "report.json": document + "\n",
        "report.md": "<!-- Written by `cies bench report`. -->\n" + as_markdown(found, heading),
        "report.html": report_page(found, heading),
    }
    for name in forms:
        check_output(place / name, force)
    for name, content in forms.items():
        write_bytes(place / name, content.encode("utf-8", "replace"))
        print_line(os.fspath(place / name))
    if into is not None:
        write_into(into, found)
        print_line(os.fspath(into))
