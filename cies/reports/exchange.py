"""``cies import`` and ``cies export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cies.console import print_document, say
from cies.reports.ingest import say_failures
from indexes.errors import UsageError
from ingest.fill.imported_vectors import ImportReport


def print_import(gallery_path: Path, report: ImportReport, as_json: bool) -> None:
    """Print what an import did.

    Args:
        gallery_path: the gallery's folder.
        report: what the import did.
        as_json: print one JSON document on stdout; messages go to stderr anyway.
    """
    say_failures(report.failed)
    for note in report.notes:
        say(f"Note: {note}.")
    if as_json:
        print_document(
            {
                "gallery": str(gallery_path),
                "method": "imported",
                "model": report.name,
                "condition": report.condition,
                "dimension": report.dimension,
                "rows": report.rows,
                "stored": report.stored,
                "repeated": report.repeated,
                "failed": [vars(record) for record in report.failed],
                "notes": report.notes,
            }
        )
        return
    repeated = f", {report.repeated} rows of the same pictures" if report.repeated else ""
    say(
        f"{report.stored} vectors of {report.dimension} numbers imported, {len(report.failed)} "
        f"without a readable picture{repeated}; gallery {gallery_path}, condition "
        f"{report.condition}, method imported:{report.name}."
    )


def run_export(
    gallery_path: Path,
    conditions: Sequence[str],
    output: Path,
    forms: Sequence[str],
    thumbnails: bool,
    force: bool,
    method: str | None,
) -> None:
    """Export a condition.

    Args:
        gallery_path: the gallery's folder.
        conditions: exactly one.
        output: the file or folder.
        forms: the options of other tools that were given: at most one.
        thumbnails: put a small JPEG of each picture into the file.
        force: replace what CIES did not make.
        method: the method that answers.

    Raises:
        UsageError: if there are several conditions or forms, or an option does not apply.
    """
    from cies import api
    from query.explore.export import export
    from query.explore.export_forms import FILE_FORMS, export_clip_retrieval

    if len(conditions) > 1:
        raise UsageError(
            f"A file takes one condition, and here are {len(conditions)}; run `cies export` once "
            "for each, with a file of its own."
        )
    if len(forms) > 1:
        raise UsageError(f"A file has one form; give only one of {' and '.join(forms)}.")
    form = forms[0] if forms else ""
    if thumbnails and form not in FILE_FORMS:
        raise UsageError(f"--thumbnails belongs to {' or '.join(FILE_FORMS)}; leave it out.")
    engine = api.open(gallery_path, method=method, follow=False)
    if form in FILE_FORMS:
        rows = FILE_FORMS[form](engine, conditions[0], output, force, thumbnails)
    elif form:
        rows = export_clip_retrieval(engine, conditions[0], output, force)
    else:
        rows = export(engine, conditions[0], output, force)
    say(f"{rows} rows written to {output}.")
