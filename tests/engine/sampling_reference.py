"""Sampling written down once more, naively: one row, float64, vLLM's formulae token by token."""

import math

from inference_service.engine.request import SamplingOptions


def distribution(
    logits: list[float], prompt: list[int], output: list[int], options: SamplingOptions
) -> list[float]:
    """The probability of every token to come next; all of it on the likeliest when greedy."""
    values = _penalized(_biased(logits, options), prompt, output, options)
    if len(output) < options.min_tokens:
        for token in options.stop_token_ids:
            values[token] = -math.inf
    if options.temperature < 1e-5:
        best = values.index(max(values))
        return [float(token == best) for token in range(len(values))]
    probabilities = _softmax([value / options.temperature for value in values])
    highest = max(probabilities)
    probabilities = [p if p >= options.min_p * highest else 0.0 for p in probabilities]
    if options.top_k:
        least = sorted(probabilities, reverse=True)[: options.top_k][-1]
        probabilities = [p if p >= least else 0.0 for p in probabilities]
    probabilities = _nucleus(_normed(probabilities), options.top_p)
    return _normed(probabilities)


def log_softmax(logits: list[float]) -> list[float]:
    highest = max(logits)
    total = math.log(math.fsum(math.exp(value - highest) for value in logits))
    return [value - highest - total for value in logits]


def _biased(logits: list[float], options: SamplingOptions) -> list[float]:
    return [value + options.logit_bias.get(token, 0.0) for token, value in enumerate(logits)]


def _penalized(
    logits: list[float], prompt: list[int], output: list[int], options: SamplingOptions
) -> list[float]:
    values = list(logits)
    for token in range(len(values)):
        if token in prompt or token in output:
            factor = options.repetition_penalty
            values[token] = values[token] / factor if values[token] > 0 else values[token] * factor
        values[token] -= options.frequency_penalty * output.count(token)
        values[token] -= options.presence_penalty * (token in output)
    return values


def _softmax(values: list[float]) -> list[float]:
    highest = max(values)
    return _normed([math.exp(value - highest) for value in values])


def _normed(weights: list[float]) -> list[float]:
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _nucleus(probabilities: list[float], top_p: float) -> list[float]:
    if top_p >= 1:
        return probabilities
    reached, least = 0.0, 1.0
    for probability in sorted(probabilities, reverse=True):
        if reached >= top_p:
            break
        reached, least = reached + probability, probability
    return [p if p >= least else 0.0 for p in probabilities]
