"""From the last byte to the object in the bucket: durable, idempotent, and sure of its answer.

CompleteMultipartUpload may time out after it succeeded, or answer 200 with an error. Only the
object itself, with our token and the right size, proves it (S3: CompleteMultipartUpload).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog
from isal import isal_zlib

from tusd_py.protocol.disposition import content_disposition
from tusd_py.protocol.errors import FileChecksumMismatch, UploadGone
from tusd_py.telemetry.stages import Stage, Stages
from tusd_py.tokens import token_urlsafe
from tusd_py.uploads.ledger import Ledger
from tusd_storage.errors import InvalidPart, NoSuchUpload, Rejected, StoreUnavailable
from tusd_storage.ports import ObjectStore, SessionStore
from tusd_storage.records import (
    FOREIGN,
    Body,
    Completion,
    Kind,
    ObjectSpec,
    Part,
    SessionState,
    UploadSession,
)
from tusd_storage.termination import Terminator

log = structlog.get_logger(__name__)

EMPTY = Body(segments=(), size=0, crc32=0)


def object_spec(session: UploadSession) -> ObjectSpec:
    """How the object of a session is created."""
    return ObjectSpec(
        bucket=session.bucket,
        key=session.object_key,
        token=session.token,
        content_type=session.content_type,
        content_disposition=content_disposition(session.filename),
    )


class Finisher:
    """Makes the object of a fully received upload, and records that it is there."""

    def __init__(
        self,
        sessions: SessionStore,
        objects: ObjectStore,
        terminator: Terminator,
        now: Callable[[], datetime],
        stages: Stages | None = None,
    ) -> None:
        self._sessions = sessions
        self._objects = objects
        self._terminator = terminator
        self._now = now
        self._stages = stages or Stages()

    async def finish(
        self,
        ledger: Ledger,
        last: Body = EMPTY,
        *,
        sent: Part | None = None,
        crc32: int | None = None,
        release: bool = True,
    ) -> UploadSession:
        """`last` are the bytes behind the ledger, `sent` the part that has them in the store.

        `crc32`: of the whole object, for a final upload. `release`: whether success gives the lease
        back.
        Raises: StoreUnavailable, StateUnavailable (call again later), LeaseLost, UploadGone (the
        bytes are lost for good and the session is `failed`), FileChecksumMismatch (it is `failed`,
        and nothing is left), and Rejected errors of the store.
        """
        with self._stages.measure(Stage.COMPLETE):
            return await self._finish(ledger, last, sent, crc32=crc32, release=release)

    async def _finish(
        self,
        ledger: Ledger,
        last: Body,
        sent: Part | None,
        *,
        crc32: int | None,
        release: bool,
    ) -> UploadSession:
        session = ledger.session
        if session.kind is not Kind.FINAL and session.token != FOREIGN:
            pieces = [(session.parts_crc32, session.parts_size), (last.crc32, last.size)]
            crc32 = combine_crc32(pieces)
        await self.check_declared(ledger, crc32)
        if session.upload_id is None:
            size = last.size
            await self._check_length(ledger, size)
            with self._stages.measure(Stage.PART, size=size):
                fence = ledger.lease.fence
                etag = await self._objects.put(object_spec(session), last, fence=fence)
        else:
            etag = await self._finish_multipart(ledger, last, sent)
            size = ledger.session.parts_size
        return await self._record(ledger, size, etag, crc32, release)

    async def check_declared(self, ledger: Ledger, crc32: int | None) -> None:
        """Holds the CRC-32 of all bytes against the one its client declared, if any.

        Before anything makes an object of them: a file that is not the declared one is never there,
        not even for a moment. Raises: FileChecksumMismatch (the session is `failed`, and what it
        had in the store and on disk is gone), LeaseLost, StateUnavailable.
        """
        session = ledger.session
        if session.crc32_promised in {None, crc32}:
            return
        if session.state is SessionState.VERIFYING:
            return  # checked on the way there
        code = FileChecksumMismatch.code
        log.error("upload_failed", upload=session.id, failure=code)
        await self._terminator.abort_unfinished(
            ledger.lease, session, state=SessionState.FAILED, failure=code, thorough=False
        )
        raise FileChecksumMismatch(
            "the file's crc32 is not the one declared at creation; the upload has failed"
        )

    async def _finish_multipart(self, ledger: Ledger, last: Body, sent: Part | None) -> str:
        if last.size and sent is None:
            sent = await self._send_last(ledger, last)
        if sent is not None or ledger.session.state is not SessionState.VERIFYING:
            parts = [sent] if sent is not None else []
            offset = ledger.session.parts_size + sum(part.size for part in parts)
            await ledger.commit(
                parts=parts, to_offset=offset, tail_crc32=0, state=SessionState.VERIFYING
            )
        return await self._complete(ledger)

    async def _send_last(self, ledger: Ledger, last: Body) -> Part:
        session = ledger.session
        with self._stages.measure(Stage.PART, size=last.size):
            return await self._objects.upload_part(
                session.bucket,
                session.object_key,
                _upload_id(session),
                session.parts_count + 1,
                last,
            )

    async def _complete(self, ledger: Ledger) -> str:
        session = ledger.session
        parts = await self._sessions.parts(session.id)
        await self._check_length(ledger, sum(part.size for part in parts))
        try:
            return await self._complete_of(ledger, parts)
        except InvalidPart as refusal:
            # A try whose answer was lost may land after the one that counted: the same bytes, but
            # another ETag where that is not their MD5.
            found = await self._listed_anew(ledger, parts)
            try:
                if found is None:
                    raise refusal
                log.warning("parts_replaced", upload=session.id)
                return await self._complete_of(ledger, found)
            except InvalidPart:
                await self.give_up(ledger, "invalid_part")
                raise

    async def _complete_of(self, ledger: Ledger, parts: Sequence[Part]) -> str:
        """The object's ETag. Raises: InvalidPart, and what `_resolve` raises."""
        session = ledger.session
        ledger.lease.fence()
        try:
            return await self._objects.complete_multipart(
                session.bucket, session.object_key, _upload_id(session), parts
            )
        except (StoreUnavailable, NoSuchUpload) as doubt:
            return await self._resolve(ledger, doubt)

    async def _listed_anew(self, ledger: Ledger, parts: Sequence[Part]) -> list[Part] | None:
        """The parts with the ETags the store has now; None unless it has the ledger's bytes.

        A size proves nothing: a part number may have been sent with other bytes before.
        Raises: StoreUnavailable.
        """
        session = ledger.session
        try:
            listed = await self._objects.list_parts(
                session.bucket, session.object_key, _upload_id(session)
            )
        except Rejected:
            return None
        stored = {part.number: part for part in listed}
        anew = []
        for mine in parts:
            its = stored.get(mine.number)
            if its is None or not _same_bytes(mine, its):
                return None
            anew.append(replace(mine, etag=its.etag))
        return anew if anew != list(parts) else None

    async def _check_length(self, ledger: Ledger, size: int) -> None:
        """Nothing may become an object that is not as long as the upload.

        Raises: UploadGone (the session is `failed`), LeaseLost, StateUnavailable.
        """
        if size != ledger.length:
            await self.give_up(ledger, "wrong_length")
            raise UploadGone("what was stored is not as long as the upload")

    async def _resolve(self, ledger: Ledger, doubt: StoreUnavailable | NoSuchUpload) -> str:
        """After an answer that proves nothing: only the object with our token does."""
        session = ledger.session
        found = await self._objects.head(session.bucket, session.object_key)
        if found and found.is_of(session) and found.size == session.parts_size:
            return found.etag
        if isinstance(doubt, NoSuchUpload):
            await self.give_up(ledger, "multipart_vanished")
            raise UploadGone("the store no longer has the parts of this upload") from doubt
        raise doubt

    async def give_up(self, ledger: Ledger, failure: str) -> None:
        """The bytes are lost for good: the session is `failed`. Raises: LeaseLost, …."""
        log.error("upload_failed", upload=ledger.session.id, failure=failure)
        await self._sessions.close(
            ledger.session.id,
            ledger.lease.epoch,
            state=SessionState.FAILED,
            failure=failure,
            cleanup_reason=None if failure == "multipart_vanished" else failure,
            now=self._now(),
        )
        ledger.lease.given_back = True

    async def _record(
        self, ledger: Ledger, size: int, etag: str, crc32: int | None, release: bool
    ) -> UploadSession:
        ledger.lease.fence()
        session = await self._sessions.complete(
            Completion(
                id=ledger.session.id,
                epoch=ledger.lease.epoch,
                size=size,
                etag=etag,
                crc32=crc32,
                content_type=ledger.session.content_type,
                now=self._now(),
                job_id=token_urlsafe(16),
                release=release,
            )
        )
        ledger.lease.given_back = release
        log.info("upload_completed", upload=session.id, size=size)
        return session


def _upload_id(session: UploadSession) -> str:
    if session.upload_id is None:
        raise NoSuchUpload(f"upload {session.id} has parts but no multipart upload")
    return session.upload_id


def _same_bytes(mine: Part, its: Part) -> bool:
    if its.size != mine.size:
        return False
    return its.etag == mine.etag or (mine.crc32 is not None and its.crc32 == mine.crc32)


def combine_crc32(pieces: list[tuple[int, int]]) -> int:
    """CRC-32 of a concatenation, from `(crc32, size)` of its pieces."""
    whole = 0
    for crc32, size in pieces:
        whole = isal_zlib.crc32_combine(whole, crc32, size)
    return whole
