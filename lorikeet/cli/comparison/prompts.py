"""Files of prompts."""

import json
from pathlib import Path

from lorikeet.cli.failures import CommandError


def read_prompts(path: Path) -> list[str]:
    """One prompt a line; in a .jsonl file the "prompt" of the object on each line.

    Empty lines are left out. CommandError names the line that is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path}: {error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if path.suffix == ".jsonl":
        prompts = [_prompt_of(line, f"{path}, line {number}") for number, line in numbered]
    else:
        prompts = [line for _, line in numbered]
    if not prompts:
        raise CommandError(f"{path} has no prompts")
    return prompts


def _prompt_of(line: str, place: str) -> str:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise CommandError(f"{place}: not JSON") from error
    prompt = record.get("prompt") if isinstance(record, dict) else None
    if not isinstance(prompt, str) or not prompt:
        raise CommandError(f'{place}: no text under "prompt"')
    return prompt
