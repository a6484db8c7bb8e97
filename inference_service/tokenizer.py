"""The base model's tokenizer, read with `tokenizers` alone: transformers takes seconds to import.

Like transformers, tokens that only tokenizer_config.json lists are added to those of
tokenizer.json, and `add_bos_token` gives way to tokenizer.json's own begin and end tokens.
"""

import functools
import importlib.util
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from inference_service.detokenizer import IncrementalDetokenizer

_SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_TOKEN_OPTIONS = ("lstrip", "normalized", "rstrip", "single_word", "special")


class TokenizerMissingError(FileNotFoundError):
    """The model directory has no tokenizer that can be read."""


@dataclass(frozen=True)
class ModelTokenizer:
    """Encodes, decodes, and knows the names of the special tokens."""

    backend: Tokenizer
    special_tokens: Mapping[str, str]
    special_token_ids: frozenset[int]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self.backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        text: str = self.backend.decode(token_ids, skip_special_tokens=skip_special_tokens)
        return text

    def incremental_detokenizer(self, shown: Collection[str] = ()) -> IncrementalDetokenizer:
        """Special tokens are no text, but for those in `shown`."""
        shown_ids = {self.backend.token_to_id(token) for token in shown}
        decode = functools.partial(self.decode, skip_special_tokens=False)
        return IncrementalDetokenizer(decode, self.special_token_ids - shown_ids)

    @property
    def eos_token_id(self) -> int | None:
        eos_token = self.special_tokens.get("eos_token")
        token_id: int | None = self.backend.token_to_id(eos_token) if eos_token else None
        return token_id


def load_tokenizer(model_path: Path) -> ModelTokenizer:
    """Reads the tokenizer of a checkpoint; TokenizerMissingError when it has none."""
    config = read_json(model_path / "tokenizer_config.json")
    named = {**read_json(model_path / "special_tokens_map.json"), **config}
    special_tokens = {
        name: _content(named[name]) for name in _SPECIAL_TOKENS if named.get(name) is not None
    }
    file = model_path / "tokenizer.json"
    if file.exists():
        backend = Tokenizer.from_file(str(file))
        _add_missing_tokens(backend, config, special_tokens)
    else:
        backend = _converted_by_transformers(model_path)
    backend.no_truncation()
    backend.no_padding()
    special_token_ids = frozenset(
        token_id for token_id, token in backend.get_added_tokens_decoder().items() if token.special
    )
    return ModelTokenizer(backend, special_tokens, special_token_ids)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no such file."""
    if not path.exists():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _add_missing_tokens(
    backend: Tokenizer, config: Mapping[str, Any], special_tokens: Mapping[str, str]
) -> None:
    listed = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
    tokens = [
        AddedToken(token["content"], **{key: token[key] for key in _TOKEN_OPTIONS if key in token})
        for _, token in listed
    ]
    tokens += [AddedToken(content, special=True) for content in special_tokens.values()]
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    missing = {token.content: token for token in reversed(tokens) if token.content not in known}
    if missing:
        backend.add_tokens(list(reversed(missing.values())))


def _converted_by_transformers(model_path: Path) -> Tokenizer:
    """For checkpoints without tokenizer.json: slow to import, so only when needed."""
    has_sentencepiece_model = (model_path / "tokenizer.model").exists()
    if not has_sentencepiece_model and not (model_path / "vocab.json").exists():
        raise TokenizerMissingError(
            f"{model_path} has neither tokenizer.json nor tokenizer.model nor vocab.json"
        )
    if has_sentencepiece_model and importlib.util.find_spec("sentencepiece") is None:
        raise TokenizerMissingError(
            f"{model_path} has only tokenizer.model: install sentencepiece, "
            "or save the tokenizer with transformers to get a tokenizer.json"
        )
    from transformers import AutoTokenizer

    backend: Tokenizer = AutoTokenizer.from_pretrained(str(model_path)).backend_tokenizer
    return backend
