"""A final upload from its partial ones: copied inside the store, or passed through if small.

Durable like any other upload: parts that landed are in the ledger, so a later try goes on there.
"""

import asyncio
from collections.abc import Sequence

from tusd_py.protocol.errors import NotConcatenable, SizeExceeded, UploadGone
from tusd_py.telemetry.stages import Stage, Stages
from tusd_py.uploads.completion import Finisher, combine_crc32, object_spec
from tusd_py.uploads.gathering import Gatherer
from tusd_py.uploads.ledger import Ledger
from tusd_storage import lifecycle
from tusd_storage.copyplan import PlanChanged, PlannedPart, plan_copy
from tusd_storage.partplan import StoreLimits, TooLarge
from tusd_storage.ports import ObjectStore, SessionStore
from tusd_storage.records import Kind, Part, SessionState, UploadSession

PARALLEL = 4
"""Copies of one final upload under way at once."""


async def load_partials(
    sessions: SessionStore, ids: Sequence[str], *, owner: str | None
) -> list[UploadSession]:
    """The partial uploads a final one names, in order, as often as named.

    Raises: NotConcatenable for any that is unknown, another's, not partial, or gone.
    """
    rows = await sessions.get_many(set(ids))
    partials = []
    for session_id in ids:
        row = rows.get(session_id)
        if row is None or row.owner != owner or row.kind is not Kind.PARTIAL:
            raise NotConcatenable("Upload-Concat names something that is no partial upload")
        if row.deleted_at is not None or _ended(row):
            raise NotConcatenable("Upload-Concat names a partial upload that is gone")
        partials.append(row)
    return partials


def _ended(row: UploadSession) -> bool:
    return row.state in lifecycle.TERMINAL and row.state is not SessionState.COMPLETED


def finished(partials: Sequence[UploadSession]) -> bool:
    """Whether all of them can be concatenated now."""
    return all(partial.state is SessionState.COMPLETED for partial in partials)


def total_length(partials: Sequence[UploadSession], longest: int) -> int | None:
    """Length of the final upload in bytes; None while a partial one's is deferred.

    Concatenation: it MUST be the sum of all partial lengths. Raises: SizeExceeded.
    """
    total = 0
    for partial in partials:
        if partial.length is None:
            return None
        total += partial.length
    if total > longest:
        raise SizeExceeded(f"the final upload would have {total} bytes, the maximum is {longest}")
    return total


def _whole_crc32(partials: Sequence[UploadSession]) -> int | None:
    """CRC-32 of the concatenation; None where one of a partial upload is not known."""
    pieces = []
    for partial in partials:
        if partial.crc32 is None or partial.length is None:
            return None
        pieces.append((partial.crc32, partial.length))
    return combine_crc32(pieces)


class Concatenator:
    """Assembles final uploads, under their lease."""

    def __init__(
        self,
        sessions: SessionStore,
        objects: ObjectStore,
        finisher: Finisher,
        gatherer: Gatherer,
        limits: StoreLimits,
        stages: Stages | None = None,
    ) -> None:
        self._sessions = sessions
        self._objects = objects
        self._finisher = finisher
        self._gatherer = gatherer
        self._limits = limits
        self._stages = stages or Stages()

    async def assemble(self, ledger: Ledger) -> UploadSession:
        """Makes the object of a final upload whose partials are all finished.

        Raises: NotConcatenable, UploadGone, LeaseLost, Unavailable: what was copied is kept.
        FileChecksumMismatch, before anything is copied.
        """
        session = ledger.session
        if session.state is SessionState.VERIFYING:
            return await self._finisher.finish(ledger, crc32=await self._crc32_of(session))
        partials = await load_partials(self._sessions, session.concat, owner=session.owner)
        crc32 = _whole_crc32(partials)
        await self._finisher.check_declared(ledger, crc32)
        parts = await self._plan(ledger, partials)
        if len(parts) == 1 and not parts[0].copied and session.upload_id is None:
            async with self._gatherer.gathered(parts[0], partials) as body:
                return await self._finisher.finish(ledger, body, crc32=crc32)
        if parts:
            await self._copy_all(ledger, parts, partials)
        return await self._finisher.finish(ledger, crc32=crc32)

    async def _crc32_of(self, session: UploadSession) -> int | None:
        """Of a final upload that has its parts: its partials may be gone, their rows less often."""
        rows = await self._sessions.get_many(set(session.concat))
        if not all(session_id in rows for session_id in session.concat):
            return None
        return _whole_crc32([rows[session_id] for session_id in session.concat])

    async def _plan(self, ledger: Ledger, partials: Sequence[UploadSession]) -> list[PlannedPart]:
        """The parts behind those of the ledger, which other settings may have cut."""
        session = ledger.session
        done = await self._sessions.parts(session.id) if session.parts_count else []
        try:
            return plan_copy(
                [p.length or 0 for p in partials], self._limits, done=[part.size for part in done]
            )
        except TooLarge as error:
            raise SizeExceeded(str(error)) from error
        except PlanChanged as error:
            await self._finisher.give_up(ledger, "copy_plan_changed")
            raise UploadGone("the rest of the final upload does not fit its parts") from error

    async def _copy_all(
        self, ledger: Ledger, parts: Sequence[PlannedPart], partials: Sequence[UploadSession]
    ) -> None:
        """A few at a time, in order; each batch is committed as it lands."""
        session = ledger.session
        if session.upload_id is None:
            await ledger.opened(await self._objects.create_multipart(object_spec(session)))
        for start in range(0, len(parts), PARALLEL):
            batch = parts[start : start + PARALLEL]
            results = await asyncio.gather(
                *(self._copy(ledger.session, part, partials) for part in batch),
                return_exceptions=True,
            )
            landed = []
            for result in results:
                if isinstance(result, BaseException):
                    break
                landed.append(result)
            if landed:
                size = sum(part.size for part in landed)
                offset = ledger.session.parts_size + size
                await ledger.commit(parts=landed, to_offset=offset, tail_crc32=0)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _copy(
        self, session: UploadSession, part: PlannedPart, partials: Sequence[UploadSession]
    ) -> Part:
        if session.upload_id is None:
            raise UploadGone("the final upload has no multipart upload")
        if not part.copied:
            async with self._gatherer.gathered(part, partials) as body:
                with self._stages.measure(Stage.PART, size=body.size):
                    return await self._objects.upload_part(
                        session.bucket, session.object_key, session.upload_id, part.number, body
                    )
        (span,) = part.spans
        source = partials[span.source]
        with self._stages.measure(Stage.COPY, size=span.size):
            return await self._objects.copy_part(
                session.bucket,
                session.object_key,
                session.upload_id,
                part.number,
                source_key=source.object_key,
                offset=span.offset,
                size=span.size,
                crc32=source.crc32 if span.size == source.length else None,
            )
