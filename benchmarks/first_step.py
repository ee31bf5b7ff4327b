"""Run train.py up to the network's first step, print the monotonic clock, and end."""

import os
import runpy
import sys
import time


def leave(*_: object) -> None:
    print(time.monotonic(), flush=True)  # all processes share this clock
    os._exit(0)


if __name__ == "__main__":
    from torch.nn.modules.module import register_module_forward_pre_hook

    register_module_forward_pre_hook(leave)
    sys.argv[0] = "train.py"
    sys.path.insert(0, "")
    runpy.run_path("train.py", run_name="__main__")
