"""A Hugging Face config read field by field; what is not understood is refused by its name."""

from collections.abc import Mapping
from typing import Any

from inference_service.models.spec import UnsupportedModelError


class ConfigFields:
    """Typed values of a config. A field that is null counts as absent, unless said otherwise."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values, self._prefix = values, prefix

    def get(self, name: str) -> Any:
        return self._values.get(name)

    def present(self) -> set[str]:
        return {name for name, value in self._values.items() if value is not None}

    def part(self, name: str) -> "ConfigFields":
        """The fields of an object in this one; empty when it is absent."""
        values = self.get(name)
        if values is not None and not isinstance(values, Mapping):
            raise self.refusal(name, "is not an object")
        return ConfigFields(values or {}, f"{self._prefix}{name}.")

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        value = self._or_default(name, default)
        if type(value) is not int or value < least:
            raise self.refusal(name, f"is not an integer from {least}")
        return value

    def optional_integer(self, name: str, absent: int | None) -> int | None:
        """None for null, which is not the same as no such field."""
        if name not in self._values:
            return absent
        return None if self.get(name) is None else self.integer(name)

    def number(self, name: str, default: float | None = None) -> float:
        value = self._or_default(name, default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.refusal(name, "is not a number above 0")
        return float(value)

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        value = self._or_default(name, None)
        if not isinstance(value, list) or len(value) != count:
            raise self.refusal(name, f"is not a list of {count} numbers")
        return tuple(ConfigFields({name: item}, self._prefix).number(name) for item in value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._or_default(name, default)
        if not isinstance(value, bool):
            raise self.refusal(name, "is neither true nor false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._or_default(name, default)
        if not isinstance(value, str):
            raise self.refusal(name, "is not a text")
        return value

    def expect(self, name: str, *supported: Any) -> None:
        """Refuses a value that is none of `supported`; an absent field has the value None."""
        if self.get(name) not in supported:
            wanted = " or ".join(repr(option) for option in supported if option is not None)
            raise self.refusal(name, f"is not supported ({wanted or 'none'} is)")

    def refusal(self, name: str, why: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"config.json: {self._prefix}{name} {self.get(name)!r} {why}")

    def _or_default(self, name: str, default: Any) -> Any:
        value = self.get(name)
        if value is None and default is None:
            raise UnsupportedModelError(f"config.json has no field {self._prefix}{name}")
        return default if value is None else value
