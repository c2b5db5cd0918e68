"""The built-in `Authorize`, made from the settings: each way in turn, the first that agrees counts.

Owns where in a request credentials are. What they are worth is told by `tusd_py.auth`.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request

from tusd_py.auth.grants import Forbidden, Grant, SignatureRefused, Unauthorized
from tusd_py.auth.signatures import UrlSigner, is_signed
from tusd_py.http.auth import Action
from tusd_py.http.locations import Locations
from tusd_py.settings import Settings, SettingsError
from tusd_storage.records import UploadSession

if TYPE_CHECKING:
    import httpx

    from tusd_py.auth.forward import ForwardAuth
    from tusd_py.auth.tokens import TokenVerifier

_BEARER = "bearer "
_REALM = 'Bearer realm="uploads"'

Way = Callable[[Request, Action, UploadSession | None], Awaitable[Grant | None]]
"""None: the request brings nothing of this kind."""


class SignedUrls:
    """Requests whose URL is signed; and the signing of new uploads' URLs."""

    def __init__(self, signer: UrlSigner, now: Callable[[], datetime]) -> None:
        self._signer = signer
        self._now = now

    async def __call__(
        self, request: Request, action: Action, upload: UploadSession | None
    ) -> Grant | None:
        """Raises: SignatureRefused."""
        query: str = request.scope.get("query_string", b"").decode("latin-1")
        if not is_signed(query):
            return None
        if action is Action.CREATE or upload is None:
            return self._signer.check_creation(query, now=self._now())
        self._signer.check_upload(query, upload.id, now=self._now())
        return Grant(owner=upload.owner)


class BearerTokens:
    """Requests with `Authorization: Bearer …` (RFC 6750, 2.1)."""

    def __init__(self, verifier: "TokenVerifier") -> None:
        self._verifier = verifier

    async def __call__(
        self, request: Request, action: Action, upload: UploadSession | None
    ) -> Grant | None:
        """Raises: Unauthorized, AuthUnavailable."""
        given = request.headers.getlist("authorization")
        if len(given) > 1:
            raise Unauthorized("Authorization is given more than once", _REALM)
        if not given or not given[0].lower().startswith(_BEARER):
            return None
        return await self._verifier.verify(given[0][len(_BEARER) :].strip())


class Forwarded:
    """Every request, judged by another server."""

    def __init__(self, forward: "ForwardAuth", locations: Locations) -> None:
        self._forward = forward
        self._locations = locations

    async def __call__(
        self, request: Request, action: Action, upload: UploadSession | None
    ) -> Grant | None:
        """Raises: Unauthorized, Forbidden, AuthUnavailable."""
        from tusd_py.auth.forward import Question

        scope, headers = request.scope, dict(request.headers.items())
        if any(len(request.headers.getlist(name)) > 1 for name in ("authorization", "cookie")):
            raise Unauthorized("Authorization or Cookie is given more than once")
        seen = self._locations.seen(scope, headers)
        query = scope.get("query_string", b"").decode("latin-1")
        raw: bytes | None = scope.get("raw_path")
        path = raw.partition(b"?")[0].decode("latin-1") if raw else request.url.path
        return await self._forward.ask(
            Question(
                method=request.method,
                uri=f"{path}?{query}" if query else path,
                proto=seen.proto,
                host=seen.host,
                client=seen.client,
                headers=headers,
            )
        )


class Authorizers:
    """`Authorize` from the settings."""

    def __init__(self, ways: dict[str, Way], clients: "list[httpx.AsyncClient]") -> None:
        self._ways = ways
        self._clients = clients

    async def __call__(
        self, request: Request, action: Action, upload: UploadSession | None
    ) -> Grant:
        """Raises what the first way that was tried in vain raised: Unauthorized, …."""
        refusal: Exception | None = None
        for way in self._ways.values():
            try:
                grant = await way(request, action, upload)
            except (Unauthorized, Forbidden) as error:
                refusal = refusal or error
            else:
                if grant is not None:
                    return grant
        if refusal is None and list(self._ways) == ["signed"]:
            refusal = SignatureRefused("this needs a signed URL")
        raise refusal or Unauthorized("credentials are needed", _REALM)

    async def aclose(self) -> None:
        """Ends the connections."""
        for client in self._clients:
            await client.aclose()


def make_authorizers(
    settings: Settings,
    locations: Locations,
    signer: UrlSigner | None,
    now: Callable[[], datetime],
) -> Authorizers | None:
    """None when the settings ask for no authentication. Raises: SettingsError.

    Signed URLs come first, then tokens: both are judged without asking anybody.
    """
    ways: dict[str, Way] = {}
    clients: list[httpx.AsyncClient] = []
    if signer is not None:
        ways["signed"] = SignedUrls(signer, now)
    try:
        if "jwt" in settings.auth:
            ways["jwt"] = BearerTokens(_verifier(settings, clients))
        if "forward" in settings.auth:
            ways["forward"] = Forwarded(_forward(settings, clients), locations)
    except ModuleNotFoundError as error:
        extra = "jwt" if error.name in {"jwt", "cryptography"} else "webhooks"
        raise SettingsError(
            f"auth needs {error.name}: run pip install 'tusd-py[{extra}]'"
        ) from error
    return Authorizers(ways, clients) if ways else None


def make_signer(settings: Settings) -> UrlSigner | None:
    """For signed URLs, where the settings want them."""
    return UrlSigner(settings.url_secrets) if "signed" in settings.auth else None


def _verifier(settings: Settings, clients: "list[httpx.AsyncClient]") -> "TokenVerifier":
    from tusd_py.auth import keys, tokens
    from tusd_py.auth.client import FETCH_TIMEOUT_S, fetch_keys, make_client

    source: keys.Keys
    if settings.jwt_jwks_url is not None:
        client = make_client(FETCH_TIMEOUT_S)
        clients.append(client)
        source = keys.RemoteKeys(
            partial(fetch_keys, client, settings.jwt_jwks_url),
            lifetime_s=settings.jwt_jwks_lifetime.total_seconds(),
            monotonic=time.monotonic,
        )
    elif settings.jwt_public_key_file is not None:
        try:
            source = keys.OneKey(keys.public_key(settings.jwt_public_key_file.read_bytes()))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(f"jwt_public_key_file cannot be used: {reason}") from None
    else:
        source = keys.OneKey(keys.shared_secret(settings.jwt_secret or ""))
    claims = tokens.Claims(
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway_s=settings.jwt_leeway.total_seconds(),
        owner=settings.jwt_owner_claim,
        max_size=settings.jwt_max_size_claim,
        profile=settings.jwt_profile_claim,
    )
    return tokens.TokenVerifier(source, claims)


def _forward(settings: Settings, clients: "list[httpx.AsyncClient]") -> "ForwardAuth":
    from tusd_py.auth.client import make_client
    from tusd_py.auth.forward import ForwardAuth

    timeout_s = settings.forward_auth_timeout.total_seconds()
    client = make_client(timeout_s)
    clients.append(client)
    return ForwardAuth(
        settings.forward_auth_url or "",
        client,
        passed=settings.forward_auth_headers,
        owner_header=settings.forward_auth_owner or None,
        timeout_s=timeout_s,
    )
