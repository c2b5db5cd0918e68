"""Data classes that nobody may change, made in a fifth of the time.

`dataclass(frozen=True)` sets every field with a call of `object.__setattr__`; a row of
`upload_sessions` has more than forty, and each request makes some. Of a `record` only the type
checker holds the promise: an assignment to a field is an error of `mypy`, and not one at run time.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, cast

__all__ = ["changed", "maker", "record"]

R = TypeVar("R")

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    from dataclasses import dataclass

    def record(*, frozen, slots, kw_only):
        """As `dataclass`, with the hash of a frozen one."""
        return dataclass(slots=slots, kw_only=kw_only, unsafe_hash=frozen)


def maker(kind: type[R]) -> Callable[[Sequence[Any]], R]:
    """A function from all values, in the order of the fields, to the record.

    `__init__` takes names, and looks for each of them among all: that costs three times as much.
    """
    names = ", ".join(f"made.{field.name}" for field in fields(kind))  # type: ignore[arg-type]
    scope: dict[str, Any] = {"new": object.__new__, "kind": kind}
    text = f"def make(values):\n made = new(kind)\n {names} = values\n return made"
    exec(text, scope)  # noqa: S102 - names of our own fields, as `dataclass` itself does
    return cast(Callable[[Sequence[Any]], R], scope["make"])


class _Copier:
    """Takes records of one kind apart and puts them together again."""

    def __init__(self, kind: type[Any]) -> None:
        names = [field.name for field in fields(kind)]
        self.read: Callable[[Any], tuple[Any, ...]] = attrgetter(*names)
        self.places = {name: at for at, name in enumerate(names)}
        self.make: Callable[[Sequence[Any]], Any] = maker(kind)


_copiers: dict[type[Any], _Copier] = {}


def changed(one: R, **values: object) -> R:
    """As `dataclasses.replace`, for a record of many fields. Raises: KeyError for no field."""
    copier = _copiers.get(type(one))
    if copier is None:
        copier = _copiers[type(one)] = _Copier(type(one))
    row = list(copier.read(one))
    for name, value in values.items():
        row[copier.places[name]] = value
    return cast(R, copier.make(row))
