"""Draw the ladder from the results that are kept: `python benchmarks/ladder.py OUT.png`.

`gippo reproduce ladder` draws the same of runs that it makes itself, which takes hours.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from gippo.studies.reproduction.figures import plot_ladder
from gippo.studies.reproduction.paper import EXPERIMENTS, METHODS
from gippo.studies.reproduction.tables import Cell

RESULTS = Path(__file__).parent.parent / "results"


def main() -> None:
    """Read the runs, say what there is, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=Path, help="as ladder.png")
    picture = parser.parse_args().picture
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for folder in ("table1", "figure3", "figure4", "adaptive"):
        with (RESULTS / folder / "runs.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                scores[row["env"], row["method"]].append(float(row["score"]))
    cells = {
        (problem.env, method): Cell(
            problem, method, (), tuple(scores[problem.env, method]), shortened=False
        )
        for problem in EXPERIMENTS["ladder"].problems
        for method in METHODS
    }
    for (env, method), cell in cells.items():
        print(f"{env:12} {METHODS[method]:9} {cell.mean:12.5g} of {len(cell.scores)} runs")
    plot_ladder(cells, picture)


if __name__ == "__main__":
    main()
