"""The job `promote_asset`: an asset that is `validating` becomes `available` or `quarantined`.

At least once, idempotent: it reads, decides, and settles by compare-and-swap. What may be different
next time (the store, the database, the validator) raises, and the worker tries again.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from tusd_py.broker.profiles import Profiles
from tusd_py.broker.sniffing import SNIFFED_SIZE, UNKNOWN, Sniffer, contradicts
from tusd_py.broker.validation import Candidate, Validator
from tusd_storage.errors import InvalidTransition, NoSuchObject
from tusd_storage.ports import ObjectStore, SessionStore
from tusd_storage.ports.listings import AssetSettling
from tusd_storage.records import Asset, AssetState, Job, ObjectInfo, Protocol, UploadSession

log = structlog.get_logger(__name__)

KIND = "promote_asset"
MAX_REASON_LENGTH = 500
MAX_AT_ONCE = 500
"""Assets settled in one transaction: it holds others up for milliseconds."""

Handler = Callable[[Job], Awaitable[None]]
"""What a job worker runs for one kind of job. What it raises is tried again."""


class Promoter:
    """Handles `promote_asset`."""

    def __init__(
        self,
        *,
        sessions: SessionStore,
        assets: AssetSettling,
        objects: ObjectStore,
        profiles: Profiles,
        sniffer: Sniffer,
        validator: Validator | None,
        now: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._assets = assets
        self._objects = objects
        self._profiles = profiles
        self._sniffer = sniffer
        self._validator = validator
        self._now = now

    async def promote_unquestioned(self, now: datetime) -> int:
        """Settles at once all that `promote` would settle without a look at the object; how many.

        Raises: StateUnavailable.
        """
        if self._validator is not None:
            return 0
        open_to_all = [profile.name for profile in self._profiles if not profile.content_types]
        count = await self._assets.settle_unquestioned(
            profiles=open_to_all, now=now, limit=MAX_AT_ONCE
        )
        if count:
            log.info("assets_settled", count=count)
        return count

    async def promote(self, job: Job) -> None:
        """Settles the asset the job is about; does nothing if it is settled, or gone.

        Raises: Unavailable, ValidatorUnavailable and whatever the validator raises, Rejected when
        the asset goes meanwhile: run it again. A cancelled call has settled it or not.
        """
        asset = await self._sessions.asset(job.subject)
        if asset is None:  # its upload was deleted and forgotten before anybody came to this
            log.info("asset_gone", asset=job.subject)
            return
        if asset.state in (AssetState.AVAILABLE, AssetState.QUARANTINED):
            return
        session = await self._sessions.get(str(job.payload.get("session_id", "")))
        await self._settle(asset, await self._reason(asset, session))

    async def _reason(self, asset: Asset, session: UploadSession | None) -> str | None:
        """Why it must be quarantined, as a stable code or the validator's words; None if good."""
        if not _made_by_us(session):
            found = await self._objects.head(asset.bucket, asset.object_key)
            if found is None:
                return "object_missing"
            if (changed := _changed(asset, session, found)) is not None:
                return changed
        if not self._has_question(asset, session):
            return None
        try:
            sniffed = await self._sniff(asset)
        except NoSuchObject:
            return "object_missing"
        if contradicts(_promised_type(asset, session), sniffed):
            return "content_type_mismatch"
        if not self._accepts(asset, sniffed):
            return "content_type_refused"
        if self._validator is None:
            return None
        if session is None:
            return await self._validator(Candidate(asset, sniffed, self._objects))
        proven = Candidate(asset, sniffed, self._objects, session.crc32, session.etag)
        return await self._validator(proven)

    def _has_question(self, asset: Asset, session: UploadSession | None) -> bool:
        """Whether the first bytes could change the answer: each look costs a request."""
        if self._validator is not None or _promised_type(asset, session) is not None:
            return True
        profile = self._profiles.find(asset.profile)
        return profile is not None and bool(profile.content_types)

    async def _sniff(self, asset: Asset) -> str:
        head = await Candidate(asset, UNKNOWN, self._objects).head(SNIFFED_SIZE)
        return await self._sniffer.sniff(head)

    def _accepts(self, asset: Asset, sniffed: str) -> bool:
        """A profile that takes only some types takes no other, whatever was declared."""
        profile = self._profiles.find(asset.profile)
        if profile is None or not profile.content_types:
            return True
        return profile.allows(asset.content_type) or profile.allows(sniffed)

    async def _settle(self, asset: Asset, reason: str | None) -> None:
        state = AssetState.AVAILABLE if reason is None else AssetState.QUARANTINED
        try:
            await self._assets.settle_asset(
                asset.id,
                state=state,
                reason=None if reason is None else reason[:MAX_REASON_LENGTH],
                now=self._now(),
            )
        except InvalidTransition:
            # Another run of this job was faster and came to another end: the first word counts.
            log.warning("asset_settled_already", asset=asset.id)
            return
        log.info("asset_settled", asset=asset.id, state=str(state), reason=reason)


def _made_by_us(session: UploadSession | None) -> bool:
    """Whether every byte passed through this server: the store has told us size and ETag, and no
    client ever had a URL to write the object."""
    return session is not None and session.protocol is Protocol.TUS


def _changed(asset: Asset, session: UploadSession | None, found: ObjectInfo) -> str | None:
    """How the object differs from what was completed: a signed URL may have been used again."""
    if asset.size is not None and found.size != asset.size:
        return "size_mismatch"
    if session is None:
        return None
    promised = session.size_promised
    if promised is not None and found.size != promised:
        return "size_mismatch"
    replaced = session.protocol is Protocol.S3 and session.etag != found.etag
    if found.token != session.token or replaced:
        return "object_changed"
    return None


def _promised_type(asset: Asset, session: UploadSession | None) -> str | None:
    declared = session.content_type if session is not None else None
    return declared or asset.content_type
