"""What the front end reads of a checkpoint: its identity, its end tokens, its chat template."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference_service.tokenizer import ModelTokenizer, load_tokenizer, read_json
from lorikeet.rpc.digests import config_digest


class ModelFilesError(ValueError):
    """The model directory cannot be served."""


@dataclass(frozen=True)
class ModelFiles:
    """Read once at start. `chat_template` is empty when the checkpoint has none.

    `tool_chat_template` is for conversations with tools; the same unless the checkpoint has two.
    """

    config_digest: str
    tokenizer: ModelTokenizer
    eos_token_ids: tuple[int, ...]
    chat_template: str
    tool_chat_template: str


def read_model_files(model_path: Path) -> ModelFiles:
    """Reads a checkpoint directory; ModelFilesError when it is not one."""
    config = read_json(model_path / "config.json")
    if not config:
        raise ModelFilesError(f"{model_path} has no config.json")
    tokenizer = load_tokenizer(model_path)
    templates = _chat_templates(model_path)
    default_template = templates.get("default", "")
    return ModelFiles(
        config_digest=config_digest(config),
        tokenizer=tokenizer,
        eos_token_ids=_eos_token_ids(model_path, config, tokenizer),
        chat_template=default_template,
        tool_chat_template=templates.get("tool_use", default_template),
    )


def _eos_token_ids(
    model_path: Path, config: dict[str, Any], tokenizer: ModelTokenizer
) -> tuple[int, ...]:
    """generation_config.json's, else config.json's, and always the tokenizer's own."""
    generation = read_json(model_path / "generation_config.json")
    value = generation.get("eos_token_id")
    if value is None:
        value = config.get("eos_token_id", config.get("text_config", {}).get("eos_token_id"))
    listed = [] if value is None else [value] if isinstance(value, int) else list(value)
    if tokenizer.eos_token_id is not None:
        listed.append(tokenizer.eos_token_id)
    return tuple(dict.fromkeys(listed))


def _chat_templates(model_path: Path) -> dict[str, str]:
    """By name. As in transformers, those in files go before those in the tokenizer's config."""
    files = [*(model_path / "additional_chat_templates").glob("*.jinja")]
    templates = {file.stem: file.read_text(encoding="utf-8") for file in files}
    default = model_path / "chat_template.jinja"
    if default.exists():
        templates["default"] = default.read_text(encoding="utf-8")
    if templates:
        return templates
    listed = read_json(model_path / "tokenizer_config.json").get("chat_template") or []
    if isinstance(listed, str):
        return {"default": listed}
    return {entry["name"]: entry["template"] for entry in listed}
