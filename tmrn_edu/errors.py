"""The one exception of our own."""


class InputError(ValueError):
    """Something the user gave (a file, a mask, a size, a name) cannot be used; the message names both sides.

    It is a ``ValueError``, so notebooks may catch that; the command line turns it into one line and exit status 2.
    """
