"""Incremental detokenization: the pieces make the whole, and no piece has half a character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from inference_service.detokenizer import IncrementalDetokenizer
from tests.inference.tokenizer_files import SPECIAL, byte_fallback_json, byte_level_json

BYTE_LEVEL = Tokenizer.from_str(byte_level_json())
BYTE_FALLBACK = Tokenizer.from_str(byte_fallback_json())
SPECIAL_IDS = frozenset(range(len(SPECIAL)))


def pieces_of(tokenizer: Tokenizer, token_ids: list[int]) -> list[str]:
    detokenizer = IncrementalDetokenizer(tokenizer.decode, SPECIAL_IDS)
    return [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.flush()]


@given(st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1), max_size=60))
def test_any_byte_level_tokens_decode_as_a_whole(token_ids: list[int]) -> None:
    assert "".join(pieces_of(BYTE_LEVEL, token_ids)) == BYTE_LEVEL.decode(token_ids)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK], ids=["level", "fallback"])
@given(text=st.text(max_size=40), data=st.data())
def test_text_comes_back_with_special_tokens_anywhere(
    tokenizer: Tokenizer, text: str, data: st.DataObject
) -> None:
    token_ids = tokenizer.encode(text, add_special_tokens=False).ids
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(token_ids)))
        token_ids.insert(place, data.draw(st.sampled_from(sorted(SPECIAL_IDS))))
    assert "".join(pieces_of(tokenizer, token_ids)) == tokenizer.decode(token_ids)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK], ids=["level", "fallback"])
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="�"), max_size=40))
def test_no_piece_has_half_a_character(tokenizer: Tokenizer, text: str) -> None:
    token_ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert not any("�" in piece for piece in pieces_of(tokenizer, token_ids))


@given(st.lists(st.integers(0, BYTE_FALLBACK.get_vocab_size() - 1), max_size=60))
def test_any_byte_fallback_tokens_keep_their_readable_text(token_ids: list[int]) -> None:
    """A broken run of bytes may be replaced otherwise than in one go: what was sent stays sent."""
    streamed, whole = "".join(pieces_of(BYTE_FALLBACK, token_ids)), BYTE_FALLBACK.decode(token_ids)
    if "�" not in whole:
        assert streamed == whole
    else:
        ascii_of = [[c for c in text if " " < c < "\x7f"] for text in (streamed, whole)]
        assert len(ascii_of[0]) >= len(ascii_of[1])


def test_a_character_is_sent_with_its_last_byte() -> None:
    parrot = BYTE_FALLBACK.encode("🦜", add_special_tokens=False).ids[-4:]
    assert pieces_of(BYTE_FALLBACK, parrot) == ["", "", "", "🦜", ""]


def test_an_unfinished_character_is_replaced_at_the_end() -> None:
    half = BYTE_LEVEL.encode("good 🦜").ids[:-1]
    assert "".join(pieces_of(BYTE_LEVEL, half)) == "good �"


def test_a_long_run_of_undecodable_bytes_does_not_wait_for_its_end() -> None:
    byte_80 = BYTE_LEVEL.get_vocab()["Ģ"]  # 0x80 in the byte-level alphabet
    pieces = pieces_of(BYTE_LEVEL, [byte_80] * 200)
    assert all(pieces[4:])
    assert "".join(pieces) == "�" * 200
