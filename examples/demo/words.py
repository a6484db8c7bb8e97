"""The words that the corpus and the tasks draw from.

The lists are shared on purpose: a word that a task copies from its prompt has to be one that the
base has already seen often enough for its tokenizer to hold it whole.
"""

from __future__ import annotations

from typing import Final

PEOPLE: Final = (
    "Ana", "Ben", "Carla", "David", "Ella", "Felix", "Grace", "Hugo", "Iris", "Jack", "Kira",
    "Leo", "Maria", "Noah", "Olga", "Peter", "Rosa", "Sam", "Tina", "Victor", "Wendy", "Yusuf",
    "Zoe", "Alice", "Boris", "Clara", "Diego", "Emma", "Frank", "Gina",
)  # fmt: skip
CITIES: Final = (
    "Paris", "London", "Berlin", "Madrid", "Rome", "Oslo", "Tokyo", "Cairo", "Lima", "Delhi",
    "Boston", "Chicago", "Sydney", "Dublin", "Vienna", "Prague", "Lisbon", "Athens", "Geneva",
    "Toronto", "Seoul", "Warsaw", "Milan", "Denver",
)  # fmt: skip
COUNTRIES: Final = (
    "France", "Spain", "Italy", "Norway", "Japan", "Egypt", "Peru", "India", "Canada", "Brazil",
    "Greece", "Poland", "Kenya", "Chile", "Ireland", "Austria",
)  # fmt: skip
COLOURS: Final = (
    "red", "blue", "green", "yellow", "black", "white", "purple", "orange", "pink", "brown",
    "grey", "gold",
)  # fmt: skip
OBJECTS: Final = (
    "apples", "books", "pens", "coins", "stickers", "marbles", "cards", "shells", "stamps",
    "cookies", "balloons", "pencils", "flowers", "eggs", "toys", "stones", "buttons", "candles",
    "oranges", "beads",
)  # fmt: skip
CONTAINERS: Final = (
    "boxes", "bags", "baskets", "shelves", "jars", "trays", "packs", "rows", "crates", "drawers",
)  # fmt: skip
ANIMALS: Final = (
    "cat", "dog", "bird", "fox", "bear", "rabbit", "horse", "owl", "mouse", "duck", "goat",
    "turtle", "lion", "frog",
)  # fmt: skip
PLACES: Final = (
    "park", "forest", "river", "market", "school", "garden", "beach", "library", "village",
    "station", "kitchen", "museum", "mountain", "lake",
)  # fmt: skip
FOODS: Final = (
    "bread", "soup", "rice", "cheese", "salad", "pasta", "cake", "honey", "tea", "coffee",
    "milk", "pizza", "fish", "fruit",
)  # fmt: skip
FEELINGS: Final = (
    "happy", "sad", "tired", "proud", "curious", "calm", "brave", "hungry", "excited", "quiet",
)  # fmt: skip
GENRES: Final = ("jazz", "rock", "folk", "pop", "blues", "opera", "soul", "dance")
LANGUAGES: Final = (
    "French", "Spanish", "Italian", "German", "Japanese", "Greek", "Polish", "Hindi", "Arabic",
    "Dutch",
)  # fmt: skip
STATUSES: Final = ("open", "closed", "pending", "active", "late", "paid", "new", "done")
MATERIALS: Final = ("wood", "steel", "glass", "paper", "cotton", "stone", "leather", "plastic")
TEAMS: Final = (
    "Tigers", "Eagles", "Sharks", "Wolves", "Lions", "Hawks", "Bears", "Rockets",
)  # fmt: skip
DEPARTMENTS: Final = (
    "Sales", "Finance", "Legal", "Support", "Design", "Research", "Security", "Marketing",
)  # fmt: skip
DAYS: Final = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
CURRENCIES: Final = ("USD", "EUR", "GBP", "JPY", "CHF", "CAD", "INR", "NOK")
COMPANIES: Final = (
    "Apple", "Tesla", "Nokia", "Shell", "Sony", "Intel", "Adobe", "Bayer", "Nestle", "Philips",
)  # fmt: skip

CAPITALS: Final = (
    ("France", "Paris"), ("Spain", "Madrid"), ("Italy", "Rome"), ("Norway", "Oslo"),
    ("Japan", "Tokyo"), ("Egypt", "Cairo"), ("Peru", "Lima"), ("Greece", "Athens"),
    ("Poland", "Warsaw"), ("Ireland", "Dublin"), ("Austria", "Vienna"), ("Germany", "Berlin"),
    ("Portugal", "Lisbon"), ("India", "Delhi"),
)  # fmt: skip
