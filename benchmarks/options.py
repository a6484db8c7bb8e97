"""The command line's options that several benchmarks have."""

from pathlib import Path
from typing import Annotated

import typer

Layers = Annotated[int, typer.Option(help="Of TinyLlama's shape; 22 is the whole.")]
Threads = Annotated[int, typer.Option(help="0: torch's own choice.")]
Keep = Annotated[Path | None, typer.Option(help="Checkpoint and adapters stay here.")]
AsJson = Annotated[bool, typer.Option("--json", help="Prints JSON instead of a table.")]
Output = Annotated[Path | None, typer.Option(help="Also writes the JSON here.")]
