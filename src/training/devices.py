"""Where a network runs, and in which precision."""

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from src.io import UserError


def choose_device(device: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
        raise UserError(f"exp.train.device={device[:80]}: use auto, cpu or cuda (or cuda:1, ...)")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"exp.train.device={device}: {reason}; use auto, cpu or cuda") from error
    if chosen.type == "cpu":
        keep_freed_memory()
    return chosen


def keep_freed_memory() -> bool:
    """Let this process use its freed memory again instead of giving it back to the kernel.

    Every step allocates the same large activations. By default glibc maps them anew each time, and
    the kernel clears every page again: two fifths of the time of reading and normalising images.
    Says whether the C library took the settings (another one than glibc may not).
    """
    trim_threshold, mmap_max = -1, -4  # of malloc.h
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(set_option(trim_threshold, 2**31 - 1) and set_option(mmap_max, 0))


def choose_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 on a GPU that has it, fp16 on another GPU, fp32 on a CPU."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


@contextmanager
def explain_out_of_memory() -> Iterator[None]:
    """What to do where a GPU is full, instead of a traceback.

    Raises:
        UserError: it is.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise UserError(
            f"{reason}: lower exp.dataloader.batch_size (in validation: eval_batch_size), or set "
            f"exp.dataloader.device_cache=false; see in nvidia-smi who else uses the GPU"
        ) from error


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of a forward pass; for fp32 it is disabled."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def seed_draws(device: torch.device, seed: int) -> None:
    """Seed what dropout on `device` draws from. torch.manual_seed, which does so for every kind of
    device there is, takes a hundred times as long: too much for each step of a small batch."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
