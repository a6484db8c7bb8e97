"""The state file of `lorikeet serve`: where the services are and with which keys to call them."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STATE_DIR = Path(".lorikeet")
STATE_PATH = STATE_DIR / "serve.json"


@dataclass(frozen=True)
class ServeState:
    """What the other commands need to reach a running stack from the same directory."""

    registry: str
    inference: str
    admin_key: str = field(repr=False)
    default_tenant: str
    tenant_keys: dict[str, str] = field(repr=False)

    def write(self, path: Path = STATE_PATH) -> None:
        """Replaces the file whole, readable by its owner only."""
        write_private_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path = STATE_PATH) -> "ServeState | None":
        """None when nothing is being served from this directory."""
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None

    @staticmethod
    def remove(path: Path = STATE_PATH) -> None:
        """Called when the stack stops."""
        path.unlink(missing_ok=True)


def write_private_json(path: Path, value: Any) -> None:
    """Writes a file that holds secrets: mode 0600 from its first byte, and never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=2)
    partial.replace(path)
