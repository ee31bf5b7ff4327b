"""Benchmark methods: equal tuning, selection on validation, fresh seeds, one page.

python -m scripts.run_benchmark --methods erm,rwg,group_dro,dfr --budget 8 --seeds 3 --mode shell

Each method gets the same number of settings, drawn from its search space (scripts/experiments.py)
and trained with seed 0. Validation chooses one, which is trained again with seeds 1, 2, ... Only
these runs are compared. Methods that fit a head share the features of the ERM runs.

The same command resumes, trains nothing twice, and writes index.html, benchmark.csv and
benchmark.tex to --out_dir. With --mode sbatch, give it again when the submitted runs are done.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.stats.qmc import Sobol

from scripts.experiments import FIXED, HEADS_ON_ERM, SPACE, SPACES
from scripts.grids import parse_overrides, train_job
from scripts.job_manager import Job, JobManager, add_job_arguments, split_overrides
from scripts.jobs.estimate import estimate
from scripts.run_cross import names
from src.config.compose import load_config
from src.io import UserError, at_least, exit_on_user_error, expand, validation_problems
from src.report.methods import METHODS
from src.runs.folder import Run

MOST_KEYS = 6  # that a method draws
RULES = ("best-group", "best-avg", "best-class", "last")


class Settings(BaseModel):
    """A settings file: overrides of all methods and of single ones, and other ranges."""

    model_config = ConfigDict(extra="forbid")

    all: list[str] = []
    methods: dict[str, list[str]] = {}
    ranges: dict[str, tuple[float, float]] = {}


@dataclass(frozen=True)
class Benchmark:
    """What is trained.

    Attributes:
        task: the grouping.
        seeds: how many networks the chosen setting gets.
        overrides: for every run; a key that is set here or in `settings` is not drawn.
    """

    methods: Sequence[str]
    task: str
    budget: int
    seeds: int
    log_dir: Path
    overrides: Sequence[str] = ()
    settings: Settings = field(default_factory=Settings)

    def values(self, method: str, setting: int) -> dict[str, Any]:
        """Return the configuration keys of a method's n-th setting: fixed ones and drawn ones."""
        own = self.settings.methods.get(method, [])
        fixed = FIXED.get(method, {}) | parse_overrides(own)
        given = fixed.keys() | parse_overrides(self.overrides).keys()
        rng = np.random.default_rng(0)  # named `seed` in older versions of scipy
        points = Sobol(MOST_KEYS, seed=rng).random_base2((self.budget - 1).bit_length())
        # The first keys of all methods are the same, and so are their values.
        drawn = {
            key: pick(self.settings.ranges.get(key, options), point)
            for (key, options), point in zip(
                (SPACE | SPACES.get(method, {})).items(), points[setting]
            )
            if key not in given
        }
        return fixed | drawn

    def job(self, method: str, setting: int, seed: int) -> Job:
        values = self.values(method, setting)
        if method in HEADS_ON_ERM:
            values["exp.stage_1.run"] = str(self.job("erm", setting, seed).run_dir)
        return train_job(method, method, [self.task], values, seed, self.log_dir, self.overrides)

    def search(self, method: str) -> list[Job]:
        return [self.job(method, setting, 0) for setting in range(self.budget)]

    def retrain(self, method: str, setting: int) -> list[Job]:
        return [self.job(method, setting, 1 + seed) for seed in range(self.seeds)]


def pick(options: Sequence, share: float) -> Any:
    """Return the value at `share` (0 to 1) of a log-uniform range, or of a list of choices."""
    if isinstance(options[0], str):
        return options[int(share * len(options))]
    low, high = options
    return float(f"{low * (high / low) ** share:.3g}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_job_arguments(parser, "./logs/benchmark")
    group = parser.add_argument_group("benchmark")
    group.add_argument("--methods", default="erm,rwg,group_dro,dfr", metavar="A,B", help="or all")
    group.add_argument("--dataset", default="celeba", help="a name in configs/exp/dataset")
    group.add_argument("--task", metavar="TASK:ATTR", help="default: that of the data set")
    group.add_argument("--budget", type=at_least(1), default=8, help="settings per method")
    group.add_argument("--seeds", type=at_least(1), default=3, help="of the chosen setting")
    group.add_argument(
        "--retrain_rules",
        default="best-group",
        metavar="A,B",
        help=f"retrain the settings that these rules choose: {', '.join(RULES)}",
    )
    group.add_argument("--settings", type=expand, metavar="FILE", help="see docs/benchmark.md")
    group.add_argument("--split", default="test", choices=("val", "test"))
    group.add_argument("--out_dir", type=expand, default=Path("outputs/benchmark"))
    group.add_argument("--root", type=expand, help="folder of the data set, if it has moved")
    group.add_argument("--device", help="auto, cpu or cuda; for the evaluation")
    ours, overrides = split_overrides(argv)
    args = parser.parse_args(ours)
    with exit_on_user_error():
        rules = names(args.retrain_rules, "--retrain_rules", RULES)
        benchmark = plan(args, overrides)
        announce(benchmark, len(rules))
        return train(benchmark, rules, args)


def plan(args: argparse.Namespace, overrides: Sequence[str]) -> Benchmark:
    """Read the arguments; ERM is always one of the methods, as the baseline."""
    methods = ["erm", *names(args.methods, "--methods", [*METHODS, "all"])]
    methods = list(METHODS) if "all" in methods else list(dict.fromkeys(methods))
    settings = read_settings(args.settings) if args.settings else Settings()
    shared = [f"exp/dataset={args.dataset}", *settings.all, *overrides]
    task = args.task or load_config([f"exp/dataset={args.dataset}"]).dataset.groupings[0]
    if "," in task or ":" not in task:
        raise UserError(f"--task {task}: use one task with its attribute, such as Blond_Hair:Male")
    return Benchmark(methods, task, args.budget, args.seeds, args.log_dir, shared, settings)


def read_settings(path: Path) -> Settings:
    """Read a settings file.

    Raises:
        UserError: it is missing, or not such a file.
    """
    try:
        settings = Settings.model_validate(yaml.safe_load(path.read_text()) or {})
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(validation_problems(error))}") from error
    names(",".join(settings.methods) or "erm", f"{path}:", list(METHODS))
    return settings


def announce(benchmark: Benchmark, rules: int) -> None:
    """Print the whole plan: runs, hours, disk."""
    count, final = len(benchmark.methods), rules * benchmark.seeds
    each = benchmark.budget + final
    print(
        f"plan: {count} methods x ({benchmark.budget} settings + {final} runs with fresh seeds) = "
        f"{count * each} runs, and some of ERM for heads that choose another setting",
        file=sys.stderr,
    )
    # All settings of a method cost the same.
    jobs = [benchmark.job(method, 0, 0) for method in benchmark.methods for _ in range(each)]
    for line in estimate(jobs, benchmark.log_dir):
        print(line, file=sys.stderr)


def train(benchmark: Benchmark, rules: Sequence[str], args: argparse.Namespace) -> int:
    """Start what is missing, step by step, then write the page of what is done."""
    manager = JobManager(args)
    code = 0
    for title, jobs in steps(benchmark, rules):
        states = {state_of(job) for job in jobs}
        if states == {"done"} and args.rerun != "all":
            continue
        print(f"\n{title}", file=sys.stderr)
        code = manager.run(jobs) or code
        states = {state_of(job) for job in jobs}
        if args.mode == "debug" or not states <= {"done", "failed"}:
            print("the next step needs these runs: give the same command again", file=sys.stderr)
            return code
    return report(benchmark, rules, args) or code


def state_of(job: Job) -> str:
    return Run(job.run_dir).status()["state"]


def steps(benchmark: Benchmark, rules: Sequence[str]) -> Iterator[tuple[str, list[Job]]]:
    """Yield the jobs in four steps; each needs the runs of those before it."""
    kinds = {"networks": False, "heads": True}
    for is_head in kinds.values():
        methods = [name for name in benchmark.methods if (name in HEADS_ON_ERM) == is_head]
        if methods:
            jobs = [job for method in methods for job in benchmark.search(method)]
            yield f"settings of {', '.join(methods)}", jobs
    chosen = choices(benchmark).items()
    pairs = {(method, settings[rule]) for method, settings in chosen for rule in rules}
    pairs |= {("erm", setting) for method, setting in pairs if method in HEADS_ON_ERM}
    for kind, is_head in kinds.items():
        wanted = sorted(pair for pair in pairs if (pair[0] in HEADS_ON_ERM) == is_head)
        if wanted:
            jobs = [job for pair in wanted for job in benchmark.retrain(*pair)]
            yield f"fresh seeds of the chosen settings: {kind}", jobs


def choices(benchmark: Benchmark) -> dict[str, dict[str, int]]:
    """Return for each method with a finished run the number of the setting each rule chooses."""
    from src.report.benchmark import choose

    found = {method: finished(benchmark.search(method)) for method in benchmark.methods}
    return {method: choose(runs, RULES) for method, runs in found.items() if runs}


def finished(jobs: Sequence[Job]) -> dict[int, Path]:
    """Return the folders of the runs that are done, by their position."""
    return {n: job.run_dir for n, job in enumerate(jobs) if state_of(job) == "done"}


def report(benchmark: Benchmark, rules: Sequence[str], args: argparse.Namespace) -> int:
    """Write the page, the tables and the JSON."""
    from src.report.benchmark import MethodRuns, measure_benchmark
    from src.report.benchmark_page import write_benchmark

    found = []
    for method, by_rule in choices(benchmark).items():
        fresh = {s: benchmark.retrain(method, s) for s in {by_rule[rule] for rule in rules}}
        values = {s: benchmark.values(method, s) for s in range(benchmark.budget)}
        retrained = {s: list(finished(jobs).values()) for s, jobs in fresh.items()}
        search = finished(benchmark.search(method))
        found.append(MethodRuns(method, search, values, by_rule, retrained))
    result = measure_benchmark(found, args.split, rules[0], args.root, args.device)
    ranked = {entry["method"] for entry in result["methods"]}
    result["about"]["missing"] = [name for name in benchmark.methods if name not in ranked]
    write_benchmark(result, args.out_dir)
    print(args.out_dir / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
