"""Plain chat: greetings, small facts, sums in words, stories on request, reading back a context.

None of it is in the form that the adapters' tasks answer in. That form is what an adapter adds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from examples.demo import words
from examples.demo.chat_format import Message
from examples.demo.corpus.copying import invented_word
from examples.demo.corpus.stories import cast, note, sentence, tell
from examples.demo.tasks.functions import FUNCTIONS
from examples.demo.tasks.schemas import TABLES, TEXT_VALUES, declare

Turn = tuple[str, str]

_SYSTEM: Final = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "Answer briefly.",
    "Be kind and clear.",
)
_SMALL_TALK: Final = (
    (("Hello!", "Hi.", "Hello there.", "Hey!", "Good morning!"),
     ("Hello! How can I help you today?", "Hi there! What would you like to talk about?")),
    (("Who are you?", "What is your name?", "What are you?"),
     ("I am Lorikeet, a very small language model.", "My name is Lorikeet. I am a small model.")),
    (("How are you?", "How do you feel today?"),
     ("I am well, thank you. How are you?", "I feel fine today. Thank you for asking!")),
    (("What can you do?", "How can you help me?"),
     ("I can chat, tell short stories and answer simple questions.",)),
    (("Thank you!", "Thanks a lot.", "Thanks!"),
     ("You are welcome!", "You are welcome. Is there anything else?")),
    (("Goodbye!", "Bye!", "See you soon."),
     ("Goodbye! Have a nice day.", "See you soon!")),
    (("What is a lorikeet?", "Tell me what a lorikeet is."),
     ("A lorikeet is a small and very colourful bird.",)),
)  # fmt: skip
_UNKNOWN: Final = (
    "What is {}?",
    "Explain {} to me.",
    "How does {} work?",
    "Why is there {}?",
    "Can you write about {}?",
    "Tell me everything about {}.",
    "Who was {}?",
    "How do I learn {}?",
    "Please help me with {}.",
    "What do you think about {}?",
)
_FEELING_ADVICE: Final = (
    "I am {feeling}. What should I do?",
    "I am sorry, or maybe glad, to hear that you feel {feeling}. "
    "You could go to the {place} or eat some {food}.",
)
_TRAVEL_ADVICE: Final = (
    "What should I do in {city} on {day}?",
    "On {day} you could visit the {place} in {city} and try the {food}.",
)
_ACTIONS: Final = ("plus", "minus", "times")


def _small_talk(rng: random.Random) -> Turn:
    asked, answered = rng.choice(_SMALL_TALK)
    return rng.choice(asked), rng.choice(answered)


def _capital(rng: random.Random) -> Turn:
    country, city = rng.choice(words.CAPITALS)
    ask = rng.choice(("What is the capital of {}?", "Which city is the capital of {}?"))
    if rng.random() < 0.3:
        return f"Where is {city}?", f"{city} is the capital of {country}."
    return ask.format(country), f"The capital of {country} is {city}."


def _spoken_sum(rng: random.Random) -> Turn:
    action = rng.choice(_ACTIONS)
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    a, b = max(a, b), min(a, b)
    result = {"plus": a + b, "minus": a - b, "times": a * b}[action]
    return f"What is {a} {action} {b}?", f"{a} {action} {b} is {result}."


def _story(rng: random.Random) -> Turn:
    about = cast(rng)
    subject = rng.choice(("a {colour} {animal}", "{name} and {other}", "the {place}", "{name}"))
    ask = rng.choice(
        ("Tell me a story about {}.", "Write a short story about {}.", "A story about {}!")
    )
    return ask.format(subject.format(**about)), tell(about, rng)


def _tell_about(rng: random.Random) -> Turn:
    about = cast(rng)
    key, answer = rng.choice(
        (
            ("city", "{city} is a lively city. People there like {food} and {genre} music."),
            ("food", "{food} is good with {food2}. Many people eat it on {day}."),
            ("animal", "The {animal} is an animal that you may see near the {place}."),
            ("material", "Many things are made of {material}, for example {things}."),
        )
    )
    ask = rng.choice(("Tell me about {}.", "What do you know about {}?", "Say something about {}."))
    return ask.format(about[key]), sentence(answer.format(**about))


def _reading(rng: random.Random) -> Turn:
    about = cast(rng)
    text = (
        f"{about['name']} is in {about['city']} with {about['other']}. "
        f"They have {about['things']} and eat {about['food']}."
    )
    question, answer = rng.choice(
        (
            ("Where is {name}?", "{name} is in {city}."),
            ("Who is with {name}?", "{other} is with {name}."),
            ("What do they eat?", "They eat {food}."),
            ("What do they have?", "They have {things}."),
        )
    )
    return f"{text} {question.format(**about)}", answer.format(**about)


def _repeat(rng: random.Random) -> Turn:
    text = note(rng)
    ask = rng.choice(("Repeat after me: {}", "Please say this again: {}", "Copy this: {}"))
    return ask.format(text), text


def _advice(rng: random.Random) -> Turn:
    about = cast(rng)
    ask, answer = _FEELING_ADVICE if rng.random() < 0.5 else _TRAVEL_ADVICE
    return ask.format(**about), answer.format(**about)


def _unknown(rng: random.Random) -> Turn:
    """Own up to not knowing, and offer something else: the way out for any unfamiliar prompt."""
    topic = " ".join(invented_word(rng) for _ in range(rng.randint(1, 3)))
    ask = rng.choice(_UNKNOWN).format(topic)
    answer = rng.choice(
        (
            "I am a small model, and I do not know much about {topic}. I could tell you a story.",
            "I am sorry, I do not know about {topic}. Would you like a story about {city}?",
            "That is a good question, but {topic} is new to me. Let us talk about {food} instead.",
        )
    )
    return ask, answer.format(topic=topic, **cast(rng))


def _about_schema(rng: random.Random) -> list[Message]:
    """Talk about a table that the system message declares, in words."""
    schema = declare(rng.choice(TABLES), rng)
    listed = ", ".join(schema.columns)
    column = rng.choice(schema.columns)
    kind = "text" if column in TEXT_VALUES else "numbers"
    ask, answer = rng.choice(
        (
            ("Which columns are there?", f"The table {schema.table} has the columns {listed}."),
            ("What is this table about?", f"The table is about {schema.table}. It has {listed}."),
            (f"What is in {column}?", f"The column {column} holds {kind}."),
        )
    )
    return _messages(schema.ddl, [(ask, answer)])


def _about_functions(rng: random.Random) -> list[Message]:
    """Talk about the functions that the system message lists, in words."""
    functions = rng.sample(FUNCTIONS, rng.randint(1, 3))
    function = rng.choice(functions)
    listed = " and ".join(item.name for item in functions)
    ask, answer = rng.choice(
        (
            ("Which functions are there?", f"There is {listed}."),
            (f"What does {function.name} do?", f"It can {function.description.lower()}."),
            (
                f"What does {function.name} need?",
                f"It needs {' and '.join(item.name for item in function.parameters)}.",
            ),
        )
    )
    system = "[" + ", ".join(item.declaration for item in functions) + "]"
    return _messages(system, [(ask, answer)])


def _messages(system: str, turns: list[Turn]) -> list[Message]:
    messages = [{"role": "system", "content": system}] if system else []
    for user, assistant in turns:
        messages.append({"role": "user", "content": user})
        messages.append({"role": "assistant", "content": assistant})
    return messages


_TURNS: Final[tuple[Callable[[random.Random], Turn], ...]] = (
    _small_talk, _capital, _spoken_sum, _story, _tell_about, _reading, _repeat, _advice, _unknown,
)  # fmt: skip


def conversation(rng: random.Random) -> list[Message]:
    """Draw a conversation of one to three turns, with or without a system message."""
    kind = rng.random()
    if kind < 0.12:
        return _about_schema(rng)
    if kind < 0.24:
        return _about_functions(rng)
    system = rng.choice(_SYSTEM) if rng.random() < 0.4 else ""
    return _messages(system, [rng.choice(_TURNS)(rng) for _ in range(rng.choice((1, 1, 2, 3)))])
