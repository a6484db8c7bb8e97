"""Short stories and notes from sentence templates: the plain English of the corpus."""

from __future__ import annotations

import random
from typing import Final

from examples.demo import words

_OPENINGS: Final = (
    "One {day}, {name} went to the {place} with a {colour} {animal}.",
    "{name} lived in {city} near an old {place}.",
    "Once there was a {feeling} {animal} who lived by the {place}.",
    "On {day} morning {name} woke up and felt {feeling}.",
    "A long time ago a {colour} {animal} came to the {place}.",
    "{name} and {other} met at the {place} in {city}.",
    "It was a cold {day} in {city}, and {name} was {feeling}.",
)
_MIDDLES: Final = (
    "There {name} found some {things} under a tree.",
    "The {animal} looked at {name} and asked for some {food}.",
    "{other} was there too, eating {food} and singing a song.",
    "{name} wanted to give {other} a present made of {material}.",
    "They walked to the {place2} and talked about {food}.",
    "Then it began to rain, so they all ran to the {place2}.",
    "{name} said that the {animal} should not be so {feeling}.",
    "The {animal} had lost its {colour} hat near the {place2}.",
    "Nobody knew where the {things} came from.",
    "{other} told a story about {country}, and everybody listened.",
    "{name} gave the {things} to {other}, who smiled.",
    "After a while {name} learned to say hello in {language}.",
    "The people of {city} were kind and shared their {food}.",
)
_ENDINGS: Final = (
    "In the end they were {feeling2} and went home.",
    "That evening {name} and {other} ate {food} together.",
    "And from that day on the {animal} was never {feeling} again.",
    "{name} slept well that night.",
    "Everyone was {feeling2}, and the {animal} most of all.",
    "So {name} and the {animal} became good friends.",
)
_NOTES: Final = (
    "{city} is a city. Many people visit it in spring to see the {place} and to eat {food}.",
    "A good {food} needs time. Start with fresh things from the {place} and do not hurry.",
    "People in {country} like {food}. They often eat it with {food2} on {day}.",
    "The {animal} is an animal. It is often {colour}, and it likes to be near the {place}.",
    "{name} speaks {language} and works in {department}. {other} works there too.",
    "Things made of {material} last long if you keep them dry and clean.",
    "{genre} music is popular in {city}. You can hear it at the {place} on {day}.",
    "Please meet me at the {place} on {day}. Bring some {food} and the {things}.",
    "The {team} played well on {day}. {name} was the best player, said {other}.",
    "The {company} office in {city} is next to the {place}. It opens on {day}.",
)


def cast(rng: random.Random) -> dict[str, str]:
    """Draw who and what a story is about."""
    name, other = rng.sample(words.PEOPLE, 2)
    place, place2 = rng.sample(words.PLACES, 2)
    feeling, feeling2 = rng.sample(words.FEELINGS, 2)
    food, food2 = rng.sample(words.FOODS, 2)
    return {
        "name": name, "other": other, "place": place, "place2": place2,
        "feeling": feeling, "feeling2": feeling2, "food": food, "food2": food2,
        "day": rng.choice(words.DAYS), "city": rng.choice(words.CITIES),
        "colour": rng.choice(words.COLOURS), "animal": rng.choice(words.ANIMALS),
        "things": rng.choice(words.OBJECTS), "material": rng.choice(words.MATERIALS),
        "country": rng.choice(words.COUNTRIES), "language": rng.choice(words.LANGUAGES),
        "department": rng.choice(words.DEPARTMENTS), "genre": rng.choice(words.GENRES),
        "team": rng.choice(words.TEAMS), "company": rng.choice(words.COMPANIES),
    }  # fmt: skip


def tell(about: dict[str, str], rng: random.Random) -> str:
    """Tell a story about the given cast."""
    middles = rng.sample(_MIDDLES, rng.randint(2, 4))
    parts = [rng.choice(_OPENINGS), *middles, rng.choice(_ENDINGS)]
    return " ".join(part.format(**about) for part in parts)


def story(rng: random.Random) -> str:
    """Write a story."""
    return tell(cast(rng), rng)


def note(rng: random.Random) -> str:
    """Write a short factual note or message."""
    return sentence(rng.choice(_NOTES).format(**cast(rng)))


def sentence(text: str) -> str:
    """Start a text with a capital letter, whatever word a template begins with."""
    return text[:1].upper() + text[1:]
