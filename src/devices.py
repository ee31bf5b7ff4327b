"""Where a network runs, and in which precision."""

import torch

from src.errors import UserError


def choose_device(device: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"exp.train.device={device}: {reason}; use auto, cpu or cuda") from error
    return chosen


def choose_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 on a GPU that has it, fp16 on another GPU, fp32 on a CPU."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of a forward pass; for fp32 it is disabled."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")
