"""Start project commands as forks of a process that has loaded the libraries: 0.1 s, not 7.

Each child runs the real script or module, with its own argv, process group and output file.
Requests and answers are JSON lines on stdin and stdout; see `Commands` in commands.py.
"""

import ctypes
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import traceback

LIBRARIES = [
    *("torch", "torchvision.models", "torch.utils.tensorboard", "hydra", "pandas"),
    *("scipy.optimize", "sklearn.cluster", "matplotlib.figure", "scripts.job_manager"),
    *(
        "src.training.loop",
        "src.training.validation",
        "src.evaluation.evaluator",
        "src.models.build",
        "src.methods.stages",
    ),
    *(
        "src.evaluation.plots",
        "src.spurious.plots",
        "src.standin.dataset",
        "src.report.plots",
    ),
    *("src.report.collect", "src.report.page"),
]


def main() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            answer = start(request["start"])
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        print(json.dumps(answer), flush=True)


def start(command: dict) -> int:
    """Fork a child that runs `command`; return its process id, which is also its group's."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        prepare(command)
        run(command["argv"])
        code = 0
    except SystemExit as error:
        code = 0 if error.code is None else error.code
        if not isinstance(code, int):
            print(error.code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # what the end of an interpreter waits for
        try:
            sys.stdout.flush()
        except OSError:
            code = 120
        os._exit(code)
    return 0


def prepare(command: dict) -> None:
    """Set the child's folder, signals, output and fault."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(command["folder"])
    output = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    fault = command["fault"]
    if fault:
        shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
        log = fault["log"] and fault["log"].encode()
        shim.disk_faults_arm(
            fault["match"].encode(),
            fault["action"],
            ctypes.c_long(fault["at"]),
            fault["error"],
            log,
        )


def run(argv: list[str]) -> None:
    """Run `train_erm.py ...` or `-m scripts.status ...` as `python` would."""
    if argv[0] == "-m":
        sys.argv = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
