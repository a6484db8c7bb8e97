"""Settings from files: one a setting, named as the setting, and not for others' eyes."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path


class SecretFilesError(ValueError):
    """A secret cannot be taken from where it lies; the message never holds a secret."""


def check_secret_files(directory: Path, names: Iterable[str]) -> None:
    """Refuses a directory that is missing, and files that other users of the machine could use.

    In a mount of its own (a container's secret) the mode says nothing: Kubernetes writes 0644, and
    whoever can look into that mount is the service.
    """
    if not directory.is_dir():
        raise SecretFilesError(f"{directory} is not a directory: it should hold the secret files")
    for name in names:
        path = directory / name
        if path.exists():
            _check_file(path, directory)


def _check_file(path: Path, directory: Path) -> None:
    if not os.access(path, os.R_OK):
        raise SecretFilesError(
            f"{path} cannot be read by user {os.getuid()}: give the file to that user"
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    is_mounted = os.path.ismount(directory) or os.path.ismount(path)
    if mode & stat.S_IRWXO and not is_mounted:
        raise SecretFilesError(f"{path} is open to every user (mode {mode:04o}): chmod 600 {path}")
