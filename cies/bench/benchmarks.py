"""``cies bench list``, ``submit``, ``trec`` and ``check``: benchmarks and their files."""

from __future__ import annotations

from pathlib import Path

from cies.console import print_json, print_line, print_table, say
from eval.adapters.trec_runs import export_run, rankings
from eval.protocols.registry import all_benchmarks, find_benchmark, listing
from eval.protocols.submission import check_submission
from eval.runs.run import Run
from eval.tasks import QueryTask


def run_bench_list(name: str | None, as_json: bool) -> None:
    """Print a table of all benchmarks, or the details of one.

    Args:
        name: the benchmark whose details are printed; ``None`` for the table.
        as_json: whether to print a JSON document in place of a table.

    Raises:
        UsageError: if there is no such benchmark.
    """
    chosen = [find_benchmark(name)] if name else all_benchmarks(say)
    if as_json:
        print_json(listing(chosen))
        return
    if not name:
        rows = [[protocol.name, protocol.about, protocol.source.licence] for protocol in chosen]
        print_table(["benchmark", "what it asks", "licence"], rows)
        return
    (protocol,) = chosen
    source = protocol.source
    rows = [
        ["benchmark", f"{protocol.name}: {protocol.about}"],
        ["published as", source.title],
        ["get it at", source.link + (f" ({source.note})" if source.note else "")],
        ["licence", source.licence],
        *(["file", file] for file in protocol.files),
        *([f"there are {count:,}", what] for what, count in protocol.expected.counts.items()),
        *(
            [f"option {option.name}", option.about + _values(option.values)]
            for option in protocol.options
        ),
    ]
    print_table(["", protocol.name], rows)


def _values(values: tuple[str, ...]) -> str:
    return f": {', '.join(values)} (the first by default)" if values else ""


def run_bench_check(file: Path, data: Path | None) -> None:
    """Check a submission file, and print what it contains.

    Args:
        file: in the submission format of CIRCO or CIRR.
        data: the benchmark's folder, to check every picture against.

    Raises:
        DataError: if the evaluation server would reject the file; the message gives the reason.
    """
    line = check_submission(file)
    if data is not None:
        name, split = ("circo", "test") if line.startswith("CIRCO") else ("cirr", "test1")
        task = find_benchmark(name).load(data, split=split)
        assert isinstance(task, QueryTask)
        line = f"{check_submission(file, task)}, all in the gallery"
    print_line(line)


def run_bench_submit(run: str, output: Path, force: bool = False) -> None:
    """Write a run's answers as the files that an evaluation server accepts; print their paths.

    Args:
        run: a run's folder, or ``RUN:NAME`` of one of its systems.
        output: folder of the files.
        force: replace files that CIES did not make.

    Raises:
        UsageError: if there is no such run or system, or there is nothing to submit.
        CiesError: if the run is damaged.
    """
    from eval.reports.compare import RunSelection
    from eval.runs.submission import write_run_submission

    side = RunSelection.of(run)
    for path in write_run_submission(side.run, side.chosen, output, force):
        print_line(str(path))


def run_bench_trec(path: Path, output: Path, depth: int, force: bool = False) -> None:
    """Write a run as TREC run and qrels files, and print their names.

    Raises:
        CiesError: if the run is damaged.
        UsageError: if there is no such run, or a file cannot be written.
    """
    run = Run.open(path)
    for name in run.tasks.keys() - set(rankings(run)):
        say(f"{name} is not a ranking and is left out.")
    for written in export_run(run, output, depth, force):
        print_line(str(written))
