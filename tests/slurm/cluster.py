"""A real Slurm of one node on loopback, started by hand: munged, slurmctld and slurmd.

No systemd and no root are needed, nothing outside of one folder is touched, and the node claims
more CPUs and GPUs than there are. Finished jobs stay visible to squeue, as there is no accounting.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
CPUS, GPUS = 8, 4


def why_not() -> str | None:
    """The reason why no Slurm can be started here, or None."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (munge slurmctld slurmd slurm-client)"
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = "nothing"
    # srun and the daemons bind to what the host's name stands for.
    return None if address.startswith("127.") else f"{name} stands for {address}, not for loopback"


def search_path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


class Cluster:
    """Start with `start`, end with `stop`; `environment` is what clients need."""

    def __init__(self, base: Path):
        self.base = base
        self.socket = base / "munge.socket"
        self.environment = {"SLURM_CONF": str(base / "slurm.conf"), "PATH": search_path()}
        self.daemons: list[subprocess.Popen] = []

    def start(self) -> None:
        for name in ("state", "spool", "dev"):
            (self.base / name).mkdir(parents=True)
        self.base.chmod(0o755)  # munged wants its socket's folder to be reachable
        key = self.base / "munge.key"
        self._call("mungekey", "--create", f"--keyfile={key}")
        (self.base / "slurm.conf").write_text(self._slurm_conf())
        for number in range(GPUS):  # device files to stat(); the number becomes the GPU's
            (self.base / "dev" / f"nvidia{number}").symlink_to("/dev/null")
        gpus = f"NodeName=localhost Name=gpu File={self.base}/dev/nvidia[0-{GPUS - 1}]"
        (self.base / "gres.conf").write_text(f"AutoDetect=off\n{gpus}\n")

        munge = ["--foreground", "--num-threads=2", f"--key-file={key}", f"--socket={self.socket}"]
        munge += [f"--{name}-file={self.base}/munge.{name}" for name in ("pid", "log", "seed")]
        self._daemon("munged", *munge)
        wait_for(self.socket.exists, 20, "munged's socket")
        self._daemon("slurmctld", "-D")
        wait_for(lambda: " UP" in self.ask("scontrol", "ping"), 30, "slurmctld")
        self._daemon("slurmd", "-D", "-N", "localhost")
        wait_for(lambda: self.ask("sinfo", "-h", "-N", "-o", "%t").startswith("idle"), 60, "node")

    def stop(self) -> None:
        ids = set(self.ask("squeue", "-h", "-o", "%A").split())
        if ids:
            self.ask("scancel", *ids)
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: not self.ask("squeue", "-h", "-o", "%A").strip(), 30, "end")
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    # ------------------------------------------------------------------ questions and answers

    def ask(self, *command: str) -> str:
        """What a Slurm client prints; its exit code does not matter."""
        answer = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True
        )
        return answer.stdout

    def states(self, job: str) -> dict[str, str]:
        """State by id (12_3) of a job's array tasks, also of those that ended."""
        lines = self.ask("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait_until_gone(self, seconds: float = 60) -> None:
        """Until no job waits or runs."""
        wait_for(lambda: not self.ask("squeue", "-h", "-o", "%i").strip(), seconds, "the jobs")

    # ------------------------------------------------------------------ daemons

    def _call(self, *command: str) -> None:
        subprocess.run(command, env={**os.environ, **self.environment}, check=True)

    def _daemon(self, *command: str) -> None:
        # An environment of their own: what jobs inherit comes from who submits them.
        environment = {"HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8", **self.environment}
        log = (self.base / f"{command[0]}.out").open("wb")
        self.daemons.append(
            subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        )

    def _slurm_conf(self) -> str:
        user, base = getpass.getuser(), self.base
        controller, node = free_ports(2)
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": "localhost(127.0.0.1)",
            "SlurmctldPort": controller,
            "SlurmdPort": node,
            "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "CredType": "cred/munge",
            # A requeued job waits cred_expire and a second: by default two minutes.
            "AuthInfo": f"socket={self.socket},cred_expire=5",
            "SlurmctldPidFile": base / "slurmctld.pid",
            "SlurmdPidFile": base / "slurmd.pid",
            "SlurmctldLogFile": base / "slurmctld.log",
            "SlurmdLogFile": base / "slurmd.log",
            "StateSaveLocation": base / "state",
            "SlurmdSpoolDir": base / "spool",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/none",
            "MpiDefault": "none",
            "SwitchType": "switch/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU_Memory",
            "DefMemPerCPU": 100,
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,"
            "sched_min_interval=100000,bf_interval=1",
            "PreemptType": "preempt/partition_prio",
            "PreemptMode": "REQUEUE",
            "MessageTimeout": 20,
            "KillWait": 5,
            "MinJobAge": 86400,
            "ReturnToService": 2,
            "SlurmdParameters": "config_overrides",
            "MailProg": "/bin/true",
            "GresTypes": "gpu",
        }
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20 * 9 // 10
        lines = [f"{key}={value}" for key, value in settings.items()]
        lines += [
            f"NodeName=localhost NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory={memory} "
            f"Gres=gpu:{GPUS} State=UNKNOWN",
            "PartitionName=normal Nodes=ALL Default=YES PriorityTier=1 GraceTime=5",
            "PartitionName=urgent Nodes=ALL PriorityTier=10",
        ]
        return "\n".join(lines) + "\n"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.1)
