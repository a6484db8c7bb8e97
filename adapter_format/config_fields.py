"""Every field of a PEFT LoRA config: read, required to be neutral, or known to be harmless.

A field that is in none of these lists is refused by name: it may change what the adapter computes.
The names are those of PEFT 0.21's LoraConfig.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from adapter_format.violation import Reason, Violation, shown

CONFIG_FILE = "adapter_config.json"

# Read by lora_config.
READ = frozenset(
    {
        "alpha_pattern",
        "base_model_name_or_path",
        "exclude_modules",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "peft_type",
        "r",
        "rank_pattern",
        "revision",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)

# Only matter while training or to other variants.
HARMLESS = frozenset(
    {
        "inference_mode",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "runtime_config",
    }
)

# Anything but null, false or empty asks for something this service cannot do.
NEUTRAL: Mapping[str, str] = {
    "alora_invocation_tokens": "activated LoRA is not supported",
    "arrow_config": "Arrow routing is not supported",
    "corda_config": "CorDA changes the base weights: convert the adapter when saving it",
    "ensure_weight_tying": "tied adapters are not supported",
    "eva_config": "EVA only matters while training: set it to null, init_lora_weights to true",
    "fan_in_fan_out": "transposed base weights are not supported",
    "kasa_config": "KaSA is not supported",
    "layer_replication": "replicated layers are not supported",
    "loftq_config": "LoftQ changes the base weights: convert the adapter when saving it",
    "lora_bias": "biases in LoRA matrices are not supported",
    "lora_ga_config": "LoRA-GA changes the base weights: convert the adapter when saving it",
    "megatron_config": "Megatron layers are not supported",
    "modules_to_save": "fully trained modules are not supported",
    "monteclora_config": "MonteCLoRA is not supported",
    "target_parameters": "adapted parameters are not supported: adapt modules",
    "trainable_token_indices": "trained tokens are not supported",
    "use_bdlora": "block-diagonal LoRA is not supported",
    "use_dora": "DoRA is not supported",
    "use_qalora": "QALoRA is not supported",
    "velora_config": "VeLoRA is not supported",
}

# Initialisations after which the base weights are still the published ones.
_INIT_NAMES = frozenset({"gaussian", "orthogonal"})


def field_violations(config: Mapping[str, Any]) -> Iterator[Violation]:
    """What a config asks for and is not supported."""
    for name, value in config.items():
        if name in NEUTRAL:
            # `in` would take 0 for False.
            if not (value is None or value is False or value in ([], {}, "")):
                description = f"is {shown(value)}, but {NEUTRAL[name]}"
                yield _refused(name, Reason.FIELD_UNSUPPORTED, description)
        elif name == "bias":
            if value != "none":
                description = f"is {shown(value)}: only 'none' is supported"
                yield _refused(name, Reason.FIELD_UNSUPPORTED, description)
        elif name not in READ and name not in HARMLESS and name != "auto_mapping":
            description = "is not a field of PEFT's LoraConfig: remove it"
            yield _refused(name, Reason.FIELD_UNKNOWN, description)
    yield from _init_violations(config.get("init_lora_weights", True))


def _init_violations(value: Any) -> Iterator[Violation]:
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, str) or value not in _INIT_NAMES:
        yield _refused(
            "init_lora_weights",
            Reason.BASE_WEIGHTS_CHANGED,
            f"is {shown(value)}, which may need other base weights than the published ones: "
            "convert the adapter when saving it (path_initial_model_for_weight_conversion)",
        )


def unsafe_violations(config: Mapping[str, Any]) -> Iterator[Violation]:
    """Fields that would make a reader import code."""
    if config.get("auto_mapping") is not None:
        description = "names code to import, which is never done: set it to null"
        yield _refused("auto_mapping", Reason.CODE_REFERENCE, description)


def _refused(name: str, reason: Reason, description: str) -> Violation:
    field = name if name.isidentifier() and len(name) <= 64 else shown(name)
    return Violation(f"{CONFIG_FILE}:{field}", reason, description)
