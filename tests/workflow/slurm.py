"""A Slurm of four virtual nodes on this machine, for tests: Debian's packages, started by root, without systemd.

Each node has four CPUs and a GPU that is none: a device file, which is enough for Slurm to assign it.
"""

import os
import platform
import shutil
import signal
import subprocess
import time
from pathlib import Path

NAME = "tests"
NODES = 4
CONFIG = Path("/etc/slurm")  # where every command looks, also those that jobs start
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")


def missing() -> str:
    """Return why Slurm cannot be started here, or nothing."""
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    if os.geteuid() != 0:
        return "Slurm is started by root"
    found = CONFIG / "slurm.conf"
    ours = not found.exists() or found.read_text().startswith(f"ClusterName={NAME}\n")
    return "" if ours else f"{found} is of another cluster, which is left alone"


def ask(*command: str) -> str:
    """Return what a command of Slurm's prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


class Cluster:
    """The daemons; `folder` holds their state and logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen] = []

    def start(self) -> None:
        """Start everything and wait until all nodes are idle."""
        for name in ("state", "log", "run", "dev", *(f"spool/n{i}" for i in range(1, NODES + 1))):
            (self.folder / name).mkdir(parents=True)
        CONFIG.mkdir(exist_ok=True)
        (CONFIG / "slurm.conf").write_text(self._slurm_conf())
        gres = ["AutoDetect=off"]
        for i in range(1, NODES + 1):
            device = self.folder / "dev" / f"nvidia{i}"
            os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))  # another /dev/null
            gres.append(f"NodeName=n{i} Name=gpu File={device}")
        (CONFIG / "gres.conf").write_text("\n".join(gres) + "\n")
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        self._launch(["runuser", "-u", "munge", "--", "munged", "--foreground", "--force"])
        self._wait_for(lambda: not subprocess.run(["munge", "-n"], capture_output=True).returncode)
        self._launch(["slurmctld", "-D"])
        for i in range(1, NODES + 1):
            self._launch(["slurmd", "-D", "-N", f"n{i}"])
        self._wait_for(lambda: not subprocess.run(["scontrol", "ping"], capture_output=True).returncode)
        self._wait_for(self._all_idle)

    def stop(self) -> None:
        """Cancel what runs, end the daemons, and remove the configuration."""
        subprocess.run(["scancel", "--partition", "debug"], capture_output=True)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        for name in ("slurm.conf", "gres.conf"):
            (CONFIG / name).unlink(missing_ok=True)

    def _launch(self, command: list[str]) -> None:
        with (self.folder / "log" / "daemons.txt").open("a") as out:
            self.daemons.append(subprocess.Popen(command, stdout=out, stderr=out))

    def _wait_for(self, condition) -> None:
        end = time.monotonic() + 60
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError((self.folder / "log" / "daemons.txt").read_text()[-3000:])
            time.sleep(0.2)

    def _all_idle(self) -> bool:
        states = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], capture_output=True, text=True)
        return states.stdout.split() == ["idle"] * NODES

    def _slurm_conf(self) -> str:
        host = platform.node()
        folder = self.folder
        nodes = "\n".join(
            f"NodeName=n{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={17000 + i} CPUs=4 CoresPerSocket=4"
            " RealMemory=20000 Gres=gpu:1"
            for i in range(1, NODES + 1)
        )
        return f"""ClusterName={NAME}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdParameters=config_overrides
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=250
SchedulerParameters=sched_min_interval=0,bf_interval=2,batch_sched_delay=0
MinJobAge=3600
KillWait=10
JobRequeue=1
JobAcctGatherType=jobacct_gather/linux
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.txt
AccountingStorageType=accounting_storage/none
GresTypes=gpu
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
