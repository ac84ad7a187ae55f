"""The tables that ``cies eval`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from cies.console import print_table, say
from eval.judge import MATRIX_METRICS
from eval.matrix import GalleryMatrix, TripletScore


def print_matrix(matrix: GalleryMatrix, pairs: bool = False) -> None:
    """Print MAP@R of every condition by every label, then all figures of own labels.

    Args:
        matrix: the measured figures.
        pairs: print all figures of every condition and label. Without any label that has a
            condition's name, they are printed anyway.
    """
    rows = []
    for condition in matrix.conditions:
        cells = {cell.label: cell for cell in matrix.cells if cell.condition == condition}
        best = max(cells.values(), key=lambda cell: cell.metrics["MAP@R"].corrected)
        row = [condition]
        for label in matrix.labels:
            value = f"{cells[label].metrics['MAP@R'].corrected:.3f}"
            row.append(f"[{value}]" if cells[label] is best else value)
        rows.append(row)
    print_table(
        ["condition", *matrix.labels],
        rows,
        title=f"MAP@R over chance (0 chance, 1 perfect), {matrix.pictures} pictures; "
        "rows: searched by, columns: judged by, [best of row]",
        numbers=matrix.labels,
    )
    own = [cell for cell in matrix.cells if cell.own]
    every_pair = pairs or not own
    clustered = any(cell.clusters for cell in matrix.cells)
    rows = []
    for cell in matrix.cells if every_pair else own:
        row = [cell.condition, cell.label, "yes" if cell.own else "", str(cell.queries)]
        for name in MATRIX_METRICS:
            mean = cell.metrics[name]
            row += [f"{mean.value:.3f}", f"{mean.low:.3f}-{mean.high:.3f}", f"{mean.chance:.3f}"]
        if clustered:
            found = cell.clusters
            figures = (found.nmi, found.nmi_chance, found.ami) if found else ()
            row += [f"{figure:.3f}" for figure in figures] or ["", "", ""]
        rows.append(row)
    print()
    columns = ["condition", "label", "own", "queries"]
    for name in MATRIX_METRICS:
        columns += [name, f"95 % {name}", f"chance {name}"]
    columns += ["NMI", "chance NMI", "AMI"] if clustered else []
    title = "Every condition and label" if every_pair else "Every condition under its own label"
    print_table(
        columns, rows, title=f"{title}, with 95 % intervals and chance", numbers=columns[3:]
    )
    if not every_pair:
        say("All figures of every condition and label: cies eval --pairs.")


def say_left_out(matrix: GalleryMatrix) -> None:
    """Say which files and labels were not measured."""
    if matrix.unmatched:
        say(f"{matrix.unmatched} files of the label file are not in the gallery.")
    if matrix.unmeasured:
        say(f"Left out, because no two pictures share a value: {', '.join(matrix.unmeasured)}.")
    if matrix.unclustered:
        say(matrix.unclustered)


def print_triplets(scores: Sequence[TripletScore]) -> None:
    """Print triplet accuracies; a similarity that ignores the condition gets 0.5."""
    print()
    print_table(
        ["pair", "condition", "triplets", "accuracy", "95 %"],
        [
            [
                score.pair,
                score.condition,
                str(score.triplets),
                f"{score.accuracy:.3f}",
                f"{score.interval[0]:.3f}-{score.interval[1]:.3f}",
            ]
            for score in scores
        ],
        title="Triplet accuracy (0.5 ignores the condition)",
        numbers=["triplets", "accuracy", "95 %"],
    )
