"""Just Train Twice: a first network, the set of its errors, a second network that sees them more.

python train_jtt.py exp=jtt exp.lambda_up=50 ...
"""

import sys

from src.config.compose import launch, train_once
from src.config.schema import JTTConfig
from src.runs.folder import Heartbeat, Run
from src.runs.signals import stop_on_signal


def main(config: JTTConfig) -> None:
    fill_in_paths(config, Run(config.train.log_dir))
    train_once(config, train)


def fill_in_paths(config: JTTConfig, run: Run) -> None:
    """Where the stages live, before the configuration is saved: what it says is what runs."""
    config.stage_1.train.log_dir = str(run.path / "stage_1")
    config.stage_2.train.log_dir = str(run.path / "stage_2")
    error_set = config.load_error_set or str(run.path / "error_set.npz")
    config.stage_2.dataloader.error_set = error_set


def train(config: JTTConfig, run: Run) -> None:
    from src.methods.stages import ROOT, make_error_set, run_stage, train_command

    first, second = Run(config.stage_1.train.log_dir), Run(config.stage_2.train.log_dir)
    error_set = config.stage_2.dataloader.error_set
    with stop_on_signal() as stop, Heartbeat(run) as heartbeat:
        if config.load_error_set is None and not (run.path / "error_set.npz").exists():
            print("stage 1: the identification network", flush=True)
            run_stage(train_command(config.stage_1), first, heartbeat, stop)
            print("error set: one pass over the train split", flush=True)
            inference = [sys.executable, str(ROOT / "test.py"), "--log_dir", str(first.path)]
            inference += ["--ckpt_num", "last", "--split", "train"]
            run_stage(inference, first, heartbeat, stop)
            make_error_set(config.stage_1, first, run.path / "error_set.npz")
        print(f"stage 2: {config.lambda_up:g} times the errors of {error_set}", flush=True)
        run_stage(train_command(config.stage_2), second, heartbeat, stop)


if __name__ == "__main__":
    launch(main, JTTConfig)
