"""The demo's tokenizer and chat template."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError

from examples.demo.chat_format import END, ROLES, SPECIAL_TOKENS, render_chat
from examples.demo.corpus.copying import KEYS, WORD_LISTS
from examples.demo.layout import BASE_DIR
from examples.demo.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer(BASE_DIR)

MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": st.text()}),
    min_size=1,
    max_size=5,
)


@given(st.text())
def test_any_text_round_trips(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids) == text


@given(MESSAGES, st.booleans())
def test_template_matches_its_python_twin(messages: list[dict[str, str]], ask: bool) -> None:
    rendered = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    assert rendered == render_chat(messages, add_generation_prompt=ask)


def test_template_refuses_an_unknown_role() -> None:
    with pytest.raises(TemplateError, match="unknown role: wizard"):
        TOKENIZER.apply_chat_template([{"role": "wizard", "content": "hi"}], tokenize=False)


def test_markers_are_single_tokens() -> None:
    for marker in SPECIAL_TOKENS:
        assert len(TOKENIZER.encode(marker, add_special_tokens=False)) == 1
    assert TOKENIZER.eos_token == END


def test_digits_are_split_one_by_one() -> None:
    assert TOKENIZER.tokenize("2048") == ["2", "0", "4", "8"]


def test_shared_words_are_whole_in_prose_and_nearly_all_in_quotes() -> None:
    """What a task copies is one token on both sides, or copying would be a spelling exercise."""
    shared = {word for words in WORD_LISTS for word in words} | set(KEYS)
    assert all(len(TOKENIZER.tokenize(f" {word}")) == 1 for word in shared)
    whole = [word for word in shared if len(TOKENIZER.tokenize(f"'{word}'")) == 3]
    assert len(whole) >= 0.97 * len(shared)
