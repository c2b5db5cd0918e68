"""Data classes that nobody may change, made in a fifth of the time.

`dataclass(frozen=True)` sets every field with a call of `object.__setattr__`; a row of
`upload_sessions` has more than forty, and each request makes some. Of a `record` only the type
checker holds the promise: an assignment to a field is an error of `mypy`, and not one at run time.
"""

from typing import TYPE_CHECKING

__all__ = ["record"]

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    from dataclasses import dataclass

    def record(*, frozen, slots, kw_only):
        """As `dataclass`, with the hash of a frozen one."""
        return dataclass(slots=slots, kw_only=kw_only, unsafe_hash=frozen)
