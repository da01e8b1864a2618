from collections.abc import Callable
from typing import TypeVar, overload

Named = TypeVar("Named", bound=Callable)  # a class or function


class Registry:
    """Classes and functions by their own name."""

    def __init__(self, name: str):
        self._name = name
        self._objects: dict[str, Callable] = {}

    @overload
    def register(self, obj: None = None, force: bool = False) -> Callable[[Named], Named]: ...

    @overload
    def register(self, obj: Named, force: bool = False) -> Named: ...

    def register(self, obj=None, force=False):
        """A decorator (`@registry.register()`) or a call (`registry.register(obj)`) -> what it registers."""
        if obj is None:
            return lambda decorated: self.register(decorated, force)
        if obj.__name__ in self._objects and not force:
            raise KeyError(f"{self._name} already holds an object named '{obj.__name__}'")
        self._objects[obj.__name__] = obj
        return obj

    def get(self, name: str) -> Callable:
        if name not in self._objects:
            raise KeyError(f"{self._name} holds no object named '{name}'")
        return self._objects[name]

    def registered_names(self) -> list[str]:
        return list(self._objects)
