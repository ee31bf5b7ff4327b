"""Jobs on this machine, one after another or several at a time, each with a GPU or its cores."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from types import FrameType

from scripts.jobs.process import Job, JobProcess, tail
from scripts.jobs.states import count_states
from src.io import UserError


def run_here(jobs: Sequence[Job], parallel: int | None, per_gpu: int, retries: int) -> int:
    """Run all jobs, whatever becomes of one; returns 0, 1 where one failed, or 128+signal."""
    slots: queue.Queue[dict[str, str]] = queue.Queue()
    for slot in environments(parallel, per_gpu):
        slots.put(slot)
    processes = [JobProcess(job, retries) for job in jobs]

    def work(process: JobProcess) -> tuple[JobProcess, str, float]:
        slot, begin = slots.get(), time.monotonic()
        try:
            process.environment |= slot
            return process, process.run(), time.monotonic() - begin
        finally:
            slots.put(slot)

    states: dict[str, str] = {}
    with _stopping(processes) as came, ThreadPoolExecutor(slots.qsize()) as pool:
        for ended in as_completed([pool.submit(work, process) for process in processes]):
            process, state, seconds = ended.result()
            states[process.job.name] = state
            place = f"[{len(states)}/{len(jobs)}]"
            print(f"{place} {process.job.name}: {state} after {seconds:.0f} s", flush=True)
    _report(processes, states)
    if came:
        return 128 + came[0]
    return 1 if "failed" in states.values() else 0


def _report(processes: Sequence[JobProcess], states: dict[str, str]) -> None:
    for process in processes:
        if states[process.job.name] == "failed":
            print(f"\nfailed: {process.job.name}: {process.error}")
            for line in tail(process.job.log, 5):
                print(f"    {line}")
            print(f"    the whole log: {process.job.log}")
    print(f"\n{count_states(states.values())}", flush=True)


@contextmanager
def _stopping(processes: Sequence[JobProcess]) -> Iterator[list[int]]:
    """Pass SIGTERM and Ctrl-C on as a wish to save and end; yields the signals that came.

    SIGTERM also for Ctrl-C: the jobs have that one from the terminal already, and a second ends
    them at once.
    """
    came: list[int] = []

    def pass_on(signum: int, frame: FrameType | None) -> None:
        if not came:
            print("stopping: the running jobs save and end", file=sys.stderr, flush=True)
        came.append(signum)
        for process in processes:
            process.stop()

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def environments(parallel: int | None, per_gpu: int) -> list[dict[str, str]]:
    """One set of variables per job that may run at a time: its GPU, or its share of the cores."""
    gpus = find_gpus()
    parallel = parallel or per_gpu
    if gpus:
        if parallel > per_gpu * len(gpus):
            raise UserError(
                f"--parallel {parallel} at {per_gpu} per GPU needs {-(-parallel // per_gpu)} GPUs, "
                f"and there are {len(gpus)}: lower it, or put several on a GPU with --per_gpu"
            )
        return [{"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} for slot in range(parallel)]
    if "OMP_NUM_THREADS" in os.environ:
        return [{}] * parallel
    cores = len(os.sched_getaffinity(0))
    return [{"OMP_NUM_THREADS": str(max(1, cores // parallel))}] * parallel


def find_gpus() -> list[str]:
    """The GPUs we may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []
