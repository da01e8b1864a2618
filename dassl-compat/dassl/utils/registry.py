from collections.abc import Callable, Iterable

from dassl.utils.errors import SettingError
from dassl.utils.tools import get_most_similar_str_to_a_from_b


class Registry:
    """Classes and functions by their own name."""

    def __init__(self, name: str):
        self._name = name
        self._objects: dict[str, Callable] = {}

    def register(self, obj: Callable | None = None, force: bool = False):
        """A decorator (`@registry.register()`) or a call (`registry.register(obj)`)."""
        if obj is None:
            return lambda decorated: self.register(decorated, force) or decorated
        if obj.__name__ in self._objects and not force:
            raise KeyError(f"{self._name} already holds an object named '{obj.__name__}'")
        self._objects[obj.__name__] = obj
        return None

    def get(self, name: str) -> Callable:
        if name not in self._objects:
            raise KeyError(f"{self._name} holds no object named '{name}'")
        return self._objects[name]

    def registered_names(self) -> list[str]:
        return list(self._objects)


def check_availability(requested: str, available: Iterable[str], option: str = "") -> None:
    """Raise SettingError, with the choices and the likeliest one meant, unless `requested` is among them.

    option: the key of the configuration that asked.
    """
    available = list(available)
    if requested not in available:
        nearest = get_most_similar_str_to_a_from_b(requested, available)
        where = f"{option}: " if option else ""
        raise SettingError(f"{where}'{requested}' is not among {available}. Did you mean '{nearest}'?")
