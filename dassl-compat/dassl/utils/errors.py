"""Mistakes of a user; every message is one line that can be shown as it is."""


class SettingError(ValueError, AssertionError, TypeError):
    """An option, or a file it names, that does not fit.  (Dassl raises one of the three, by the place.)"""


class DamagedCheckpoint(SettingError):
    """A file that was not written to its end, or is none of torch's."""


class BrokenImage(OSError):
    """An image that cannot be read, in one line that names it.

    A DataLoader raises a worker's error again with the worker's traceback as the message: its last line is kept.
    """

    def __init__(self, message: str):
        super().__init__(message.strip().splitlines()[-1].split("BrokenImage: ")[-1])
