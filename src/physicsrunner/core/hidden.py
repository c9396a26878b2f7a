"""
How the value of a secret may stand in what a program prints. Pure.

Promises: whoever covers all that `spellings` returns covers the value as it is, without the spaces
around it (a file's last line end), as JSON writes it, and each long line of it: a key of many lines
is printed, and its last line told as the reason of a failure, line by line.
"""

from __future__ import annotations

import json
from typing import Final

SHORTEST: Final = 4  #: what is shorter would stand in every log, and is not looked for
_LINE: Final = 8  # characters of a line from which on it says something by itself


def spellings(value: str) -> set[str]:
    """Return how *value* may be written; texts shorter than `SHORTEST` bytes are left out."""
    lines = (line.strip() for line in value.splitlines())
    found = {value, value.strip(), *(line for line in lines if len(line) >= _LINE)}
    for plain in (True, False):
        found |= {json.dumps(text, ensure_ascii=plain)[1:-1] for text in found}
    return {text for text in found if len(text.encode(errors="surrogatepass")) >= SHORTEST}
