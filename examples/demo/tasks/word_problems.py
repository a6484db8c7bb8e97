"""math: a word problem on small numbers, answered by its steps and then the result."""

from __future__ import annotations

import random
from typing import Final

from examples.demo import words
from examples.demo.tasks.example import Draft, Example

# A problem's text and its operations in order: {a} and {b} enter the first, {c} the second.
TEMPLATES: Final = (
    ("{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?", "+"),
    ("There are {a} {things} on the table and {b} in the box. How many are there in all?", "+"),
    ("{name} picked {a} {things} in the morning and {b} in the evening. How many is that?", "+"),
    ("{name} had {a} {things} and gave {b} to {other}. How many {things} are left?", "-"),
    ("{name} has {a} {things} and {other} has {b}. How many more does {name} have?", "-"),
    ("A shop had {a} {things} and sold {b} of them. How many remain?", "-"),
    ("{name} has {a} {boxes} with {b} {things} in each. How many {things} is that?", "*"),
    ("One box of {things} costs {a} coins. How much do {b} boxes cost?", "*"),
    ("Every day {name} makes {a} {things}. How many does {name} make in {b} days?", "*"),
    ("{name} shares {a} {things} equally among {b} friends. How many does each get?", "/"),
    ("{name} puts {a} {things} into {b} {boxes}, the same number in each. How many per one?", "/"),
    ("{name} had {a} {things}, found {b} more and then lost {c}. How many are left?", "+-"),
    ("A shop had {a} {things}. It got {b} new ones and sold {c}. How many are there now?", "+-"),
    ("{name} had {a} {things}. {other} took {b}, but {name} bought {c}. How many now?", "-+"),
    ("{name} has {a} {things}, {other} has {b} and Max has {c}. How many do they have?", "++"),
    ("{name} had {a} {things}, gave {b} to {other} and lost {c}. How many are left?", "--"),
    ("{name} has {a} {boxes} of {b} {things} and {c} loose {things}. How many in all?", "*+"),
    ("{name} buys {a} {boxes} of {b} {things} and gives {c} away. How many are left?", "*-"),
    ("{name} has {a} {things} and {other} has {b}. They share them among {c} children. "
     "How many does each child get?", "+/"),
    ("{name} has {a} {things}, keeps {b} and shares the rest among {c} friends. "
     "How many does each friend get?", "-/"),
    ("Each box holds {a} red and {b} blue {things}. How many {things} are in {c} boxes?", "+*"),
    ("{a} {boxes} hold {b} {things} each. {c} children share them all. How many for each?", "*/"),
)  # fmt: skip

_LARGEST_FACTOR: Final = 9
_LARGEST_TERM: Final = 40


def _first_numbers(operation: str, rng: random.Random) -> tuple[int, int]:
    if operation == "+":
        return rng.randint(2, 50), rng.randint(2, _LARGEST_TERM)
    if operation == "-":
        difference, taken = rng.randint(1, 50), rng.randint(2, _LARGEST_TERM)
        return difference + taken, taken
    one, other = rng.randint(2, _LARGEST_FACTOR), rng.randint(2, _LARGEST_FACTOR)
    return (one, other) if operation == "*" else (one * other, other)


def _third_number(operation: str, result: int, rng: random.Random) -> int | None:
    """Draw a number to go on with from ``result``; None where no small one fits."""
    if operation == "+":
        return rng.randint(2, _LARGEST_TERM)
    if operation == "-":
        return rng.randint(1, min(result - 1, _LARGEST_TERM)) if result > 1 else None
    factors = range(2, _LARGEST_FACTOR + 1)
    if operation == "*":
        return rng.choice(factors) if result <= _LARGEST_FACTOR else None
    fitting = [factor for factor in factors if result in range(factor * 2, factor * 10, factor)]
    return rng.choice(fitting) if fitting else None


def calculate(left: int, operation: str, right: int) -> int:
    """Apply one operation; division is exact wherever a problem uses it."""
    results = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}
    return results[operation]


def _draw_numbers(operations: str, rng: random.Random) -> tuple[int, ...]:
    while True:
        a, b = _first_numbers(operations[0], rng)
        if len(operations) == 1:
            return a, b
        c = _third_number(operations[1], calculate(a, operations[0], b), rng)
        if c is not None:
            return a, b, c


def worked_answer(operations: str, numbers: tuple[int, ...]) -> str:
    """Write the steps, one a line, and the result below them."""
    lines: list[str] = []
    total = numbers[0]
    for operation, number in zip(operations, numbers[1:], strict=True):
        result = calculate(total, operation, number)
        lines.append(f"{total} {operation} {number} = {result}")
        total = result
    return "\n".join([*lines, f"Answer: {total}"])


def draw_word_problem(rng: random.Random) -> Draft:
    """Draw a problem with its people, things and numbers."""
    text, operations = rng.choice(TEMPLATES)
    numbers = _draw_numbers(operations, rng)
    name, other = rng.sample(words.PEOPLE, 2)
    things = rng.choice(words.OBJECTS)
    asked = text.format(
        name=name,
        other=other,
        things=things,
        boxes=rng.choice(words.CONTAINERS),
        **dict(zip("abc", numbers, strict=False)),
    )
    example = Example(({"role": "user", "content": asked},), worked_answer(operations, numbers))
    return Draft(template=text, entity=things, values=str(numbers), example=example)
