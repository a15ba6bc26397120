"""Names that people give: any script, nothing that a reader cannot see."""

from __future__ import annotations

import unicodedata

from django.core.exceptions import ValidationError

# Control characters, lone surrogates, ends of lines and of paragraphs.
_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
# Marks that turn the direction of what follows, by which a name can be made to look like another:
# https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters
_TURNS = {"\u061c", *map(chr, (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))}


def check_name(name: str) -> None:
    """Refuse a name with characters that control instead of being shown.

    Raises
    ------
    ValidationError
        When there is one; letters of any direction are none.
    """
    # Fields of text have a word of their own for NUL.
    letters = set(name) - {"\0"}
    if any(letter in _TURNS or unicodedata.category(letter) in _CATEGORIES for letter in letters):
        raise ValidationError(
            "Control characters and marks that change the writing direction are not allowed.",
            code="control_character",
        )
