"""A sweep on a real SLURM cluster of one node: runs 60 points as a job array and kills two tasks.

    python tests/cluster/real_slurm.py            as root, on a disposable Debian machine; needs pcsim[cluster]

Installs slurm-wlm and munge, writes /etc/slurm/slurm.conf, and starts munged, slurmctld and slurmd. Then runs the sweep
in `tests/support/swept.py` as a job array, and kills two running tasks with SIGKILL. The table must be bitwise equal to
that of the same sweep run in this process. pytest does not collect this script, because it changes the machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
POINTS, KILLS = 60, 2
CONF = """
ClusterName=one
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_min_interval=0
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
NodeName={host} CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def do(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, text=True, stdout=subprocess.PIPE).stdout


def set_up() -> None:
    """Start a one-node cluster on this machine, unless one is running."""
    if shutil.which("slurmctld") is None or shutil.which("munged") is None:
        do("apt-get", "install", "-y", "--no-install-recommends", "slurm-wlm", "munge")
    if subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0:
        return
    for folder, owner in (("/run/munge", "munge"), ("/var/log/munge", "munge"), ("/var/lib/munge", "munge")):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.chown(folder, owner, owner)
    for folder in ("/var/spool/slurmctld", "/var/spool/slurmd", "/etc/slurm"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("/etc/slurm/slurm.conf").write_text(CONF.format(host=socket.gethostname()))
    do("runuser", "-u", "munge", "--", "munged", check=False)
    do("slurmctld")
    do("slurmd")
    for _ in range(60):
        if "idle" in do("sinfo", "-h", "-o", "%T", check=False):
            return
        time.sleep(1.0)
    raise SystemExit("the node has not become idle within 60 s: check slurmctld -D -vvv and slurmd -D -vvv")


def running() -> list[int]:
    """Return the ids of submitit's task processes."""
    return [int(pid) for pid in do("pgrep", "-f", "submitit.core._submit", check=False).split()]


def kill_some(killed: list[int], stop: threading.Event) -> None:
    """Send SIGKILL to the first task, and to another task ten seconds later."""
    while len(killed) < KILLS and not stop.wait(0.2):
        found = [pid for pid in running() if pid not in killed and Path(f"/proc/{pid}/stat").exists()]
        # A task consists of a shell, srun and the computing process, in this order.
        if found:
            time.sleep(0.5)
            try:
                os.kill(found[-1], signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.append(found[-1])
            print(f"killed task process {found[-1]}", flush=True)
            stop.wait(10.0)


def main() -> None:
    from support import swept

    sys.path[:0] = [str(TESTS / "sweeps")]
    from test_sweep import same

    from pcsim.sweeps import Sweep, grid

    begun = time.perf_counter()
    set_up()
    print(f"cluster up after {time.perf_counter() - begun:.0f} s, node {do('srun', 'hostname').strip()}", flush=True)
    os.environ["PCSIM_SLOWLY"] = "0.3"
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    points = grid({"tau.0": [5.0, 10.0, 20.0, 40.0], "seed": range(POINTS // 4)})
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        calm = Sweep(swept.slowly, swept.Setting(), points, Path(folder) / "calm").run()
        killed: list[int] = []
        stop = threading.Event()
        killer = threading.Thread(target=kill_some, args=(killed, stop))
        begun = time.perf_counter()
        killer.start()
        table = Sweep(swept.slowly, swept.Setting(), points, Path(folder) / "slurm").run(
            "slurm:partition=cpu,timeout_min=5"
        )
        stop.set()
        killer.join()
        tasks = len(list((Path(folder) / "slurm" / "slurm").glob("*_submitted.pkl")))
        seconds = time.perf_counter() - begun
        print(f"{len(table)} points in {seconds:.0f} s, {tasks} tasks submitted, {len(killed)} killed")
        print(f"table bitwise equal: {same(table, calm)}")
        if not same(table, calm) or len(table) != POINTS or len(killed) != KILLS:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
