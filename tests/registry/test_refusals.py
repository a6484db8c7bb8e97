"""Every kind of adapter that is refused: by which code, for which reason, naming what."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lorikeet.rpc.errors import FailedPreconditionError, InvalidArgumentError, LorikeetError
from registry_service.artifacts.base_config import parse_base_config
from registry_service.artifacts.validation import AdapterFacts, BaseModelFacts, validate_adapter
from tests.registry.support import (
    BASE,
    BASE_CONFIG,
    CONFIG,
    REVISION,
    SOURCE,
    WEIGHTS,
    Adapter,
    fields,
    make_adapter,
    save_bfloat16,
    tensor_name,
)

Breakage = Callable[[Adapter], None]

Q0A = tensor_name(0, "self_attn.q_proj", "A")
Q0B = tensor_name(0, "self_attn.q_proj", "B")
D1A = tensor_name(1, "mlp.down_proj", "A")
D1B = tensor_name(1, "mlp.down_proj", "B")


def validate(adapter: Adapter, max_rank: int = 256) -> AdapterFacts:
    _, architecture = parse_base_config(json.dumps(BASE_CONFIG).encode())
    base = BaseModelFacts(BASE, SOURCE, ["other/name"], REVISION, architecture)
    files = adapter.files()
    weights = files[WEIGHTS]
    return validate_adapter(files[CONFIG], io.BytesIO(weights), len(weights), base, max_rank)


def refused(adapter: Adapter) -> LorikeetError:
    with pytest.raises((InvalidArgumentError, FailedPreconditionError)) as raised:
        validate(adapter)
    assert raised.value.violations
    return raised.value


def config(**changes: Any) -> Breakage:
    return lambda adapter: adapter.config.update(changes)


def text(change: Callable[[str], str]) -> Breakage:
    def apply(adapter: Adapter) -> None:
        adapter.config_text = change(json.dumps(adapter.config)).encode()

    return apply


def tensor(name: str, change: Callable[[Any], Any] | None) -> Breakage:
    def apply(adapter: Adapter) -> None:
        if change is None:
            del adapter.tensors[name]
        else:
            adapter.tensors[name] = change(adapter.tensors.get(name))

    return apply


def with_value(value: float, dtype: Any) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        changed = array.astype(dtype)
        changed.flat[-1] = value
        return changed

    return change


def bfloat16(name: str, value: float) -> Breakage:
    """All tensors as bfloat16, the upper half of a float32; one element of `name` is `value`."""

    def apply(adapter: Adapter) -> None:
        adapter.tensors[name] = with_value(value, np.float32)(adapter.tensors[name])
        adapter.weights = save_bfloat16(adapter.tensors)

    return apply


CONFIG_FIELDS: dict[str, Any] = {
    "peft_type": ["LOHA", "lora", None, 1],
    "task_type": ["SEQ_CLS", "FEATURE_EXTRACTION"],
    "r": [0, -1, 2.0, True, "2", None, 257],
    "lora_alpha": [0, -1, "4", None, True, 1e10, 10**400],
    "use_rslora": [1, "true", None],
    "use_dora": [True],
    "use_qalora": [True],
    "lora_bias": [True],
    "bias": ["all", "lora_only", None],
    "fan_in_fan_out": [True],
    "modules_to_save": [["lm_head"]],
    "target_parameters": [["experts.gate"]],
    "trainable_token_indices": [[1, 2], {"embed_tokens": [1]}],
    "exclude_modules": [7, [1], {"q_proj": 1}, "(q_proj", ["self_attn", "mlp"] * 600],
    "megatron_config": [{"a": 1}],
    "loftq_config": [{"loftq_bits": 4}],
    "eva_config": [{"rho": 2.0}],
    "corda_config": [{"x": 1}],
    "lora_ga_config": [{"x": 1}],
    "velora_config": [{"x": 1}],
    "kasa_config": [{"x": 1}],
    "monteclora_config": [{"x": 1}],
    "arrow_config": [{"x": 1}],
    "use_bdlora": [{"nblocks": 2}],
    "alora_invocation_tokens": [[1]],
    "layer_replication": [[[0, 1]]],
    "ensure_weight_tying": [True],
    "init_lora_weights": ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "eva", "mica", "x"],
    "target_modules": [
        None,
        [],
        "q_proj",
        ".*",
        ["q_proj", "lm_head"],
        ["embed_tokens"],
        [1],
        7,
        "(a",
        "a{9,2}",
        "(?<=q)_proj",
        "(?i)q_proj",
        r"(q)\1_proj",
        "x" * 5000,
        ".*_proj|lm_head",
    ],
    "rank_pattern": [{"(?<=a)b": 2}, {"q_proj": 0}, {"q_proj": 999}, ["q_proj"], {"q_(": 2}],
    "alpha_pattern": [{"(?i)[a-z]+": 2}, {"q_proj": -1}, {"q_proj": "x"}],
    "layers_to_transform": [[2], -1, ["0"], [True], 1.0],
    "layers_pattern": ["h", ["blocks"], "layers"],
    "some_new_field": [None, 1],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in CONFIG_FIELDS.items() for value in values],
)
def test_config_fields_are_refused_by_name(name: str, value: Any) -> None:
    adapter = make_adapter()
    config(**{name: value})(adapter)
    error = refused(adapter)
    assert isinstance(error, InvalidArgumentError)
    assert (error.reason, f"{CONFIG}:{name}" in fields(error)) == ("ADAPTER_INVALID", True)


@pytest.mark.parametrize(
    ("breakage", "named"),
    [
        (tensor(Q0A, None), Q0B),
        (tensor(Q0B, None), Q0A),
        (tensor(Q0A, lambda a: a[:1]), Q0A),
        (tensor(Q0A, lambda a: a[:, :-1]), Q0A),
        (tensor(Q0A, lambda a: a.T), Q0A),
        (tensor(D1B, lambda a: a[:-1]), D1B),
        (tensor(D1B, lambda a: a.reshape(-1)), D1B),
        (tensor(D1B, lambda a: a.astype(np.float64)), D1B),
        (tensor(D1B, lambda a: a.astype(np.int32)), D1B),
        (tensor(Q0A, with_value(np.nan, np.float32)), Q0A),
        (tensor(Q0A, with_value(np.inf, np.float16)), Q0A),
        (bfloat16(D1B, -np.inf), D1B),
        (bfloat16(D1B, np.nan), D1B),
        (tensor("base_model.model.lm_head.lora_A.weight", lambda _: np.ones((2, 2), "f")), None),
        (tensor("lora_A.weight", lambda _: np.ones((2, 2), "f")), None),
        (tensor(Q0A.replace("lora_A.weight", "lora_A.bias"), lambda _: np.ones(2, "f")), None),
        (tensor(Q0A.replace("weight", "default.weight"), lambda _: np.ones((2, 2), "f")), None),
        (tensor(Q0A.replace("layers.0", "layers.2"), lambda _: np.ones((2, 16), "f")), None),
        (tensor(Q0A.replace("layers.0", "layers.00"), lambda _: np.ones((2, 16), "f")), None),
        (tensor(Q0A.replace("q_proj", "x_proj"), lambda _: np.ones((2, 16), "f")), None),
        (tensor("../escape", lambda _: np.ones(1, "f")), "../escape"),
        (tensor("", lambda _: np.ones(1, "f")), ""),
        (tensor("empty", lambda _: np.ones((0, 2), "f")), "empty"),
        (config(r=3, lora_alpha=6), Q0A),
        (config(rank_pattern={"layers.1.mlp.down_proj": 4}), D1A),
        (config(target_modules=["q_proj"]), D1A),
        (config(layers_to_transform=0), D1A),
        (config(target_modules=["q_proj", "down_proj", "v_proj"]), "v_proj"),
        (config(target_modules="all-linear"), "up_proj"),
    ],
)
def test_tensors_are_refused_by_name(breakage: Breakage, named: str | None) -> None:
    adapter = make_adapter()
    before = set(adapter.tensors)
    breakage(adapter)
    expected = named if named is not None else (set(adapter.tensors) - before).pop()
    error = refused(adapter)
    assert any(expected in field for field in fields(error)), fields(error)


@pytest.mark.parametrize(
    "breakage",
    [
        text(lambda t: t[:-1]),
        text(lambda t: f"[{t}]"),
        text(lambda t: "null"),
        text(lambda t: t.replace('"r": 2', '"r": 2, "r": 4')),
        text(lambda t: t.replace('"r": 2', '"r": NaN')),
        text(lambda t: "[" * 100_000),
        text(lambda t: '{"r": ' + "9" * 5000 + "}"),
        lambda adapter: setattr(adapter, "config_text", b"\xff\xfe{}"),
    ],
)
def test_a_config_that_is_not_plain_json_is_refused(breakage: Breakage) -> None:
    adapter = make_adapter()
    breakage(adapter)
    assert fields(refused(adapter)) == [CONFIG]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base_model_name_or_path": "meta/other"}, "base_model_name_or_path"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path"),
        ({"revision": "r2"}, "revision"),
    ],
)
def test_another_base_model_is_a_failed_precondition(changes: dict[str, Any], named: str) -> None:
    adapter = make_adapter()
    config(**changes)(adapter)
    error = refused(adapter)
    assert isinstance(error, FailedPreconditionError)
    assert (error.reason, fields(error)) == ("BASE_MODEL_MISMATCH", [f"{CONFIG}:{named}"])


def test_code_to_import_is_unsafe() -> None:
    adapter = make_adapter()
    config(auto_mapping={"base_model_class": "Evil", "parent_library": "os"})(adapter)
    error = refused(adapter)
    assert (error.reason, fields(error)) == ("UNSAFE_FORMAT", [f"{CONFIG}:auto_mapping"])


def test_all_violations_are_reported_together() -> None:
    adapter = make_adapter()
    config(use_dora=True, bias="all")(adapter)
    tensor(Q0A, with_value(np.nan, np.float32))(adapter)
    assert set(fields(refused(adapter))) == {f"{CONFIG}:use_dora", f"{CONFIG}:bias", Q0A}


def test_a_flood_of_violations_still_fits_into_an_error() -> None:
    adapter = make_adapter()
    adapter.tensors |= {f"t.{i}.{'x' * 200}": np.ones(1, "f") for i in range(500)}
    error = refused(adapter)
    assert error.metadata["num_violations"] == "500"
    assert sum(len(v.field) + len(v.description) for v in error.violations) < 4000


@pytest.mark.parametrize(
    "breakage",
    [
        config(),
        config(base_model_name_or_path="other/name", revision=REVISION),
        config(task_type=None, auto_mapping=None, modules_to_save=None, loftq_config={}),
        config(init_lora_weights="gaussian", lora_dropout=0.1, megatron_core="megatron.core"),
        config(use_rslora=True, alpha_pattern={"^model.layers.0.mlp.down_proj": 3.5}),
        config(target_modules=["layers.0.self_attn.q_proj", "1.self_attn.q_proj", "down_proj"]),
        config(layers_to_transform=[0, 1], layers_pattern="layers"),
        config(r=8, rank_pattern={"q_proj": 2, r"mlp\.down_proj": 2}),
        tensor(Q0B, lambda a: a * 0),
        tensor(Q0B, lambda a: a.astype(np.float16)),
        bfloat16(Q0A, 3.0e38),
    ],
)
def test_variants_that_are_sound(breakage: Breakage) -> None:
    adapter = make_adapter()
    breakage(adapter)
    facts = validate(adapter)
    assert facts == AdapterFacts(2, ("down_proj", "q_proj"), 2 * 2 * (32 + 40))


def test_full_names_ignore_the_choice_of_layers_as_in_peft() -> None:
    adapter = make_adapter(modules=["self_attn.q_proj"])
    targets = ["model.layers.1.self_attn.q_proj", "q_proj"]
    config(layers_to_transform=[0], target_modules=targets)(adapter)
    assert validate(adapter).num_parameters == 2 * 2 * 32


def test_the_rank_limit_is_the_operators() -> None:
    adapter = make_adapter(rank=4)
    assert validate(adapter, max_rank=4).rank == 4
    with pytest.raises(InvalidArgumentError, match="largest rank served here is 3"):
        validate(adapter, max_rank=3)
