"""Where the demo's artifacts lie and the names they are registered under."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent
BASE_DIR: Final = ROOT / "base"
ADAPTERS_DIR: Final = ROOT / "adapters"
TOOLS: Final = ROOT / "tools.json"
CALLING_TEMPLATE: Final = ROOT / "function_calling.jinja"

BASE_MODEL_NAME: Final = "lorikeet/demo-base"
BASE_MODEL_REVISION: Final = "v1"

ADAPTER_NAMES: Final = ("text2sql", "math", "function-calling")
