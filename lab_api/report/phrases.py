"""What the evidence report says of itself, in English and French.

Titles of rules and notes come with the clinical protocol; how a figure was computed and where a rule was read
stays as it is written there, in English.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Final

from analysis.metric import Fact

LANGUAGES: Final = ("en", "fr")

_BOTH: Final[Mapping[str, list[str]]] = MappingProxyType(
    tomllib.loads((resources.files("lab_api.report") / "phrases.toml").read_text(encoding="utf-8"))
)


class Phrases:
    """Words and numbers in one language."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._column = LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """Return the words for a key, with values filled in; a key without words stands for itself."""
        if key not in _BOTH:
            return key.replace("_", " ")
        words = _BOTH[key][self._column]
        return words.format(**values) if values else words

    def number(self, value: float | None, digits: int = 4) -> str:
        """Return a number with significant digits; whole numbers whole."""
        if value is None:
            return self("unknown")
        whole = float(value).is_integer() and abs(value) < 1e15
        text = f"{value:.0f}" if whole else f"{value:.{digits}g}"
        return text.replace(".", ",") if self.language == "fr" else text

    def with_unit(self, value: float | None, unit: str, digits: int = 4) -> str:
        """Return a number with its unit, as people write it where UCUM writes it otherwise."""
        text = self.number(value, digits)
        return text if value is None or unit == "1" else f"{text} {self(unit)}"

    def title(self, of: Mapping[str, object]) -> str:
        """Return the title of a rule of a clinical protocol."""
        french = of.get("title_fr") if self.language == "fr" else ""
        return str(french or of["title"])

    def fact(self, fact: Fact) -> str:
        """Return the title of a fact about a sample."""
        return (fact.title_fr if self.language == "fr" else "") or fact.title
