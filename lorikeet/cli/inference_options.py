"""Settings of the inference service that `lorikeet serve` passes on as they are."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from lorikeet.cli.failures import CommandError

# What serve decides itself, and with which of its options.
_DECIDED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("model", "base-model", "revision", "data-dir"), "the option of that name"),
    "listen": "--port",
    "registry": "--registry-port",
    **dict.fromkeys(
        ("credentials", "ready-file", "stop-with-stdin", "insecure"), "python -m inference_service"
    ),
}
_OPTION: Final = re.compile(r"([a-z][a-z0-9]*(?:[-_][a-z0-9]+)*)=(.*)", re.DOTALL)
_FLAGS: Final = {"true": "--", "false": "--no-"}


def inference_arguments(options: Iterable[str]) -> Iterator[str]:
    """`max_loras=8` → `--max-loras=8`, `prefix_caching=false` → `--no-prefix-caching`.

    What the service does not know it refuses by name when it starts.
    """
    for option in options:
        match = _OPTION.fullmatch(option)
        if match is None:
            raise CommandError(f"--inference-option {option!r}: write NAME=VALUE, as max_loras=8")
        name, value = match[1].replace("_", "-"), match[2]
        if name in _DECIDED:
            raise CommandError(f"--inference-option {name}: serve sets it; use {_DECIDED[name]}")
        yield f"{_FLAGS[value]}{name}" if value in _FLAGS else f"--{name}={value}"
