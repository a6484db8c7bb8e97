"""The tokenizer that starts fast equals transformers'."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from inference_service.model_files import ModelFilesError, read_model_files
from inference_service.tokenizer import TokenizerMissingError, load_tokenizer
from tests.inference.tokenizer_files import byte_fallback_json, byte_level_json, write_model

TEXTS = ["Hello <|user|> world", "", "  two  spaces", "你好 🦜", "</s><|new|>def f():\n\treturn"]
EOS = {"__type": "AddedToken", "content": "<|end|>", "special": True}
EXTRA = {"5000": {"content": "<|new|>", "special": True, "lstrip": False, "normalized": False}}


@pytest.mark.parametrize("tokenizer_json", [byte_level_json(), byte_fallback_json()])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"add_bos_token": True},
        {"add_bos_token": False, "added_tokens_decoder": EXTRA},
        {"pad_token": "<|pad|>", "eos_token": EOS},
    ],
)
def test_it_equals_transformers(
    tmp_path: Path, tokenizer_json: str, settings: dict[str, Any]
) -> None:
    ours = load_tokenizer(write_model(tmp_path, tokenizer_json, **settings))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert ours.eos_token_id == theirs.eos_token_id
    assert dict(ours.special_tokens) == theirs.special_tokens_map
    for text in TEXTS:
        token_ids = ours.encode(text, add_special_tokens=True)
        assert token_ids == theirs.encode(text)
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(
            text, add_special_tokens=False
        )
        assert ours.decode(token_ids) == theirs.decode(token_ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("tokenizer_class", "tokenizer_json"),
    [("LlamaTokenizer", byte_fallback_json()), ("GPT2Tokenizer", byte_level_json())],
)
def test_it_equals_the_classes_of_model_families(
    tmp_path: Path, tokenizer_class: str, tokenizer_json: str
) -> None:
    model = write_model(tmp_path, tokenizer_json, tokenizer_class=tokenizer_class)
    ours, theirs = load_tokenizer(model), AutoTokenizer.from_pretrained(tmp_path)
    assert type(theirs).__name__ == tokenizer_class
    for text in TEXTS[:-1]:
        token_ids = ours.encode(text, add_special_tokens=True)
        assert token_ids == theirs.encode(text)
        assert ours.decode(token_ids) == theirs.decode(token_ids, skip_special_tokens=True)


def test_truncation_baked_into_the_file_does_not_cut_prompts(tmp_path: Path) -> None:
    content = json.loads(byte_level_json())
    content["truncation"] = {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    tokenizer = load_tokenizer(write_model(tmp_path, json.dumps(content)))
    assert len(tokenizer.encode("one two three four five six", add_special_tokens=False)) > 3


def test_a_vocabulary_without_tokenizer_json_is_converted(tmp_path: Path) -> None:
    model = write_model(tmp_path, tokenizer_class="GPT2Tokenizer")
    whole = load_tokenizer(model)
    content = json.loads((model / "tokenizer.json").read_text())["model"]
    (model / "vocab.json").write_text(json.dumps(content["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in content["merges"])
    (model / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    (model / "tokenizer.json").unlink()
    converted = load_tokenizer(model)
    for text in TEXTS[1:4]:
        token_ids = whole.encode(text, add_special_tokens=True)
        assert converted.encode(text, add_special_tokens=True) == token_ids
        assert converted.decode(token_ids) == whole.decode(token_ids)


@pytest.mark.skipif(
    importlib.util.find_spec("sentencepiece") is not None, reason="it can be converted"
)
def test_a_sentencepiece_model_says_what_it_needs(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    (model / "tokenizer.json").rename(model / "tokenizer.model")
    with pytest.raises(TokenizerMissingError, match="install sentencepiece"):
        load_tokenizer(model)


def test_eos_tokens_are_those_of_the_generation_config_and_the_tokenizer(tmp_path: Path) -> None:
    model = write_model(tmp_path, eos_token="<|user|>")
    assert read_model_files(model).eos_token_ids == (2, 4, 3)
    (model / "generation_config.json").unlink()
    assert read_model_files(model).eos_token_ids == (2, 3)


def test_a_directory_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError):
        read_model_files(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(TokenizerMissingError):
        read_model_files(tmp_path)
