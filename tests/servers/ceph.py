"""S3 from Ceph's gateway, over HTTP and TLS; objects are in memory, keys are path style.

One monitor, one OSD with a memory store and one gateway. The objects live in the OSD, so an outage
of S3 is the gateway paused or killed: it comes back with everything that was stored.
"""

import secrets
import signal
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.servers.certificates import Certificates
from tests.servers.guard import Guard
from tests.servers.packages import Unpacked, unpack
from tests.servers.processes import ServerProcess, free_port, run_to_end

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")
MEMORY_BYTES = 4 * 2**30

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{monitor_port}
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms mon client mode = crc
ms client mode = crc
run dir = {directory}
admin socket = {directory}/$name.$pid.asok
crash dir = {directory}
log file = {directory}/$name.log
pid file = {directory}/$name.pid
keyring = {directory}/keyring
plugin dir = {libraries}/ceph
erasure code dir = {libraries}/ceph/erasure-code
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 10000
[mon]
paxos propose interval = 0.05
paxos min wait = 0.01
mon data = {directory}/mon
[osd]
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = {memory}
osd class dir = {libraries}/rados-classes
osd class load list = *
osd class default list = *
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls_port} \
ssl_certificate={certificate}
rgw data = {directory}/gateway
rgw run sync thread = false
"""


@dataclass
class S3Server:
    """One gateway, two addresses; `process` is the gateway alone."""

    port: int
    tls_port: int
    authority: Path
    access_key_id: str
    secret_access_key: str
    process: ServerProcess
    region: str = "us-east-1"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    def start(self) -> None:
        """Also after `kill`: the same ports and objects. Returns once it answers."""
        self.process.start()
        self.process.wait_for(self._answers)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def start_s3(guard: Guard, certificates: Certificates) -> S3Server:
    """Everything fresh, with one user and no bucket; unpacks Ceph first where it must."""
    ceph = unpack("ceph", PACKAGES, ["radosgw", "--version"])
    directory = guard.directory / "ceph"
    directory.mkdir()
    ports = {"port": free_port(), "tls_port": free_port(), "monitor_port": free_port()}
    cluster = _Cluster(ceph, directory, guard)
    cluster.configure(**ports, certificate=certificates.both)
    cluster.start_storage(ports["monitor_port"])
    server = S3Server(
        ports["port"],
        ports["tls_port"],
        certificates.authority,
        secrets.token_hex(10),
        secrets.token_hex(20),
        cluster.process("radosgw", "-n", "client.rgw", "-f"),
    )
    server.start()
    keys = [f"--access-key={server.access_key_id}", f"--secret-key={server.secret_access_key}"]
    user = ["user", "create", "--uid=lorikeet", "--display-name=lorikeet", *keys]
    cluster.run("radosgw-admin", "-n", "client.rgw", *user)
    return server


@dataclass(frozen=True)
class _Cluster:
    """What the gateway stores into."""

    ceph: Unpacked
    directory: Path
    guard: Guard

    def configure(self, *, port: int, tls_port: int, monitor_port: int, certificate: Path) -> None:
        for part in ("mon", "osd", "gateway"):
            (self.directory / part).mkdir()
        text = CONFIGURATION.format(
            fsid=uuid.uuid4(),
            directory=self.directory,
            libraries=self.ceph.library_directory,
            memory=MEMORY_BYTES,
            monitor_port=monitor_port,
            port=port,
            tls_port=tls_port,
            certificate=certificate,
        )
        (self.directory / "ceph.conf").write_text(text)

    def start_storage(self, monitor_port: int) -> None:
        """The monitor and the OSD; the gateway itself waits until they are ready."""
        admin = ["-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *"]
        self.run("ceph-authtool", "-C", "keyring", "-g", "-n", "mon.", "--cap", "mon", "allow *")
        self.run("ceph-authtool", "keyring", "-g", *admin)
        address = ["--addv", "a", f"[v2:127.0.0.1:{monitor_port}]"]
        self.run("monmaptool", "--create", *address, "--fsid", self._fsid(), "monmap")
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        self.process("ceph-mon", "-i", "a", "-f").start()
        identifier = str(uuid.uuid4())
        self._ceph("--connect-timeout", "30", "osd", "new", identifier)
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identifier)
        self.process("ceph-osd", "-i", "0", "-f").start()

    def _ceph(self, *arguments: str) -> None:
        """Ceph's own command, a Python script: with Debian's Python, whose modules it needs."""
        unpacked = Path(self.ceph.program("python3"))  # where the system has none
        python = str(unpacked) if unpacked.exists() else "/usr/bin/python3"
        command = [python, self.ceph.program("ceph"), *arguments]
        run_to_end(command, self.directory, self._environment)

    def process(self, program: str, *arguments: str) -> ServerProcess:
        command = [self.ceph.program(program), *arguments]
        return ServerProcess(
            program, command, self.directory, self._environment, self.guard, signal.SIGKILL
        )  # nothing of it outlives it

    def run(self, program: str, *arguments: str) -> str:
        command = [self.ceph.program(program), *arguments]
        return run_to_end(command, self.directory, self._environment)

    def _fsid(self) -> str:
        first = (self.directory / "ceph.conf").read_text().splitlines()[1]
        return first.rpartition(" ")[2]

    @property
    def _environment(self) -> dict[str, str]:
        return {**self.ceph.environment, "CEPH_CONF": str(self.directory / "ceph.conf")}
