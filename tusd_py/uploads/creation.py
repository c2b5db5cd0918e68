"""New rows for new uploads. Ids, keys and tokens come from the system's random source."""

from dataclasses import dataclass
from datetime import datetime

from tusd_py.protocol import metadata, rules
from tusd_py.protocol.errors import SizeExceeded
from tusd_py.protocol.idempotency import CreationKey
from tusd_py.protocol.requests import CreateRequest
from tusd_py.tokens import token_hex, token_urlsafe
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.destinations import Destination
from tusd_storage import partplan
from tusd_storage.records import (
    Asset,
    AssetState,
    Kind,
    Protocol,
    SessionState,
    Strategy,
    UploadSession,
)

_ID_BYTES = 18
"""144 random bits: an upload's URL cannot be guessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Names of a new upload, as far as the application chose them."""

    id: str | None = None
    """Follows `<node>~`, by which requests find the node that has the tail."""
    path: str | None = None
    """The object's key below the prefix of its profile."""


ANYWHERE = Place()


def new_upload_id(node: str) -> str:
    """`<node>~<random>`: a load balancer routes by the part before the tilde."""
    return f"{node}~{token_urlsafe(_ID_BYTES)}"


def new_upload(
    request: CreateRequest,
    config: UploadConfig,
    *,
    owner: str | None,
    length: int | None,
    now: datetime,
    max_size: int | None = None,
    creation: CreationKey | None = None,
    destination: Destination | None = None,
    place: Place = ANYWHERE,
) -> tuple[UploadSession, Asset | None]:
    """The rows of an upload nobody has written to. A partial upload produces no asset.

    `max_size`: what the grant allows, where that limits. `destination` names the key, and refuses
    types; `config` is its own. Raises: SizeExceeded.
    """
    if length is not None and max_size is not None and length > max_size:
        raise SizeExceeded(f"the upload would have {length} bytes, {max_size} are allowed")
    plan = _plan(config, length, final=request.concat.final)
    session_id = f"{config.node}~{place.id}" if place.id else new_upload_id(config.node)
    key = config.prefix + session_id.replace("~", "-")
    filename = metadata.filename(request.pairs)
    content_type = metadata.content_type(request.pairs)
    if destination is not None:
        destination.check_content_type(content_type)
        key = destination.key(session_id.replace("~", "-"), filename, now)
    if place.path is not None:
        key = config.prefix + place.path
    kind = _kind(request)
    asset = None
    if kind is not Kind.PARTIAL:
        asset = Asset(
            id=token_urlsafe(_ID_BYTES),
            state=AssetState.STAGED,
            profile=config.profile,
            owner=owner,
            bucket=config.bucket,
            object_key=key,
            filename=filename,
            content_type=content_type,
            size=None,
            reason=None,
            created_at=now,
            updated_at=now,
        )
    session = UploadSession(
        id=session_id,
        asset_id=asset.id if asset else None,
        protocol=Protocol.TUS,
        strategy=Strategy.RESUMABLE,
        state=SessionState.SIGNED,
        kind=kind,
        profile=config.profile,
        owner=owner,
        bucket=config.bucket,
        object_key=key,
        token=token_hex(16),
        length=length,
        part_size=plan.part_size,
        part_growth=plan.growth,
        metadata=request.metadata,
        filename=filename,
        content_type=content_type,
        crc32_promised=request.crc32,
        concat=request.concat.ids,
        concat_header=request.concat_header,
        created_at=now,
        updated_at=now,
        expires_at=rules.expires_at(now, now, idle=config.expires_in, life=config.max_lifetime),
        max_size=max_size,
        creation_key=None if creation is None else creation.key,
        creation_digest=None if creation is None else creation.digest,
    )
    return session, asset


def _kind(request: CreateRequest) -> Kind:
    if request.concat.final:
        return Kind.FINAL
    return Kind.PARTIAL if request.concat.partial else Kind.SINGLE


def _plan(config: UploadConfig, length: int | None, *, final: bool) -> partplan.PartPlan:
    if final:  # its parts follow from its partials, see `copyplan`
        return partplan.PartPlan(part_size=config.limits.part_size)
    longest = config.longest(deferred=length is None)
    if length is not None and length > longest:
        raise SizeExceeded(f"Upload-Length is {length}, the maximum is {longest} bytes")
    return partplan.plan(length, config.limits)
