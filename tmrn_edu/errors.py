"""The one exception of our own."""


class InputError(ValueError):
    """Something the user gave (a file, a mask, a size, a name) cannot be used; the message names both sides.

    It is a ``ValueError``, so notebooks may catch that; the command line turns it into one line and exit status 2.
    """


def some(lines: list[str], most: int = 20) -> list[str]:
    """The first `most` of many lines, and how many more there are: a message that lists hundreds is not read."""
    return lines if len(lines) <= most else [*lines[:most], f"{len(lines) - most} more like it"]
