"""Jobs on this machine: one after another or several at a time, each with a GPU or some cores."""

import os
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from scripts.jobs.job import Job, JobProcess, tail
from scripts.jobs.states import count_states
from src.io import UserError
from src.runs.signals import stop_on_signal


def run_here(jobs: Sequence[Job], parallel: int | None, per_gpu: int, retries: int) -> int:
    """Run all jobs; one that fails stops no other. Return 0, 1 if one failed, or 128 + signal.

    On SIGTERM or Ctrl-C, the running jobs save and end, and no other is started.
    """
    slots: queue.Queue[dict[str, str]] = queue.Queue()
    for slot in environments(parallel, per_gpu):
        slots.put(slot)
    ended: dict[JobProcess, str] = {}
    with stop_on_signal() as stop, ThreadPoolExecutor(slots.qsize()) as pool:
        waiting = {pool.submit(_run_in_slot, job, retries, slots, stop) for job in jobs}
        announced = False
        while waiting:
            finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            if stop() and not announced:
                print("stopping: the running jobs save and end", file=sys.stderr, flush=True)
                announced = True
            for future in finished:
                process, state, seconds = future.result()
                ended[process] = state
                count = f"[{len(ended)}/{len(jobs)}]"
                print(f"{count} {process.job.name}: {state} after {seconds:.0f} s", flush=True)
        signum = stop()
    _print_failures([process for process, state in ended.items() if state == "failed"])
    print(f"\n{count_states(ended.values())}", flush=True)
    return 128 + signum if signum else int("failed" in ended.values())


def _run_in_slot(
    job: Job, retries: int, slots: queue.Queue[dict[str, str]], stop: Callable[[], int | None]
) -> tuple[JobProcess, str, float]:
    """Run a job as soon as a slot is free; return its process, state and seconds."""
    slot, begin = slots.get(), time.monotonic()
    try:
        process = JobProcess(job, retries, slot)
        if not stop():
            print(f"started {job.name}; log: {job.log}", flush=True)
        return process, process.run(stop), time.monotonic() - begin
    finally:
        slots.put(slot)


def _print_failures(failed: Sequence[JobProcess]) -> None:
    for process in failed:
        print(f"\nfailed: {process.job.name}: {process.error}")
        for line in tail(process.job.log, 5):
            print(f"    {line}")
        print(f"    the whole log: {process.job.log}")


def environments(parallel: int | None, per_gpu: int) -> list[dict[str, str]]:
    """Return the variables of each slot: its GPU, or its share of the cores."""
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
    """Return the GPUs that we may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []
