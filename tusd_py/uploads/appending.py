"""Appending a body to its upload, and finishing an upload that has all its bytes.

Owns what a creation and a PATCH have in common. The caller has the lease, and has checked what the
protocol asks for.
"""

from collections.abc import Callable
from datetime import datetime

from tusd_py.protocol.errors import UploadGone
from tusd_py.protocol.requests import BodyFacts
from tusd_py.uploads.appender import Appender, AppendTools
from tusd_py.uploads.body import BodyReader, Stop
from tusd_py.uploads.completion import EMPTY
from tusd_py.uploads.guard import Guard
from tusd_py.uploads.ledger import Ledger
from tusd_py.uploads.watch import Watch
from tusd_storage.errors import NoSuchUpload
from tusd_storage.leases import Interruption, Lease
from tusd_storage.ports import SessionStore, TailStore
from tusd_storage.records import Body, SessionState, UploadSession

_STOPS = {
    Interruption.WANTED: Stop.WANTED,
    Interruption.LOST: Stop.LOST,
    Interruption.SHUTDOWN: Stop.SHUTDOWN,
}


class Writer:
    """Passes an interruption of the lease on to the appender, however early it comes."""

    def __init__(self) -> None:
        self._appender: Appender | None = None
        self._stop: Stop | None = None

    def interrupt(self, why: Interruption) -> None:
        """For `LeaseManager.hold`."""
        self._stop = _STOPS[why]
        if self._appender is not None:
            self._appender.stop(self._stop)

    @property
    def wrote(self) -> bool:
        """Whether the body was read, to its end if nothing was raised."""
        return self._appender is not None

    def attach(self, appender: Appender) -> None:
        """Who is to stop."""
        self._appender = appender
        if self._stop is not None:
            appender.stop(self._stop)


class Appending:
    """The means to do both; one for the process."""

    def __init__(
        self,
        tools: AppendTools,
        *,
        guard: Guard,
        sessions: SessionStore,
        tails: TailStore,
        watch: Watch,
        now: Callable[[], datetime],
    ) -> None:
        self._tools = tools
        self._guard = guard
        self._sessions = sessions
        self._tails = tails
        self._watch = watch
        self._now = now

    def ledger(self, lease: Lease, length: int | None) -> Ledger:
        """What this request commits; `length` is the upload's, None while it is not known."""
        return Ledger(self._sessions, lease, self._tools.config, self._now, length=length)

    async def append(
        self,
        writer: Writer,
        ledger: Ledger,
        facts: BodyFacts,
        reader: BodyReader,
        room: int,
        *,
        new: bool = False,
    ) -> UploadSession:
        """Appends at most `room` bytes; the upload is `completed` if that was its end.

        `new`: nobody can have written to it before.
        Raises: what `Appender.run` raises; TailMissing, UploadGone.
        """
        tail = await self._guard.open(ledger, new=new)
        try:
            appender = Appender(self._tools, ledger, tail, reader, facts, max_bytes=room)
            writer.attach(appender)
            with self._watch.over(appender):
                done = await self._run(appender, ledger)
            if done.state is not SessionState.COMPLETED:
                ledger.lease.stay(done)
            elif tail.exists:
                await self._tails.delete(done.id)
            return done
        finally:
            await tail.aclose()

    async def _run(self, appender: Appender, ledger: Ledger) -> UploadSession:
        try:
            return await appender.run()
        except NoSuchUpload as error:
            # Somebody aborted it behind our back, or a termination was cut short.
            await self._tools.finisher.give_up(ledger, "multipart_vanished")
            raise UploadGone("the store no longer has the parts of this upload") from error

    async def finish_received(self, lease: Lease, *, release: bool = True) -> UploadSession:
        """Every byte is here, the object is not: finish what a crash or a failing store left.

        `release`: whether the lease may be given back with the last commit.
        Raises: TailMissing, Unavailable, FileChecksumMismatch.
        """
        session = lease.session
        if session.state is SessionState.COMPLETED:
            return session
        ledger = self.ledger(lease, session.length)
        if session.state is SessionState.VERIFYING or session.offset == 0:
            return await self._tools.finisher.finish(ledger, release=release)
        tail = await self._guard.open(ledger)
        try:
            last = EMPTY
            if session.tail_size:
                last = Body(
                    segments=(tail.range(),), size=session.tail_size, crc32=session.tail_crc32
                )
            done = await self._tools.finisher.finish(ledger, last, release=release)
        finally:
            await tail.aclose()
        await self._tails.delete(session.id)
        return done
