"""The paper's experiments, run and published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from gippo.environment import num_cores, use_threads
from gippo.errors import UserError
from gippo.studies.reproduction import alpha_policies, timing
from gippo.studies.reproduction.aggregate import AGGREGATE_HEADER, aggregate_rows
from gippo.studies.reproduction.figures import (
    plot_alpha_traces,
    plot_ladder,
    plot_learning_curves,
    plot_variance,
    shortened_text,
    variance_correlation,
)
from gippo.studies.reproduction.page import origin, write_configs, write_origin, write_page
from gippo.studies.reproduction.paper import (
    EXPERIMENTS,
    FUNCTIONS,
    METHODS,
    PHYSICS,
    SEEDS,
    TRAFFIC,
    Problem,
)
from gippo.studies.reproduction.runs import Run, complete
from gippo.studies.reproduction.tables import (
    HEADER,
    LADDER_HEADER,
    ORDER_HEADER,
    VERDICTS,
    Cell,
    cell_rows,
    ladder_rows,
    make_cell,
    markdown_table,
    missing_text,
    order_rows,
    rich_table,
    write_scores,
)
from gippo.terminal.progress import make_console

_FIXED_ALPHA = (
    "algo.alpha.alpha_0=0.01",
    "algo.alpha.max_alpha=0.01",
    "algo.alpha.beta=1.0000001",
)
"""Figure 5's; beta must be above 1, and this one moves alpha by 1e-7 an epoch."""
_OPEN_RATIO = ("algo.alpha.delta_oorr=1.0",)
_TABLE_WIDTH = 160


class Settings(Protocol):
    """What to run and how, as `gippo reproduce` has it."""

    seeds: int | None
    first_seed: int
    budget: int | None
    problems: list[str] | None
    methods: list[str] | None
    jobs: int | None
    runs_dir: str
    out: str
    device: str
    any_code: bool


def reproduce(name: str, arguments: Sequence[str], settings: Settings, console: Console) -> None:
    """Run an experiment, by its name on the command line, and publish what came of it.

    Args:
        name: of the experiment.
        arguments: the command line's, for the page.
        settings: what to run and how.
        console: where to print.
    """
    work: dict[str, Callable[[Reproduction], None]] = {
        "figure1": _alpha_policies,
        "table2": _timings,
        "figure5": _variances,
        "figure6": _function_traces,
        "figure7": _ant_traces,
    }
    work.get(name, _scores)(Reproduction(name, arguments, settings, console))


class Reproduction:
    """One call of the command: its settings, its folder, its runs."""

    def __init__(
        self, name: str, arguments: Sequence[str], settings: Settings, console: Console
    ) -> None:
        self.name = name
        self.settings = settings
        self.console = console
        self.command = f"gippo reproduce {' '.join(arguments)}"

    def problems(self, among: Sequence[Problem]) -> list[Problem]:
        """Those that were asked for.

        Raises:
            UserError: one is not among the experiment's.
        """
        known = {problem.env: problem for problem in among}
        chosen = self.settings.problems or list(known)
        for env in chosen:
            if env not in known:
                raise UserError(
                    f"problems: {env!r} given, any of {list(known)} accepted for {self.name}"
                )
        return [known[env] for env in chosen]

    def runs(
        self, env: str, method: str, variant: tuple[str, ...] = (), seeds: int = 1
    ) -> list[Run]:
        """The runs of one setting; `seeds` where the settings leave their number open."""
        s = self.settings
        return [
            Run(env, method, seed, Path(s.runs_dir), variant, s.budget, s.device, s.any_code)
            for seed in range(s.first_seed, s.first_seed + (s.seeds or seeds))
        ]

    def complete(self, runs: Sequence[Run]) -> None:
        """Make those that are missing."""
        jobs = self.settings.jobs or num_cores()
        try:
            complete(runs, jobs=jobs, report=self.console.print)
        except (KeyboardInterrupt, SystemExit):
            self.console.print("what is done is kept; the same command goes on with it")
            raise

    def show(self, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> None:
        """Print a table, each row a line, however narrow the output is."""
        console = make_console()
        console.width = max(console.width, _TABLE_WIDTH)
        console.print(rich_table(rows, header))

    def folder(self) -> Path:
        """Where the results go; made here."""
        shortened = self.settings.budget is not None
        folder = Path(self.settings.out) / (self.name + ("_shortened" if shortened else ""))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(
        self,
        title: str,
        sections: Sequence[str],
        *,
        runs: Sequence[Run] = (),
        shortened: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        """Write the page and what it rests on."""
        folder, facts = self.folder(), origin(self.settings.device)
        write_origin(facts, folder)
        if runs:
            write_configs(runs, folder)
        write_page(
            folder,
            title=title,
            command=self.command,
            facts=facts,
            runs=runs,
            shortened=shortened,
            sections=sections,
            notes=notes,
        )
        if shortened:
            self.console.print(shortened)
        self.console.print(f"results in {folder}")


def _scores(work: Reproduction) -> None:
    """A table of scores, rankings and aggregates, and learning curves."""
    experiment = EXPERIMENTS[work.name]
    methods = work.settings.methods or experiment.methods
    problems = {problem.env: problem for problem in work.problems(experiment.problems)}
    planned = {
        (problem.env, method): work.runs(problem.env, method, problem.variant, seeds=SEEDS)
        for problem in problems.values()
        for method in METHODS
        if method in methods
    }
    missing = missing_text(experiment, planned)
    runs = [run for group in planned.values() for run in group]
    work.complete(runs)
    cells: dict[tuple[str, str], Cell] = {
        (env, method): make_cell(problems[env], method, group)
        for (env, method), group in planned.items()
    }
    folder = work.folder()
    write_scores(cells, folder / "runs.csv")
    plot_learning_curves(experiment, cells, folder / "curves.png", missing)
    rows, orders, aggregates = (
        cell_rows(cells),
        order_rows(experiment, cells),
        aggregate_rows(cells),
    )
    shortened = shortened_text(runs)
    work.show(rows)
    legend = "\n".join(f"- {name}: {text}." for name, text in VERDICTS.items())
    bands = (
        "Curves are means over seeds, with bands of their 95 % confidence intervals; of fewer than "
        "four seeds, and on a logarithmic axis, the bands span the runs."
    )
    sections = [markdown_table(rows), legend, "![Learning curves](curves.png)", bands]
    sections += [missing] if missing else []
    if orders and not shortened:
        work.show(orders, ORDER_HEADER)
        sections += ["## The paper's rankings", markdown_table(orders, ORDER_HEADER)]
    ladder = ladder_rows(cells)
    if ladder:
        work.show(ladder, LADDER_HEADER)
        plot_ladder(cells, folder / "ladder.png")
        table = markdown_table(ladder, LADDER_HEADER)
        sections = ["## The ladder", _LADDER_TEXT, "![The ladder](ladder.png)", table, *sections]
    if aggregates:
        work.show(aggregates, AGGREGATE_HEADER)
        sections += ["## Over all problems", _AGGREGATE_TEXT, _aggregate_table(aggregates)]
    notes = list(experiment.notes)
    work.publish(experiment.title, sections, runs=runs, shortened=shortened, notes=notes)


_LADDER_TEXT = """\
gippo_adaptive beside the best of the other methods, means over seeds ± their standard deviation.
The gap is the difference over the range from the worst to the best of the others (of logarithms for
the functions), positive where gippo_adaptive is above. Seconds are a run's, on one thread."""

_AGGREGATE_TEXT = """\
Scores are normalised per problem: 0 is the paper's worst method, 1 its best (logarithms for the
functions). The interquartile mean is over all problems and seeds, the probability that a run of
GI-PPO beats one of the other method an average over problems; in brackets 95 % intervals of a
stratified bootstrap (Agarwal et al. 2021), where there are at least two seeds."""


def _aggregate_table(rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(rows, AGGREGATE_HEADER)


def _alpha_policies(work: Reproduction) -> None:
    rows = alpha_policies.rows()
    work.show(rows, alpha_policies.HEADER)
    policies = ", ".join(f"{m:g}, {s:g} ({env})" for env, (m, s) in alpha_policies.POLICIES.items())
    alpha_policies.plot_alpha_policies(work.folder() / "alpha_policies.png")
    text = (
        f"The policies are Gaussians over actions, of mean and standard deviation {policies}. The "
        "densities of their alpha-policies follow from the "
        "environments' gradients by Definition 4.1. An alpha-policy is valid while its "
        "determinant, 1 + alpha times the advantage's second derivative, is positive; here, at "
        "all but 1 % of the policy's actions (folded: the share where it is not), since the kink "
        "of Ackley's function at zero folds its neighbourhood for any alpha."
    )
    table = markdown_table(rows, alpha_policies.HEADER)
    sections = [text, table, "![Alpha-policies](alpha_policies.png)"]
    work.publish("Figure 1: alpha-policies", sections)


def _timings(work: Reproduction) -> None:
    use_threads(None)
    methods = work.settings.methods or EXPERIMENTS["figure4"].methods
    epochs = work.settings.budget or timing.EPOCHS
    results = [
        result
        for problem in work.problems(TRAFFIC)
        for result in timing.measure(
            problem,
            methods,
            epochs=epochs,
            device=work.settings.device,
            report=work.console.print,
        )
    ]
    rows = timing.timing_rows(results)
    work.show(rows, timing.HEADER)
    text = (
        f"Medians of {epochs} epochs, the methods in turns in one process, times the epochs of a "
        "training. The ratios compare with the paper's, the seconds were another machine's."
    )
    sections = [text, markdown_table(rows, timing.HEADER)]
    note = f"SHORTENED: {epochs} epochs timed" if work.settings.budget else ""
    work.publish("Table 2: training times", sections, shortened=note)


def _variances(work: Reproduction) -> None:
    """Figure 5: whether the determinant tells of the variance."""
    groups = [
        (problem.title, work.runs(problem.env, "gippo", _FIXED_ALPHA))
        for problem in work.problems(PHYSICS)
    ]
    runs = [run for _, group in groups for run in group]
    work.complete(runs)
    title = "Figure 5: variance of the gradients and the determinant, alpha = 0.01"
    plot_variance(groups, title, work.folder() / "variance.png")
    header = ("problem", "seed", "rank correlation over epochs")
    rows = [[run.env, str(run.seed), f"{variance_correlation(run):.2f}"] for run in runs]
    work.show(rows, header)
    text = (
        "The paper sees the determinant's extremes leave 1 as the sample variance of dA/da grows. "
        "The rank correlation (Spearman) of the variance with the farthest determinant's distance "
        "from 1, over epochs:"
    )
    sections = [text, markdown_table(rows, header), "![Variance](variance.png)"]
    work.publish(title, sections, runs=runs, shortened=shortened_text(runs))


def _function_traces(work: Reproduction) -> None:
    among = [problem for problem in FUNCTIONS if problem.env in ("dejong64", "ackley64")]
    groups = [(p.title, work.runs(p.env, "gippo")) for p in work.problems(among)]
    _traces(work, "Figure 6: alpha on function optimisation", groups)


def _ant_traces(work: Reproduction) -> None:
    (ant,) = (problem for problem in PHYSICS if problem.env == "ant_dflex")
    groups = [
        ("Ant, out-of-range ratio up to 0.5", work.runs(ant.env, "gippo")),
        ("Ant, out-of-range ratio up to 1", work.runs(ant.env, "gippo", _OPEN_RATIO)),
    ]
    _traces(work, "Figure 7: alpha on the Ant", groups)


def _traces(work: Reproduction, title: str, groups: Sequence[tuple[str, Sequence[Run]]]) -> None:
    runs = [run for _, group in groups for run in group]
    work.complete(runs)
    plot_alpha_traces(groups, title, work.folder() / "alpha.png")
    header = ("problem", "seed", "score", "first alpha", "largest", "last", "det", "bias", "oorr")
    rows = [_trace_row(name, run) for name, group in groups for run in group if run.epochs_done]
    work.show(rows, header)
    text = "The last three columns are the shares of epochs in which each criterion lowered alpha."
    sections = [markdown_table(rows, header), text, "![Alpha](alpha.png)"]
    work.publish(title, sections, runs=runs, shortened=shortened_text(runs))


def _trace_row(name: str, run: Run) -> list[str]:
    columns: dict[str, Any] = run.columns
    alpha = columns["alpha"]
    shares = [columns[f"{key}_binds"].mean() for key in ("det", "bias", "out_of_range")]
    return [
        name,
        str(run.seed),
        f"{run.score:.4g}",
        *(f"{value:.3g}" for value in (alpha[0], alpha.max(), alpha[-1])),
        *(f"{share:.0%}" for share in shares),
    ]
