"""The sampling settings of `generate` and `chat`, as options that both have."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, cast

import typer

from lorikeet.generation import Sampling

_PANEL = "Sampling"


def _option(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_PANEL)


_OPTIONS: dict[str, Any] = {
    "max_tokens": Annotated[int, _option("--max-tokens", "-m", help="At most so many tokens.")],
    "min_tokens": Annotated[int | None, _option("--min-tokens", help="Does not stop before.")],
    "temperature": Annotated[float | None, _option("--temperature", help="0 is greedy.")],
    "top_p": Annotated[float | None, _option("--top-p", help="In (0, 1].")],
    "top_k": Annotated[int | None, _option("--top-k", help="0 is every token.")],
    "min_p": Annotated[
        float | None, _option("--min-p", help="In [0, 1], relative to the likeliest token.")
    ],
    "repetition_penalty": Annotated[
        float | None, _option("--repetition-penalty", help="Above 1: less of what was said.")
    ],
    "presence_penalty": Annotated[float | None, _option("--presence-penalty", help="In [-2, 2].")],
    "frequency_penalty": Annotated[
        float | None, _option("--frequency-penalty", help="In [-2, 2].")
    ],
    "logit_bias": Annotated[
        list[str] | None, _option("--logit-bias", help="ID=BIAS; bias in [-100, 100].")
    ],
    "seed": Annotated[int | None, _option("--seed", help="For the same text twice.")],
    "n": Annotated[int | None, _option("--n", "-n", help="So many completions.")],
    "stop": Annotated[list[str] | None, _option("--stop", help="A string that ends the text.")],
    "stop_token_ids": Annotated[
        list[int] | None, _option("--stop-token-id", help="A token that ends the text.")
    ],
    "ignore_eos": Annotated[
        bool | None, _option("--ignore-eos", help="Go on after the model's end of text.")
    ],
    "include_stop_str_in_output": Annotated[
        bool | None, _option("--include-stop", help="Show what ended the text.")
    ],
    "logprobs": Annotated[
        int | None,
        _option("--logprobs", help="0 to 20: each token's logprob, and so many likeliest tokens."),
    ],
    "prompt_logprobs": Annotated[
        int | None, _option("--prompt-logprobs", help="The same for the prompt.")
    ],
}
_MAX_TOKENS = 256


def with_sampling(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options; it gets what was set as its argument `sampling`."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.name != "sampling"]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_MAX_TOKENS if name == "max_tokens" else None,
            annotation=annotation,
        )
        for name, annotation in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def wrapped(**arguments: Any) -> None:
        settings = {name: arguments.pop(name) for name in _OPTIONS}
        command(**arguments, sampling=_sampling(settings))

    wrapped.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in [*own, *options]}
    return wrapped


def _sampling(settings: dict[str, Any]) -> Sampling:
    """Only what was asked for, so that the adapter's own defaults hold for the rest."""
    asked = {name: value for name, value in settings.items() if value not in (None, [])}
    if "logit_bias" in asked:
        asked["logit_bias"] = dict(map(_bias, asked["logit_bias"]))
    return cast("Sampling", asked)


def _bias(text: str) -> tuple[int, float]:
    token_id, _, bias = text.partition("=")
    try:
        return int(token_id), float(bias)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not ID=BIAS, for instance 42=-1.5", param_hint="--logit-bias"
        ) from None
