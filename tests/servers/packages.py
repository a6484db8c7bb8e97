"""Debian packages unpacked (not installed) into the user's cache, with apt's own lists apart.

Neither root nor an earlier `apt-get update` is needed, and nothing of the system changes.
"""

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS_TO_DOWNLOAD = 180


class PackagesUnavailableError(RuntimeError):
    """The servers' packages cannot be had on this machine; the message says why."""


def cache_home() -> Path:
    """Where the servers of every checkout of this user are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lorikeet" / "servers"


@dataclass(frozen=True)
class Unpacked:
    """The file tree of some packages, and how to run what is in it."""

    root: Path

    def program(self, name: str) -> str:
        return str(self.root / "usr" / "bin" / name)

    @property
    def library_directory(self) -> Path:
        """`usr/lib/<architecture>-linux-gnu`."""
        return next((self.root / "usr" / "lib").glob("*-linux-gnu*"))

    @property
    def environment(self) -> dict[str, str]:
        """The libraries are looked for here first, then in the system."""
        directories = [self.library_directory, self.root / "lib" / self.library_directory.name]
        libraries = [*directories, self.library_directory / "ceph"]
        return {
            **{key: os.environ[key] for key in ("HOME", "TMPDIR") if key in os.environ},
            "PATH": f"{self.root}/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PYTHONPATH": f"{self.root}/usr/lib/python3/dist-packages",
            "LC_ALL": "C.UTF-8",
        }


def unpack(name: str, packages: Sequence[str], check: Sequence[str]) -> Unpacked:
    """`packages` with all they need, from the cache or from the system's apt sources.

    `check` is a program's name and arguments that must succeed; if it does not, a later change of
    the system has broken what is cached, and it is unpacked again. Takes seconds the first time.
    """
    kept = cache_home() / f"{name}-{_distribution()}"
    with _locked(kept.with_suffix(".lock")):
        unpacked = Unpacked(kept)
        if not kept.exists() or not _works(unpacked, check):
            shutil.rmtree(kept, ignore_errors=True)
            fresh = kept.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            _download_and_unpack(packages, fresh)
            fresh.rename(kept)
            if not _works(unpacked, check):
                raise PackagesUnavailableError(f"{' '.join(check)} does not run from {kept}")
    return unpacked


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError as error:
        raise PackagesUnavailableError(f"this is no Linux distribution: {error}") from error
    return f"{release['ID']}{release.get('VERSION_ID', '')}"


def _works(unpacked: Unpacked, check: Sequence[str]) -> bool:
    command = [unpacked.program(check[0]), *check[1:]]
    try:
        return not subprocess.run(command, env=unpacked.environment, capture_output=True).returncode
    except OSError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two test runs do not unpack into the same place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download_and_unpack(packages: Sequence[str], target: Path) -> None:
    state = target / "apt"
    for part in ("lists/partial", "archives/partial"):
        (state / part).mkdir(parents=True)
    options = {
        "Dir::State": state,
        "Dir::State::Lists": state / "lists",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": state,
        "Dir::Cache::archives": state / "archives",
        "Debug::NoLocking": 1,  # its locks are the system's
        "APT::Sandbox::User": "",  # which could not read our directories
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-y", *(f"-o{key}={value}" for key, value in options.items())]
    update = _run([*apt, "update"])
    install = [*apt, "--no-install-recommends", "--download-only", "install", *packages]
    downloaded = _run(install)
    if downloaded.returncode:
        raise PackagesUnavailableError(
            f"cannot download {', '.join(packages)} with apt; the tests that run on real servers "
            f"need Debian 12 and access to its packages.\n"
            f"apt-get update said:\n{update.stdout}\napt-get install said:\n{downloaded.stdout}"
        )
    archives = sorted((state / "archives").glob("*.deb"))
    with ThreadPoolExecutor(4) as threads:
        commands = [["dpkg", "-x", str(archive), str(target)] for archive in archives]
        for unpacked in threads.map(_run, commands):
            if unpacked.returncode:
                raise PackagesUnavailableError(f"cannot unpack a package: {unpacked.stdout}")
    shutil.rmtree(state)


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_TO_DOWNLOAD,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    except FileNotFoundError as error:
        raise PackagesUnavailableError(f"{command[0]} is needed to unpack the servers") from error
    except subprocess.TimeoutExpired as error:
        raise PackagesUnavailableError(f"{command[0]} took over {error.timeout} s") from error
