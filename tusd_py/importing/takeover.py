"""Unfinished uploads of tusd become uploads of this server, under the URL that clients have.

Owns the order: look at everything, then the tail, then the row, then the ledger with the offset.
What an interruption leaves is taken up by the next run. Nothing of tusd's is changed or deleted;
the multipart upload itself goes on here. Knows ports, no adapter.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from isal import isal_zlib

from tusd_py.importing.fitting import Fitted, fit
from tusd_py.importing.refusals import NotTaken
from tusd_py.importing.tusd_info import INFO, REST, TusdUpload, parse
from tusd_py.protocol import metadata as metadatas
from tusd_py.protocol import rules
from tusd_py.protocol.concat import Concat
from tusd_py.protocol.errors import SizeExceeded
from tusd_py.protocol.requests import BodyFacts, CreateRequest
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.creation import new_upload
from tusd_storage.errors import AlreadyExists, LeaseHeld, NoSuchObject, NoSuchUpload, QuotaExceeded
from tusd_storage.leases import Interruption, Lease, LeaseManager
from tusd_storage.ports import ObjectStore, SessionStore, TailStore
from tusd_storage.ports.listings import KeyListing
from tusd_storage.records import FOREIGN, Append, Asset, SessionState, UploadSession

MAX_INFO_SIZE = 1024 * 1024
AT_ONCE = 16
_NEARBY = 1000
"""Keys behind us in the listing: an object whose `.info` follows is a finished upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one `.info` object, or would."""

    key: str
    id: str | None
    code: str
    """`taken`, `already`, `finished`, or why not (`NotTaken.code`)."""
    reason: str = ""
    offset: int = 0
    length: int | None = None
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a takeover works with."""

    config: UploadConfig
    sessions: SessionStore
    objects: ObjectStore
    listing: KeyListing
    tails: TailStore
    leases: LeaseManager
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    upload: TusdUpload
    fitted: Fitted
    session: UploadSession
    asset: Asset | None
    """The rows as they are to be; nothing is written yet."""


class Takeover:
    """Looks at the uploads under a prefix; with `apply`, takes them."""

    def __init__(
        self, tools: Tools, *, prefix: str, owner_key: str | None, checksums: str | None
    ) -> None:
        """`owner_key`: the metadata that names an upload's owner. `checksums`: `crc32` or `other`
        where the store wants every part of an upload to have the checksum it was opened with."""
        self._tools = tools
        self._prefix = prefix
        self._owner_key = owner_key
        self._checksums = checksums

    async def run(self, *, apply: bool) -> AsyncGenerator[Outcome, None]:
        """One outcome for each `.info` object. Raises: Unavailable, AccessDenied, …."""
        async with aclosing(self._batches()) as batches:
            async for keys in batches:
                looks = await asyncio.gather(*(self._look(key) for key in keys))
                for look in looks:
                    if isinstance(look, _Found) and apply:
                        yield await self._take(look)
                    else:
                        yield look if isinstance(look, Outcome) else _outcome(look, "taken")

    async def _batches(self) -> AsyncGenerator[list[str], None]:
        bucket = self._tools.config.bucket
        nearby: deque[str] = deque(maxlen=_NEARBY)
        batch: list[str] = []
        async with aclosing(self._tools.listing.list_keys(bucket, self._prefix)) as keys:
            async for key in keys:
                if not key.endswith(INFO):
                    nearby.append(key)
                elif key.removesuffix(INFO) not in nearby:
                    batch.append(key)
                if len(batch) == AT_ONCE:
                    yield batch
                    batch = []
        if batch:
            yield batch

    async def _look(self, info_key: str) -> "Outcome | _Found":
        upload = None
        try:
            upload = parse(await self._read_info(info_key), info_key)
            known = await self._tools.sessions.get(upload.id)
            if known is not None and not _untouched(known):
                return _already(upload)
            fitted = await self._fit(upload)
            if known is not None and not fitted.offset:
                return _already(upload)
            session, asset = self._rows(upload, fitted)
            return _Found(upload=upload, fitted=fitted, session=session, asset=asset)
        except NoSuchUpload:
            return Outcome(key=info_key, id=upload.id if upload else None, code="finished")
        except SizeExceeded as error:
            return _refused(info_key, upload, NotTaken("too_large", str(error)))
        except NotTaken as error:
            return _refused(info_key, upload, error)

    async def _read_info(self, key: str) -> bytes:
        text = bytearray()
        try:
            async with aclosing(self._tools.objects.read(self._tools.config.bucket, key)) as chunks:
                async for chunk in chunks:
                    text += chunk
                    if len(text) > MAX_INFO_SIZE:
                        raise NotTaken("not_tusd", "the .info object is too large to be tusd's")
        except NoSuchObject as error:
            raise NotTaken("not_tusd", "the .info object is gone") from error
        return bytes(text)

    async def _fit(self, upload: TusdUpload) -> Fitted:
        config, objects = self._tools.config, self._tools.objects
        listed = await objects.list_parts(config.bucket, upload.key, upload.multipart_id)
        rest = await objects.head(config.bucket, upload.key + REST)
        fitted = fit(
            listed,
            0 if rest is None else rest.size,
            upload.length,
            config.limits,
            rewinds=config.tail_loss == "rewind",
        )
        told = all(part.crc32 is not None for part in fitted.parts)
        if fitted.parts and self._checksums and told != (self._checksums == "crc32"):
            wanted = "crc32" if told else "md5"
            raise NotTaken(
                "checksums",
                "this store wants every part to have the checksum its upload was opened with: "
                f"write s3_checksum = {wanted} until it is finished",
            )
        return fitted

    async def _take(self, found: _Found) -> Outcome:
        upload, fitted = found.upload, found.fitted
        info_key = upload.key + INFO
        try:
            async with self._claimed(found.session, found.asset, needed=fitted.offset > 0) as lease:
                if lease is not None:
                    if not _untouched(lease.session):
                        return _already(upload)
                    await self._fill(lease, upload, fitted)
        except NotTaken as error:
            return _refused(info_key, upload, error)
        except LeaseHeld:
            return _refused(info_key, upload, NotTaken("busy", "somebody is at work on it"))
        except (AlreadyExists, QuotaExceeded) as error:
            return _refused(info_key, upload, NotTaken("refused", str(error)))
        return _outcome(found, "taken")

    def _rows(self, upload: TusdUpload, fitted: Fitted) -> tuple[UploadSession, Asset | None]:
        now = self._tools.now()
        pairs = metadatas.parse(upload.metadata)
        request = CreateRequest(
            length=upload.length,
            metadata=upload.metadata,
            pairs=pairs,
            crc32=None,
            concat=Concat(),
            concat_header=None,
            body=BodyFacts(content_length=0, checksum=None, checksum_trailer=False),
        )
        owner = pairs.get(self._owner_key or "", b"").decode("utf-8", "replace") or None
        session, asset = new_upload(
            request, self._tools.config, owner=owner, length=upload.length, now=now
        )
        # Without parts nothing binds the upload to tusd's multipart upload: it gets one of ours.
        goes_on = bool(fitted.parts)
        session = replace(
            session,
            id=upload.id,
            object_key=upload.key,
            token=FOREIGN if goes_on else session.token,
            upload_id=upload.multipart_id if goes_on else None,
            part_size=fitted.plan.part_size,
            part_growth=fitted.plan.growth,
        )
        return session, None if asset is None else replace(asset, object_key=upload.key)

    @asynccontextmanager
    async def _claimed(
        self, session: UploadSession, asset: Asset | None, *, needed: bool
    ) -> AsyncIterator[Lease | None]:
        """The new row with our lease in it, or the one that an interrupted run left.

        None: there was nothing to fill in.
        """
        sessions, leases = self._tools.sessions, self._tools.leases
        if await sessions.get(session.id) is not None:
            async with leases.hold(session.id, interrupt=_ignore, patience_s=0) as lease:
                yield lease
            return
        if not needed:
            await sessions.create(session, asset)
            yield None
            return
        session = replace(
            session, lease_holder=leases.holder, lease_epoch=1, lease_until=leases.until()
        )
        await sessions.create(session, asset)
        async with leases.adopt(session, interrupt=_ignore) as lease:
            yield lease

    async def _fill(self, lease: Lease, upload: TusdUpload, fitted: Fitted) -> None:
        """The tail, flushed; then parts and offset in one transaction."""
        config, session = self._tools.config, lease.session
        tail_crc32 = await self._write_tail(lease, upload, fitted)
        now = self._tools.now()
        lease.fence()
        await self._tools.sessions.append(
            Append(
                id=upload.id,
                epoch=lease.epoch,
                from_offset=0,
                to_offset=fitted.offset,
                parts=fitted.parts,
                parts_crc32=0,
                tail_node=config.node,
                tail_crc32=tail_crc32,
                state=SessionState.UPLOADING,
                expires_at=rules.expires_at(
                    session.created_at, now, idle=config.expires_in, life=config.max_lifetime
                ),
                now=now,
                release=True,
            )
        )
        lease.given_back = True

    async def _write_tail(self, lease: Lease, upload: TusdUpload, fitted: Fitted) -> int:
        """The bytes of the `.part` object on this node's disk; their CRC-32."""
        tail = await self._tools.tails.open(
            upload.id, size=0, crc32=0, fresh=True, steal=False, fence=lease.fence
        )
        crc32 = size = 0
        try:
            await tail.append((), crc32=0).ahead()
            if fitted.rest:
                bucket, key = self._tools.config.bucket, upload.key + REST
                async with aclosing(self._tools.objects.read(bucket, key)) as chunks:
                    async for chunk in chunks:
                        crc32 = isal_zlib.crc32(chunk, crc32)
                        size += len(chunk)
                        await tail.append((chunk,), crc32=crc32).ahead()
        finally:
            await tail.aclose()
        if size != fitted.rest:
            raise NotTaken("changed", "its .part object changes: is tusd still running?")
        return crc32


def _untouched(session: UploadSession) -> bool:
    """Whether a run may have ended between the row and its ledger: nobody has written since."""
    return session.state is SessionState.SIGNED and session.offset == 0


def _already(upload: TusdUpload) -> Outcome:
    return Outcome(key=upload.key + INFO, id=upload.id, code="already", length=upload.length)


def _outcome(found: _Found, code: str) -> Outcome:
    upload, fitted = found.upload, found.fitted
    return Outcome(
        key=upload.key + INFO,
        id=upload.id,
        code=code,
        offset=fitted.offset,
        length=upload.length,
        lost=fitted.lost,
    )


def _refused(key: str, upload: TusdUpload | None, error: NotTaken) -> Outcome:
    return Outcome(
        key=key,
        id=upload.id if upload else None,
        code=error.code,
        reason=str(error),
        length=upload.length if upload else None,
    )


def _ignore(_: Interruption) -> None:
    """It is short."""
