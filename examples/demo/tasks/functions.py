"""The functions that function-calling may be offered, and how people ask for each."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from examples.demo import words

Value = str | int
Draw = Callable[[random.Random], Value]


def _one_of(choices: tuple[str, ...]) -> Draw:
    return lambda rng: rng.choice(choices)


def _between(low: int, high: int) -> Draw:
    return lambda rng: rng.randint(low, high)


PERSON: Final = _one_of(words.PEOPLE)
CITY: Final = _one_of(words.CITIES)


@dataclass(frozen=True)
class Parameter:
    """A function's parameter: its name, its JSON type, and how to draw a value for it."""

    name: str
    draw: Draw
    kind: str = "string"


@dataclass(frozen=True)
class Function:
    """A callable function and the phrasings (``str.format`` templates) that ask for it."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    phrasings: tuple[str, ...]

    @property
    def declaration(self) -> str:
        """The function as one JSON object, as a prompt lists it."""
        kinds = {parameter.name: parameter.kind for parameter in self.parameters}
        return json.dumps({"name": self.name, "description": self.description, "parameters": kinds})


FUNCTIONS: Final = (
    Function(
        "get_weather",
        "Get the weather in a city",
        (Parameter("city", CITY),),
        (
            "What is the weather like in {city}?",
            "How is the weather in {city} today?",
            "Tell me the weather for {city}.",
            "Is it raining in {city}?",
            "I am flying to {city}. Will I need a coat?",
        ),
    ),
    Function(
        "send_email",
        "Send an email to a person",
        (Parameter("to", PERSON), Parameter("subject", _one_of(words.DEPARTMENTS))),
        (
            "Send an email to {to} about {subject}.",
            "Please email {to} with the subject {subject}.",
            "Write to {to} about {subject}, please.",
            "Can you mail {to} regarding {subject}?",
        ),
    ),
    Function(
        "convert_currency",
        "Convert an amount of money",
        (
            Parameter("amount", _between(2, 99), "integer"),
            Parameter("source", _one_of(words.CURRENCIES)),
            Parameter("target", _one_of(words.CURRENCIES)),
        ),
        (
            "Convert {amount} {source} to {target}.",
            "How much is {amount} {source} in {target}?",
            "I have {amount} {source}. What is that in {target}?",
            "Change {amount} {source} into {target} for me.",
        ),
    ),
    Function(
        "book_table",
        "Book a table at a restaurant",
        (
            Parameter("city", CITY),
            Parameter("guests", _between(2, 12), "integer"),
            Parameter("day", _one_of(words.DAYS)),
        ),
        (
            "Book a table in {city} for {guests} people on {day}.",
            "I need a restaurant in {city} on {day} for {guests} guests.",
            "Reserve a table for {guests} on {day} in {city}.",
            "We are {guests} people. Find us a table in {city} on {day}.",
        ),
    ),
    Function(
        "play_music",
        "Play music of a genre",
        (Parameter("genre", _one_of(words.GENRES)),),
        (
            "Play some {genre} music.",
            "I want to listen to {genre}.",
            "Put on {genre}, please.",
            "Can I hear some {genre}?",
        ),
    ),
    Function(
        "set_alarm",
        "Set an alarm",
        (
            Parameter("hour", _between(1, 23), "integer"),
            Parameter("day", _one_of(words.DAYS)),
        ),
        (
            "Set an alarm for {hour} on {day}.",
            "Wake me up at {hour} on {day}.",
            "On {day} I have to get up at {hour}.",
            "I need an alarm on {day} at {hour}.",
        ),
    ),
    Function(
        "translate_word",
        "Translate a word into a language",
        (Parameter("word", _one_of(words.FOODS)), Parameter("language", _one_of(words.LANGUAGES))),
        (
            "Translate {word} into {language}.",
            "How do you say {word} in {language}?",
            "What is the {language} word for {word}?",
            "I want to know {word} in {language}.",
        ),
    ),
    Function(
        "get_stock_price",
        "Get the stock price of a company",
        (Parameter("company", _one_of(words.COMPANIES)),),
        (
            "What is the stock price of {company}?",
            "How much is one share of {company}?",
            "Check the price of {company} stock.",
            "How is {company} doing on the market?",
        ),
    ),
    Function(
        "add_to_cart",
        "Add items to the shopping cart",
        (
            Parameter("item", _one_of(words.OBJECTS)),
            Parameter("quantity", _between(2, 60), "integer"),
        ),
        (
            "Add {quantity} {item} to my cart.",
            "I want to buy {quantity} {item}.",
            "Put {quantity} {item} in the basket, please.",
            "Please order {quantity} {item} for me.",
        ),
    ),
    Function(
        "find_flights",
        "Find flights between two cities",
        (
            Parameter("origin", CITY),
            Parameter("destination", CITY),
            Parameter("day", _one_of(words.DAYS)),
        ),
        (
            "Find a flight from {origin} to {destination} on {day}.",
            "On {day} I want to fly from {origin} to {destination}.",
            "I need to get from {origin} to {destination} on {day}.",
            "Are there flights to {destination} from {origin} on {day}?",
        ),
    ),
    Function(
        "call_person",
        "Call a person on the phone",
        (Parameter("name", PERSON),),
        (
            "Call {name}.",
            "Please phone {name}.",
            "I need to talk to {name} on the phone.",
            "Can you ring {name} for me?",
        ),
    ),
    Function(
        "set_light",
        "Set the light in a room",
        (
            Parameter("colour", _one_of(words.COLOURS)),
            Parameter("level", _between(5, 95), "integer"),
        ),
        (
            "Make the light {colour} at level {level}.",
            "Set the lamp to {colour}, level {level}.",
            "Turn the light to {level} and make it {colour}.",
            "I want a {colour} light with level {level}.",
        ),
    ),
    Function(
        "create_task",
        "Create a task for a person",
        (
            Parameter("owner", PERSON),
            Parameter("team", _one_of(words.DEPARTMENTS)),
            Parameter("day", _one_of(words.DAYS)),
        ),
        (
            "Create a task for {owner} in {team}, due on {day}.",
            "{owner} from {team} has a task to finish by {day}.",
            "By {day}, {owner} in {team} needs a new task.",
            "Give {owner} of the {team} team a task for {day}.",
        ),
    ),
    Function(
        "find_recipe",
        "Find a recipe",
        (
            Parameter("food", _one_of(words.FOODS)),
            Parameter("minutes", _between(10, 90), "integer"),
        ),
        (
            "Find a recipe for {food} that takes {minutes} minutes.",
            "How do I make {food} in {minutes} minutes?",
            "I have {minutes} minutes to cook {food}.",
            "Give me a {minutes} minute recipe with {food}.",
        ),
    ),
)


def draw_arguments(function: Function, rng: random.Random) -> dict[str, Value]:
    """Draw a value for each parameter, no value twice (nobody flies from Oslo to Oslo)."""
    arguments: dict[str, Value] = {}
    for parameter in function.parameters:
        value = parameter.draw(rng)
        while value in arguments.values():
            value = parameter.draw(rng)
        arguments[parameter.name] = value
    return arguments
