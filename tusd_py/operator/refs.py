"""Short names for uploads. Pure.

The id of an upload is its URL, and whoever knows it may write to it. Pages, tables and logs of
operators show a ref: the id's beginning, by which an index finds it, and a few characters of its
digest, which tell it from others that begin alike. Half of the random part stays unknown.
"""

import hashlib

SHOWN = 10
"""Characters of the random part that are shown: 60 of its 144 bits."""

MARK = ":"
"""Between beginning and digest; never part of an id."""

_DIGEST = 6
_LAST = "\U0010ffff"


def ref(session_id: str) -> str:
    """`node~beginning:digest`; of short ids (an application's own), at most half is shown."""
    node, tilde, secret = session_id.rpartition("~")
    shown = secret[: min(SHOWN, (len(secret) + 1) // 2)]
    return f"{node}{tilde}{shown}{MARK}{digest(session_id)}"


def split(given: str) -> tuple[str, str]:
    """The beginning of an id, and the digest where the text is a whole ref."""
    beginning, _, marked = given.partition(MARK)
    return beginning, marked


def digest(session_id: str) -> str:
    """What tells ids apart that begin alike."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:_DIGEST]


def behind(beginning: str) -> str:
    """What sorts behind every id that begins so."""
    return f"{beginning}{_LAST}"
