"""Devices, precision, and the random draws of a step."""

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from src.io import UserError, first_line


def choose_device(device: str, local: int = 0) -> torch.device:
    """Return the device of a name; `auto` is the first GPU if there is one, else the CPU.

    Args:
        local: number of this process on its machine; `auto` and `cuda` mean the GPU of that number.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
        raise UserError(f"exp.train.device={device}: use auto, cpu or cuda (or cuda:1, ...)")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and local:
        device = f"cuda:{local}"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise UserError(f"exp.train.device={device}: {reason}; use auto, cpu or cuda") from error
    if chosen.type == "cpu":
        keep_freed_memory()
    return chosen


def keep_freed_memory() -> bool:
    """Make glibc reuse freed memory instead of returning it to the kernel.

    Every step allocates the same large activations. By default glibc maps them anew each time, and
    the kernel clears every page again: two fifths of the time of reading and normalising images.
    Return whether the C library took the settings (another one than glibc may not).
    """
    trim_threshold, mmap_max = -1, -4  # constants of malloc.h
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(set_option(trim_threshold, 2**31 - 1) and set_option(mmap_max, 0))


def choose_precision(precision: str, device: torch.device) -> str:
    """Return the precision of a name; `auto` is bf16 or fp16 on a GPU, fp32 on a CPU."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


@contextmanager
def explain_out_of_memory() -> Iterator[None]:
    """Turn torch's out-of-memory error into a UserError that says what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise UserError(
            f"{reason}: lower exp.dataloader.batch_size (in validation: eval_batch_size), or set "
            f"exp.dataloader.device_cache=false; nvidia-smi shows who else uses the GPU"
        ) from error


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass; for fp32 it is disabled."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def seed_draws(device: torch.device, *place: int) -> None:
    """Seed the generator that dropout on `device` draws from, by a run's seed, stream and step.

    torch.manual_seed seeds every kind of device and takes a hundred times as long.
    """
    seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
