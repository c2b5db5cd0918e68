"""A GET where there is no object: not yet is 409, never any more is 410, as HEAD says it."""

from datetime import datetime

import pytest
from starlette.types import Message

from tests.support.memory_store import MemoryStore
from tests.support.state import NOW, a_session, later
from tusd_py.http.download import Downloads, Unfinished
from tusd_py.http.errors import failure_of
from tusd_storage import lifecycle
from tusd_storage.records import Kind, SessionState, UploadSession

OVER = lifecycle.TERMINAL - {SessionState.COMPLETED}


async def refusal(session: UploadSession, now: datetime = NOW) -> tuple[int, str]:
    """Status and code of the answer."""

    async def send(_: Message) -> None:
        raise AssertionError("nothing is there to send")

    async def no_asset(_: str) -> None:
        return None

    downloads = Downloads(
        MemoryStore(), find_asset=no_asset, mode="stream", inline_types=(), now=lambda: now
    )
    with pytest.raises(Exception) as raised:
        await downloads.serve(session, {}, {}, send)
    failure = failure_of(raised.value)
    assert failure is not None
    return failure.status, failure.code


@pytest.mark.parametrize("kind", [Kind.SINGLE, Kind.FINAL])
@pytest.mark.parametrize("state", OVER)
async def test_what_is_over_is_gone(state: SessionState, kind: Kind) -> None:
    assert await refusal(a_session(state=state, kind=kind)) == (410, "upload_gone")


@pytest.mark.parametrize("state", lifecycle.OPEN)
async def test_what_may_still_come_is_unfinished(state: SessionState) -> None:
    assert await refusal(a_session(state=state)) == (409, "upload_unfinished")


async def test_what_has_expired_is_gone_before_the_reaper_comes() -> None:
    session = a_session(state=SessionState.UPLOADING, expires_at=later(5))
    assert await refusal(session, later(4)) == (409, "upload_unfinished")
    assert await refusal(session, later(5)) == (410, "upload_gone")


async def test_a_file_that_was_another_one_says_so() -> None:
    session = a_session(state=SessionState.FAILED, failure="file_checksum_mismatch")
    assert await refusal(session) == (410, "file_checksum_mismatch")


def test_unfinished_is_the_only_conflict() -> None:
    assert (failure := failure_of(Unfinished())) is not None and failure.status == 409
