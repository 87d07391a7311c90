"""Vectors of texts: near each other as far as the texts have words, or parts of words, in common."""

import math
import re
from zlib import crc32

# Enough that "buyers" and "buyer" are near, and two words that only begin alike are not.
LETTERS = 3


def vector(text: str, dimensions: int) -> list[float]:
    """A vector of unit length, the same for the same text: its trigrams, hashed (Weinberger et al. 2009)."""
    values = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        padded = f" {word} "
        for at in range(len(padded) - LETTERS + 1):
            place = crc32(padded[at : at + LETTERS].encode())
            values[place % dimensions] += 1 if place >> 31 else -1
    length = math.hypot(*values)
    return [value / length for value in values] if length else [1.0, *values[1:]]
