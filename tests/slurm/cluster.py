"""A real Slurm cluster of several pretend nodes on this machine, in a private folder, as any user.

Needs Debian's slurmctld, slurmd, slurm-client and munge, and for accounting slurmdbd, mariadb-server-core and
mariadb-client-core. Nothing in /etc or /run is touched; daemons are stopped by the pids that they wrote.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "my_print_defaults")
SBIN = "/usr/sbin:/sbin"

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmctldPort={port}
SlurmdPort={slurmd_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/pid/slurmctld.pid
SlurmdPidFile={folder}/pid/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
PropagateResourceLimits=NONE
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
MaxArraySize={largest_array}
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=1,batch_sched_delay=1,sched_interval=1,bf_interval=1
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=3
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=10
MessageTimeout=10
TCPTimeout=2
UnkillableStepTimeout=20
{accounting}
NodeName=n[1-{nodes}] NodeHostname={node_host} NodeAddr=127.0.0.1 Port=[{first}-{last}] \
CPUs={cpus} RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE PriorityTier=1 \
PreemptMode=REQUEUE GraceTime=8 State=UP
PartitionName=short Nodes=n1 DefaultTime=1 MaxTime=2 State=UP
PartitionName=high Nodes=ALL DefaultTime=60 PriorityTier=10 PreemptMode=OFF State=UP
"""

DBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=root
StoragePass=unused
StorageLoc=slurm_acct
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/pid/slurmdbd.pid
"""


def is_installed(*, accounting: bool = False) -> bool:
    """Whether the programs are there."""
    path = f"{os.environ['PATH']}:{SBIN}"
    programs = PROGRAMS + (ACCOUNTING if accounting else ())
    return all(shutil.which(name, path=path) for name in programs)


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something, with a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} within {seconds:g} s")
        time.sleep(0.2)


def free_ports(count: int = 40) -> int:
    """Return the first of so many ports that nobody uses: several clusters may run on a machine."""
    for _ in range(100):
        first = random.randrange(16000, 32000 - count)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError(f"no {count} free ports in a row")


@dataclass
class Cluster:
    """The cluster; ``with`` starts and stops it."""

    nodes: int = 3
    cpus: int = 2
    accounting: bool = False
    enforced: bool = False  # with accounting: only known accounts and qualities of service
    own_names: bool = (
        False  # each node in its own UTS namespace (needs root): it can be killed whole
    )
    largest_array: int = 1001
    port: int = field(default_factory=free_ports)
    folder: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    )

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        path = f"{os.environ['PATH']}:{SBIN}"
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(
            ["scancel", "-u", getpass.getuser()], env=self.environment, capture_output=True
        )
        time.sleep(0.5)
        pids = self.folder / "pid"
        for path in [*pids.glob("slurmd.*.pid"), pids / "slurmctld.pid", pids / "slurmdbd.pid"]:
            self.stop(path)
        self.stop(pids / "mariadbd.pid", signal.SIGKILL)
        self.stop(pids / "munged.pid")
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command of Slurm; return what it prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
        return done.stdout

    def start_controller(self) -> None:
        """Start slurmctld, and wait for its answer."""
        self._daemon("slurmctld", "-f", str(self.folder / "slurm.conf"))
        until(lambda: "UP" in self.run("scontrol", "ping", check=False), 30, "slurmctld answers")

    def stop_controller(self) -> None:
        """Stop slurmctld; jobs go on."""
        self.stop(self.folder / "pid" / "slurmctld.pid")

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node."""
        (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        slurmd = f"exec slurmd -f {self.folder}/slurm.conf -N {name}"
        if self.own_names:
            self._daemon("unshare", "--uts", "sh", "-c", f"hostname {name}; {slurmd}")
        else:
            self._daemon("sh", "-c", slurmd)

    def kill_node(self, name: str) -> None:
        """Kill the daemon of a node and all of its jobs' processes, as a power cut does."""
        assert self.own_names
        pid = (self.folder / "pid" / f"slurmd.{name}.pid").read_text().strip()
        space = Path(f"/proc/{pid}/ns/uts").readlink()
        assert space != Path("/proc/self/ns/uts").readlink()
        for _ in range(2):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if (process / "ns" / "uts").readlink() == space:
                        os.kill(int(process.name), signal.SIGKILL)
                except OSError:
                    continue

    def _start(self) -> None:
        for name in ("munge", "state", "spool", "log", "pid", "dev", "db"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        munge = f"{self.folder}/munge"
        self._daemon(
            "munged", "--force", "--num-threads=4", f"--key-file={key}", f"--socket={munge}/socket",
            f"--log-file={self.folder}/log/munged.log", f"--pid-file={self.folder}/pid/munged.pid",
            f"--seed-file={munge}/seed",
        )  # fmt: skip
        host, gres = socket.gethostname().partition(".")[0], []
        for number in range(2):
            (self.folder / "dev" / f"nvidia{number}").symlink_to("/dev/null")
        for number in range(1, self.nodes + 1):
            gres.append(f"NodeName=n{number} Name=gpu File={self.folder}/dev/nvidia[0-1]\n")
        (self.folder / "gres.conf").write_text("".join(gres))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=host, user=getpass.getuser(), folder=self.folder, port=self.port,
                slurmd_port=self.port + 10, nodes=self.nodes, first=self.port + 11,
                last=self.port + 10 + self.nodes, cpus=self.cpus, largest_array=self.largest_array,
                node_host=f"n[1-{self.nodes}]" if self.own_names else host,
                accounting=self._accounting(),
            )
        )  # fmt: skip
        if self.accounting:
            self._start_accounting(host)
        self.start_controller()
        for number in range(1, self.nodes + 1):
            self.start_node(f"n{number}")
        idle = ("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N")
        until(lambda: len(set(self.run(*idle).split())) == self.nodes, 30, "all nodes are idle")

    def _accounting(self) -> str:
        if not self.accounting:
            return "AccountingStorageType=accounting_storage/none"
        return (
            "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
            f"AccountingStoragePort={self.port + 9}\nAccountingStoragePass={self.folder}/munge/socket\n"
            "AccountingStorageTRES=gres/gpu"
            + ("\nAccountingStorageEnforce=associations,limits,qos" if self.enforced else "")
        )

    def _start_accounting(self, host: str) -> None:
        data, user = self.folder / "db" / "data", getpass.getuser()
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--user={user}", f"--datadir={data}",
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            env=self.environment, capture_output=True, check=True,
        )  # fmt: skip
        subprocess.Popen(
            ["mariadbd", "--no-defaults", f"--user={user}", f"--datadir={data}", f"--port={self.port + 8}",
             f"--socket={self.folder}/db/sql.sock", "--bind-address=127.0.0.1", "--skip-grant-tables",
             f"--pid-file={self.folder}/pid/mariadbd.pid", f"--log-error={self.folder}/log/mariadbd.log",
             "--skip-name-resolve", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M",
             "--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900"],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port + 8)) == 0

        until(answers, 30, "mariadbd answers")
        path = self.folder / "slurmdbd.conf"
        path.touch(mode=0o600)
        path.write_text(
            DBD.format(
                folder=self.folder,
                host=host,
                user=user,
                dbd_port=self.port + 9,
                sql_port=self.port + 8,
            )
        )
        self._daemon("slurmdbd")
        until(lambda: self._is_registered(), 30, "slurmdbd answers")

    def _is_registered(self) -> bool:
        added = subprocess.run(
            ["sacctmgr", "-i", "-Q", "add", "cluster", "test"],
            env=self.environment,
            capture_output=True,
        )
        return added.returncode == 0 or b"Already" in added.stdout + added.stderr

    def _daemon(self, *command: str) -> None:
        subprocess.run(
            command, env=self.environment, check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=(self.folder / "log" / "start.err").open("a"),
        )  # fmt: skip

    def stop(self, path: Path, how: int = signal.SIGTERM) -> None:
        """Stop the daemon whose pid is in a file."""
        if not path.exists() or not (text := path.read_text().strip()):
            return
        pid = int(text)
        for kind in (how, signal.SIGKILL):
            try:
                os.kill(pid, kind)
            except ProcessLookupError:
                return
            for _ in range(50):
                if not _is_alive(pid):
                    return
                time.sleep(0.1)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
