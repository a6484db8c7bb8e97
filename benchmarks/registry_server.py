"""Our registry as a process on a database of its own, with adapters in it."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from benchmarks.adapter_fill import multiply
from benchmarks.lookups import ALIAS, GUEST, OWNER, Service, name_of
from lorikeet.process import ServiceProcess
from protos import registry_pb2 as pb
from tests.registry.support import (
    Client,
    make_adapter,
    make_base_model,
    make_registered,
    make_tenant,
    publish,
)
from tests.servers.postgresql import PostgresServer

_PREFIX = "LORIKEET_REGISTRY_"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_FILL_SECONDS = 300
_FILLED = re.compile(r"answered for from memory, ([\d.]+) s after the start")


@dataclass
class RegistryServer:
    """Started, stopped and started again on the same data; `restart` empties what it remembers.

    `settings` are handed over in the environment: a command line can be read by others.
    """

    directory: Path
    settings: Mapping[str, str]
    service: Service = field(init=False)
    process: ServiceProcess | None = None

    def start(self) -> None:
        arguments = ["--listen", "127.0.0.1:0", "--data-dir", str(self.directory / "data")]
        names = {f"{_PREFIX}{name.upper()}": value for name, value in self.settings.items()}
        os.environ.update(names)
        try:
            self.process = ServiceProcess("registry_service", arguments, self.directory)
        finally:
            for name in names:
                del os.environ[name]
        address = self.process.wait_until_ready(_START_SECONDS)
        keys = json.loads((self.directory / "data" / "credentials.json").read_text())
        self.service = Service(address, keys["inference"])

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop(_STOP_SECONDS)
            self.process = None

    def wait_until_filled(self) -> float:
        """Until it has read all its adapters into memory; seconds since its start, by its log."""
        assert self.process is not None, "it was started"
        for _ in range(_FILL_SECONDS):
            if found := _FILLED.search(self.process.log_path.read_text()):
                return float(found[1])
            time.sleep(1)
        raise TimeoutError("the registry did not read its adapters into memory")

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def pid(self) -> int:
        assert self.process is not None, "it was started"
        return self.process.pid

    @property
    def admin_key(self) -> str:
        keys = json.loads((self.directory / "data" / "credentials.json").read_text())
        return str(keys["admin"])


@contextmanager
def running_registry(
    postgres: PostgresServer, directory: Path, num_adapters: int
) -> Iterator[RegistryServer]:
    """A registry with `num_adapters` adapters, each shared with another tenant."""
    name = f"registry_{num_adapters}"
    directory.mkdir()
    server = RegistryServer(directory, {"database_url": postgres.create_database(name)})
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def fill(server: RegistryServer, postgres: PostgresServer, num_adapters: int) -> None:
    """One adapter through the registry itself, the others as copies of its rows."""
    async with grpc.aio.insecure_channel(server.service.address) as channel:
        admin = Client(channel, server.admin_key)
        for tenant in (OWNER, GUEST):
            await make_tenant(admin, tenant)
        await make_base_model(admin)
        adapter = await make_registered(admin, OWNER, name_of(0))
        await publish(admin, adapter, make_adapter().files(), [ALIAS])
        policy = pb.AccessPolicy(adapter=adapter, allowed_tenants=[f"tenants/{GUEST}"])
        await admin("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    with postgres.connect(f"registry_{num_adapters}") as connection:
        multiply(connection, num_adapters)
    server.restart()  # copies are made behind its back
