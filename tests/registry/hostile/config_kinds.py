"""Hostile adapter_config.json: its text, its fields, its patterns."""

from collections.abc import Callable
from random import Random
from typing import Any

from adapter_format.config_fields import NEUTRAL
from adapter_format.violation import Reason
from tests.registry.hostile.draft import Draft
from tests.registry.hostile.kinds import Kind, Variant
from tests.registry.support import CONFIG

# Exponential time for matchers that backtrack.
_BACKTRACKING = (
    "(a|a)*b",
    "(.*.*)*!x",
    r"(\w|\w|.)*[0-9]{9}$z",
    "(([a-z_]+)*\\.)*Q",
    "(.?){200}Q",
    "(x+x+)+y",
)
_GROWING = (
    "((a{999}){999}){999}",
    "a{1000}" * 20,
    "(" * 40 + "a" + ")" * 40,
    "a{999999999}",
    "a|" * 3000,
)
_NOT_UNDERSTOOD = (
    "(a", "a)", r"(q)\1", "(?<=q)_proj", "(?i)q_proj", "(?P<n>q)", "[z-a]", "a{9,2}", "*", "\\",
    "(?>a)", "a++", "q_proj\\",
)  # fmt: skip


def _text(make: Callable[[bytes, Random], bytes]) -> Variant:
    """Another text in place of the whole file."""

    def spoil(draft: Draft, random: Random) -> str:
        draft.config_text = make(Draft.files(draft)[CONFIG], random)
        return CONFIG

    return spoil


def _set(field: str, *values: Any) -> Variant:
    """One of `values` in a field; a function among them draws one."""

    def spoil(draft: Draft, random: Random) -> str:
        value = random.choice(values)
        draft.config[field] = value(random) if callable(value) else value
        return f"{CONFIG}:{field}"

    return spoil


def _keys(field: str, patterns: tuple[str, ...], value: Any) -> Variant:
    """A pattern as a key of rank_pattern or alpha_pattern."""

    def spoil(draft: Draft, random: Random) -> str:
        draft.config[field] = {random.choice(patterns): value}
        return f"{CONFIG}:{field}"

    return spoil


def _deep(text: bytes, random: Random) -> bytes:
    depth = random.choice([40, 500, 990, 5000, 150_000])
    opened, closed = random.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return text[:-1] + b', "x": ' + opened * depth + b"0" + closed * depth + b"}"


def _unsupported(draft: Draft, random: Random) -> str:
    field = random.choice(sorted(NEUTRAL))
    draft.config[field] = random.choice([True, 1, "x", ["lm_head"], {"x": 1}])
    return f"{CONFIG}:{field}"


def _unknown_field(draft: Draft, random: Random) -> str:
    field = random.choice(["trust_remote_code", "_target_", "py_module", "custom"])
    draft.config[field] = random.choice([None, True, "os.system", {"a": 1}])
    return f"{CONFIG}:{field}"


CONFIG_KINDS = (
    Kind(
        "a config that is not JSON",
        Reason.JSON_INVALID,
        (
            _text(lambda t, r: t[: r.randrange(1, len(t))]),
            _text(lambda t, r: b"\xef\xbb\xbf" + t),
            _text(lambda t, r: t.replace(b'"r": ', b'"r": ' + b"9" * r.choice([4400, 500_000]))),
            _text(lambda t, r: t + r.choice([b"{}", b"\0", b",", b"]"])),
            _text(lambda t, r: r.choice([b"import os", b"<xml/>", b"r: 2", b"'", b"\x1b[31m"])),
        ),
    ),
    Kind(
        "a config that is not UTF-8",
        Reason.JSON_NOT_UTF8,
        (
            _text(lambda t, r: t.decode().encode("utf-16")),
            _text(lambda t, r: t[: (n := r.randrange(len(t)))] + b"\xff" + t[n:]),
            _text(
                lambda t, r: t.replace(b"LORA", r.choice([b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5"]))
            ),
        ),
    ),
    Kind(
        "a config that is no object",
        Reason.JSON_NOT_OBJECT,
        (_text(lambda t, r: r.choice([b"null", b"[]", b"7", b'"x"', b"[" + t + b"]"])),),
    ),
    Kind("a deep config", Reason.JSON_TOO_DEEP, (_text(_deep),)),
    Kind(
        "a key twice in the config",
        Reason.JSON_KEY_REPEATED,
        (
            _text(lambda t, r: t[:-1] + b', "r": 64}'),
            _text(lambda t, r: t[:-1] + b', "x": {"a": 1, "a": 1}}'),
            _text(lambda t, r: t[:-1] + b', "\\u0072": 64}'),
        ),
    ),
    Kind(
        "NaN in the config",
        Reason.JSON_CONSTANT,
        (_text(lambda t, r: t[:-1] + b', "x": ' + r.choice([b"NaN", b"-Infinity"]) + b"}"),),
    ),
    Kind(
        "code to import",
        Reason.CODE_REFERENCE,
        (_set("auto_mapping", {"base_model_class": "X", "parent_library": "os"}, "os", [], False),),
    ),
    Kind(
        "another base model",
        Reason.BASE_MODEL_OTHER,
        (
            _set("base_model_name_or_path", "meta/other", None, "", "../tiny", 7, ["x"]),
            _set("base_model_name_or_path", lambda r: "x" * r.choice([5000, 900_000])),
        ),
    ),
    Kind(
        "another revision of the base model",
        Reason.BASE_REVISION_OTHER,
        (_set("revision", "r2", "", "main", 1, lambda r: "r" * 100_000),),
    ),
    Kind(
        "a variant that is not supported",
        Reason.FIELD_UNSUPPORTED,
        (
            _unsupported,
            _set("peft_type", "LOHA", "lora", None, 1, []),
            _set("task_type", "SEQ_CLS", 1),
            _set("bias", "all", "lora_only", None),
        ),
    ),
    Kind("a field nobody knows", Reason.FIELD_UNKNOWN, (_unknown_field,)),
    Kind(
        "base weights that were changed",
        Reason.BASE_WEIGHTS_CHANGED,
        (_set("init_lora_weights", "pissa", "olora", "corda", "eva", "loftq", 7, [], "x" * 9999),),
    ),
    Kind(
        "a field of another type",
        Reason.FIELD_TYPE,
        (
            _set("use_rslora", 1, "true", None),
            _set("rank_pattern", ["q_proj"], 3, {f"a{n}": 1 for n in range(2000)}),
            _set("target_modules", None, [], 7, [1], {"q_proj": 1}, ["q_proj"] * 2000),
            _set("exclude_modules", 7, [1], {"q_proj": 1}, ["q_proj"] * 2000),
        ),
    ),
    Kind(
        "a rank that is none",
        Reason.RANK_INVALID,
        (
            _set("r", 0, -1, 2.0, True, "2", None, [], 1e308, -(10**400)),
            _set("rank_pattern", {"q_proj": 0}, {"q_proj": True}, {"q_proj": "2"}),
        ),
    ),
    Kind(
        "a rank beyond the limit",
        Reason.RANK_TOO_LARGE,
        (
            _set("r", 513, 2**31, 2**63, 10**400),
            _set("rank_pattern", {"q_proj": 10**9}),
        ),
    ),
    Kind(
        "an impossible alpha",
        Reason.ALPHA_INVALID,
        (
            _set("lora_alpha", 0, -1, "4", None, True, 1e10, 10**400, []),
            _set("alpha_pattern", {"q_proj": -1}, {"q_proj": "x"}, {"q_proj": 1e300}),
        ),
    ),
    Kind(
        "a target that is not there",
        Reason.TARGET_UNKNOWN,
        (
            _set("target_modules", ["lm_head"], ["embed_tokens"], ["../q_proj"], ["q_proj\0"]),
            _set("target_modules", lambda r: ["x" * r.choice([500, 900_000])]),
        ),
    ),
    Kind(
        "a pattern that matches what is no target",
        Reason.TARGET_NOT_ADAPTABLE,
        (_set("target_modules", ".*", ".*_proj|lm_head", "model.*", "(.*)*"),),
    ),
    Kind(
        "a regular expression that backtracks",
        Reason.TARGETS_EMPTY,
        (_set("target_modules", *_BACKTRACKING), _set("target_modules", "q_proj", "nothing")),
    ),
    Kind(
        "a regular expression that grows",
        Reason.PATTERN_TOO_COSTLY,
        (
            _set("target_modules", *_GROWING, lambda r: "x" * r.choice([5000, 900_000])),
            _set("exclude_modules", *_GROWING),
            _keys("rank_pattern", _GROWING, 2),
            _keys("alpha_pattern", _GROWING, 2),
        ),
    ),
    Kind(
        "a regular expression nobody understands",
        Reason.PATTERN_INVALID,
        (
            _set("target_modules", *_NOT_UNDERSTOOD),
            _set("exclude_modules", *_NOT_UNDERSTOOD),
            _keys("rank_pattern", _NOT_UNDERSTOOD[2:6], 2),
        ),
    ),
    Kind(
        "layers that are not there",
        Reason.LAYERS_INVALID,
        (
            _set("layers_to_transform", [2], -1, ["0"], [True], 1.0, 10**400, [[0]]),
            _set("layers_pattern", "h", ["blocks"], "(a|a)*b"),
        ),
    ),
)
