"""The main job on a machine with nothing: train four methods on drawn faces, test them, show them.

python -m scripts.demo [--num_train 12000 --num_val 4000 --num_test 8000]

Blond men are rare in the drawn faces as they are in CelebA. ERM learns to lean on sex and fails on
them; RWG, SUBG and JTT do not. Pictures and numbers go to outputs/demo, the runs to logs. Stopped
and started again it goes on; what is done is not done twice.
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.config.compose import load_config
from src.config.overrides import quote_override
from src.evaluation.results import read_evaluation
from src.io import UserError, exit_on_user_error
from src.runs.folder import Run
from src.runs.signals import Stopped, stop_on_signal
from src.standin.dataset import ensure_synthetic

ROOT = Path(__file__).resolve().parent.parent
OUT = Path("outputs/demo")
RULE = "best-group"  # the epoch with the best worst-group accuracy on the validation split

NUM_TRAIN, NUM_VAL, NUM_TEST = 12_000, 4_000, 8_000
DRAWING_SECONDS, START_SECONDS, PICTURE_SECONDS = 55, 20, 10  # alone on two cores

# A small network from random weights; the rates were found by trying, for this data only. Random
# crops and few epochs keep RWG from learning the few blond men by heart; the cosine schedule calms
# ERM's accuracy on them, which else jumps from epoch to epoch.
SHARED = {
    "exp/dataset": "synthetic",
    "exp.model.name": "shufflenet_v2_x0_5",
    "exp.model.pretrained": False,
    "exp.dataset.data_augmentation": True,
    "exp.dataloader.batch_size": 64,
    "exp.optimizer.lr": 0.1,
    "exp.optimizer.weight_decay": 0.001,
    "exp.optimizer.schedule": "cosine",
}


@dataclass(frozen=True)
class Method:
    """How a method is trained here.

    seconds: of training, alone on two cores.
    """

    name: str
    exp: str
    epochs: int
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def script(self) -> str:
        return "train_jtt.py" if self.exp == "jtt" else "train_erm.py"


METHODS = (
    Method("ERM", "erm", epochs=3, seconds=65),
    Method("RWG", "rwg", epochs=3, seconds=65),
    # A few hundred faces are left: small batches and many epochs, about as many steps as ERM.
    Method(
        "SUBG",
        "subg",
        epochs=15,
        seconds=50,
        settings={"exp.dataloader.batch_size": 16, "exp.optimizer.lr": 0.05},
    ),
    # 40 steps give a first network that fails on what is rare. After a whole epoch it would err on
    # hair that is hard to tell, and its errors would teach the second network noise.
    Method(
        "JTT",
        "jtt",
        epochs=2,
        seconds=85,
        settings={"exp.lambda_up": 10, "exp.stage_1.train.max_steps": 40},
    ),
)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    pace = Pace(phases(args))
    with pace.phase("drawing faces"):
        root = draw(args)
    runs = {}
    for method in METHODS:
        with pace.phase(method.name):
            runs[method.name] = result_run(train_and_test(method, args))
    with pace.phase("pictures"):
        from scripts.demo_report import write_report

        write_report(OUT, runs, root, RULE)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, value in (("train", NUM_TRAIN), ("val", NUM_VAL), ("test", NUM_TEST)):
        parser.add_argument(
            f"--num_{name}", type=int, default=value, help=f"faces of the {name} split ({value:,})"
        )
    epochs = ", ".join(f"{method.name} {method.epochs}" for method in METHODS)
    parser.add_argument("--epochs", type=int, help=f"of every method ({epochs})")
    return parser.parse_args(argv)


def phases(args: argparse.Namespace) -> dict[str, float]:
    """Names of the phases and the seconds each takes alone on two cores."""
    drawing = (args.num_train + args.num_val + args.num_test) / (NUM_TRAIN + NUM_VAL + NUM_TEST)
    training = {
        method.name: START_SECONDS
        + method.seconds * (args.num_train / NUM_TRAIN) * (epochs_of(method, args) / method.epochs)
        for method in METHODS
    }
    return {
        "drawing faces": DRAWING_SECONDS * drawing,
        **training,
        "pictures": PICTURE_SECONDS,
    }


def epochs_of(method: Method, args: argparse.Namespace) -> int:
    return method.epochs if args.epochs is None else args.epochs


class Pace:
    """Announces each phase with the time left.

    What is left comes from the table of seconds, times how much slower or faster than that table
    this machine was so far. Phases that were done before take no time and say nothing about it.
    """

    def __init__(self, seconds: dict[str, float]):
        self.seconds = seconds
        self.expected = self.spent = 0.0  # of the phases that really ran

    def left(self, first: str) -> float:
        """Seconds from the start of the phase `first` to the end."""
        names = list(self.seconds)
        planned = sum(self.seconds[name] for name in names[names.index(first) :])
        return planned * (self.spent / self.expected if self.expected else 1.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        place = list(self.seconds).index(name) + 1
        header = f"[{place}/{len(self.seconds)}] {name}"
        print(f"\n{header}: {minutes(self.left(name))} to the end", flush=True)
        start = time.monotonic()
        yield
        spent = time.monotonic() - start
        if spent > 0.2 * self.seconds[name]:
            self.expected += self.seconds[name]
            self.spent += spent


def minutes(seconds: float) -> str:
    return "less than a minute" if seconds < 60 else f"about {seconds / 60:.0f} min"


# ------------------------------------------------------------------------- the phases


def draw(args: argparse.Namespace) -> Path:
    """The folder of the drawn data set, made where it is missing; options as training has them."""
    data = load_config(overrides(METHODS[0], args)).dataset
    return ensure_synthetic(Path(data.root), **vars(data.synthetic))


def overrides(method: Method, args: argparse.Namespace) -> list[str]:
    """What follows the script's name on the method's command line, but for the run folder."""
    sizes = {
        f"exp.dataset.synthetic.{name}": getattr(args, name)
        for name in ("num_train", "num_val", "num_test")
    }
    epochs = {"exp.train.total_epochs": epochs_of(method, args)}
    values = {"exp": method.exp, **SHARED, **sizes, **epochs, **method.settings}
    return [quote_override(key, value) for key, value in values.items()]


def run_folder(method: Method, args: argparse.Namespace) -> Path:
    """logs/demo/<hash of all that is asked for>/<method>: other settings never meet old runs."""
    asked_for = json.dumps([overrides(method, args) for method in METHODS])
    return Path("logs/demo", hashlib.sha256(asked_for.encode()).hexdigest()[:6], method.exp)


def train_and_test(method: Method, args: argparse.Namespace) -> Path:
    """The method's run folder, with a test of the checkpoint that `RULE` chooses."""
    run_dir = run_folder(method, args)
    if is_tested(run_dir):
        print(f"{run_dir} is done already")
        return run_dir
    given = [*overrides(method, args), quote_override("exp.train.log_dir", str(run_dir))]
    run_command([method.script, *given])
    run_command(["test.py", "--log_dir", str(run_dir), "--ckpt_num", RULE, "--split", "test"])
    return run_dir


def result_run(run_dir: Path) -> Run:
    """The run whose network is the result: of JTT the second stage."""
    second = run_dir / "stage_2"
    return Run(second if second.is_dir() else run_dir)


def is_tested(run_dir: Path) -> bool:
    """Is the run done, and was the checkpoint tested that the rule has chosen in the end?"""
    run = result_run(run_dir)
    tested = run.stats("test", RULE)
    if Run(run_dir).status()["state"] != "done" or not tested.exists():
        return False
    chosen = read_evaluation(run.epoch_stats(run.history()["selected"][RULE]))
    return read_evaluation(tested)["checkpoint"]["hash"] == chosen["checkpoint"]["hash"]


def run_command(command: list[str]) -> None:
    """Run a script of the project to its end, printed so that it can be copied.

    Raises:
        Stopped: a signal came; the script has saved and ended.
        UserError: the script failed; its own message stands above.
    """
    full = [sys.executable, str(ROOT / command[0]), *command[1:]]
    shown = [
        os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
        for path in full[:2]
    ]
    # One thread is enough for seven minutes. Two that wait for each other made so small a network
    # ten times slower where others used the machine, too: 30 instead of 300 images/s.
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    print(f"$ OMP_NUM_THREADS={threads} {shlex.join([*shown, *full[2:]])}", flush=True)
    with stop_on_signal() as stop:
        child = subprocess.Popen(full, env=os.environ | {"OMP_NUM_THREADS": threads})
        asked = False
        while child.poll() is None:
            if stop() and not asked:
                child.terminate()  # saves, then ends; after Ctrl-C it may be at that already
                asked = True
            time.sleep(0.1)
        if stop():
            raise Stopped(stop())
    if child.returncode:
        raise UserError(
            f"{command[0]} ended with exit code {child.returncode}, see above; once that is put "
            "right, the same command goes on from here"
        )


if __name__ == "__main__":
    try:
        with exit_on_user_error():
            main()
    except (KeyboardInterrupt, Stopped) as stopped:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(stopped.code if isinstance(stopped, Stopped) else 130)
