"""Requests as a client from outside makes them: each on a new connection. Blocking.

Owns the little HTTP the checks need. Follows no redirect, so that what answered is what was asked.
"""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import IO

TIMEOUT_S = 10.0


class NoAnswer(Exception):
    """Nobody answered, or nobody we can trust. The message names no URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAnswer:
    """What came back, whatever the status."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        return None


def ask(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> WebAnswer:
    """One request. Raises: NoAnswer."""
    context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
    if os.environ.get("AWS_CA_BUNDLE"):
        context.load_default_certs()
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)  # noqa: S310 - http and https only, see settings
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return _answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error.headers, error.read())
    except urllib.error.URLError as error:
        raise NoAnswer(_reason(error.reason)) from error
    except (OSError, ValueError) as error:
        raise NoAnswer(_reason(error)) from error


def _answer(status: int, headers: Message, body: bytes) -> WebAnswer:
    return WebAnswer(
        status=status, headers={name.lower(): value for name, value in headers.items()}, body=body
    )


def _reason(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__ if isinstance(error, Exception) else str(error)
