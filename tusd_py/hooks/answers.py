"""What a hook may put into the answer to a client. Pure."""

import re
from collections.abc import Mapping

from tusd_py.hooks.errors import HookFailed
from tusd_py.hooks.events import HttpResponse

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_OURS = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "location",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-content-type-options",
    }
)
_OUR_BEGINNINGS = ("access-control-", "tus-", "upload-")
"""The protocol's own: a hook that changed them would break clients."""

_WITHOUT_CONTENT = {205, 304}
"""What clients would take for the next answer is ours, or the hook's, behind such a head."""

MAX_VALUE_LENGTH = 8 * 1024
TEXT = "text/plain; charset=utf-8"
"""Of a body without a content type, as in tusd."""


def checked(answer: HttpResponse) -> HttpResponse:
    """The answer without headers that are the server's own. Raises: HookFailed."""
    if answer.status_code and not 200 <= answer.status_code <= 599:
        raise HookFailed(f"StatusCode {answer.status_code} ends no request")
    if answer.status_code in _WITHOUT_CONTENT:
        raise HookFailed(f"StatusCode {answer.status_code} cannot carry an answer")
    header = {}
    for name, value in answer.header.items():
        if not _NAME.fullmatch(name) or not _is_value(value):
            raise HookFailed("an HTTP header of the answer is not one")
        if name.lower() not in _OURS and not name.lower().startswith(_OUR_BEGINNINGS):
            header[name] = value
    return HttpResponse(status_code=answer.status_code, body=answer.body, header=header)


def _is_value(value: str) -> bool:
    if len(value) > MAX_VALUE_LENGTH:
        return False
    return all(char == "\t" or " " <= char <= "~" or "\xa0" <= char <= "\xff" for char in value)


def with_default_type(answer: HttpResponse) -> Mapping[str, str]:
    """Its headers, with a content type if there is a body."""
    named = {name.lower() for name in answer.header}
    if answer.body and "content-type" not in named:
        return {**answer.header, "Content-Type": TEXT}
    return answer.header
