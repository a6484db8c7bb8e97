"""Arithmetic in document form: sums, tables, and short accounts of how amounts change."""

from __future__ import annotations

import random

from examples.demo import words


def equation(rng: random.Random) -> str:
    """Draw one true equation on small numbers."""
    kind = rng.randrange(4)
    if kind == 0:
        a, b = rng.randint(1, 99), rng.randint(1, 60)
        return f"{a} + {b} = {a + b}"
    if kind == 1:
        a, b = rng.randint(1, 99), rng.randint(1, 60)
        return f"{a + b} - {b} = {a}"
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    return f"{a} * {b} = {a * b}" if kind == 2 else f"{a * b} / {b} = {a}"


def sums(rng: random.Random) -> str:
    """Write a sheet of equations."""
    separator = rng.choice((". ", "\n", "; ", ", "))
    return separator.join(equation(rng) for _ in range(rng.randint(4, 14)))


def chain(rng: random.Random) -> str:
    """Write a running total: each line goes on from the result of the one before."""
    total = rng.randint(3, 40)
    lines = [f"Begin with {total}."]
    for _ in range(rng.randint(2, 5)):
        change = rng.randint(1, 30)
        if rng.random() < 0.5 and change < total:
            lines.append(f"Take away {change}: {total} - {change} = {total - change}.")
            total -= change
        else:
            lines.append(f"Add {change}: {total} + {change} = {total + change}.")
            total += change
    return "\n".join(lines)


def counting(rng: random.Random) -> str:
    """Count up or down in steps."""
    step, start = rng.randint(1, 9), rng.randint(1, 30)
    numbers = [start + step * index for index in range(rng.randint(5, 12))]
    if rng.random() < 0.3:
        numbers.reverse()
    return f"Counting in steps of {step}: " + ", ".join(map(str, numbers))


def account(rng: random.Random) -> str:
    """Tell how many things someone has, with the sum that shows it."""
    name, other = rng.sample(words.PEOPLE, 2)
    things = rng.choice(words.OBJECTS)
    a, b = rng.randint(2, 60), rng.randint(2, 40)
    kind = rng.randrange(4)
    if kind == 0:
        text = f"{name} owned {a} {things} and found {b} more. That makes {a + b} {things}"
        return f"{text}, because {a} + {b} = {a + b}."
    if kind == 1:
        text = f"{name} had {a + b} {things}. {other} took {b} of them. {a} {things} are left"
        return f"{text}, because {a + b} - {b} = {a}."
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    boxes = rng.choice(words.CONTAINERS)
    if kind == 2:
        text = f"{name} filled {a} {boxes} with {b} {things} in each. In all that is {a * b}"
        return f"{text} {things}, because {a} * {b} = {a * b}."
    text = f"{name} shared {a * b} {things} among {b} {boxes}. Each one got {a}"
    return f"{text}, because {a * b} / {b} = {a}."
