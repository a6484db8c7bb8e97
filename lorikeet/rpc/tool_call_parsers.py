"""Names of the ways in which models write tool calls.

The registry holds profiles to them, the inference service has a reader for each.
"""

from typing import Final, Literal, get_args

ToolCallParser = Literal["glaive", "hermes", "llama3_json"]
TOOL_CALL_PARSERS: Final[tuple[str, ...]] = get_args(ToolCallParser)
