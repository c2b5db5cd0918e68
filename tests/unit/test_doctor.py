"""Each check of the doctor, well and ill."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.support.faulty_store import FaultyStore
from tests.support.memory_store import MemoryStore
from tusd_py.doctor import database, disk, lifecycle, outside, routing
from tusd_py.doctor.findings import Finding, Status
from tusd_py.doctor.store import LAST, StoreExamination
from tusd_py.doctor.web import NoAnswer, WebAnswer
from tusd_storage.errors import (
    AccessDenied,
    NoSuchObject,
    StateUnavailable,
    StorageError,
    StoreRefused,
    StoreUnavailable,
    StoreUnresolved,
)
from tusd_storage.records import Body, ObjectInfo, ObjectSpec
from tusd_storage.s3.inspection import shortest

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
S = Status


def statuses(findings: list[Finding]) -> dict[str, Status]:
    for finding in findings:
        assert finding.what
        assert bool(finding.mend) is (finding.status in {S.WARNING, S.BROKEN}), finding
    return {finding.id: finding.status for finding in findings}


# -- Database


def answer(value: object) -> Callable[[], Awaitable[object]]:
    async def give() -> object:
        if isinstance(value, Exception):
            raise value
        return value

    return give


@pytest.mark.parametrize(
    ("ping", "current", "embedded", "expected"),
    [
        (None, True, False, (S.OK, S.OK)),
        (None, False, False, (S.OK, S.BROKEN)),
        (None, False, True, (S.OK, S.WARNING)),
        (None, StateUnavailable("no"), False, (S.OK, S.BROKEN)),
        (StateUnavailable("no"), True, False, (S.BROKEN, S.SKIPPED)),
    ],
)
async def test_the_database(
    ping: object, current: object, embedded: bool, expected: tuple[Status, Status]
) -> None:
    findings = await database.examine(
        answer(ping),  # type: ignore[arg-type]
        answer(current),  # type: ignore[arg-type]
        embedded=embedded,
    )
    found = statuses(findings)
    assert (found["database.reachable"], found["database.migrated"]) == expected


# -- Store

CHECKS = ("bucket", "put", "head", "read", "checksum", "multipart", "copy", "list", "abort")
METHODS = {
    "bucket": "probe",
    "put": "put",
    "head": "head",
    "read": "read",
    "multipart": "complete_multipart",
    "copy": "copy_part",
    "list": "list_multipart",
    "abort": "abort_multipart",
    "delete": "delete",
}


async def examine(store: FaultyStore, checksum: str = "crc32") -> dict[str, Finding]:
    probing = StoreExamination(store, bucket="b", prefix="up/", checksum=checksum)
    await probing.run()
    await probing.tidy()
    statuses(probing.findings)
    return {finding.id.removeprefix("store."): finding for finding in probing.findings}


async def test_a_good_store() -> None:
    memory = MemoryStore()
    found = await examine(FaultyStore(memory))
    assert [*found] == [*CHECKS, "delete"]
    assert {finding.status for finding in found.values()} == {S.OK}
    assert not memory.objects and not memory.uploads


@pytest.mark.parametrize("check", METHODS)
@pytest.mark.parametrize(
    ("error", "word"),
    [
        (AccessDenied("403"), "the right s3:"),
        (StoreUnavailable("503"), "TUSD_S3_ENDPOINT"),
        (StoreUnresolved("no such name"), "name service"),
        (StoreRefused("NotImplemented", "501"), "supports"),
    ],
)
async def test_each_right_that_is_missing_is_named(
    check: str, error: StorageError, word: str
) -> None:
    memory = MemoryStore()
    store = FaultyStore(memory)
    store.fail(METHODS[check], error, times=1 if check != "delete" else 9)
    found = await examine(store)
    assert found[check].status is S.BROKEN
    assert word in found[check].mend
    later = [*CHECKS][[*CHECKS, "delete"].index(check) + 1 :]
    if check not in {"list", "delete"}:
        assert {found[name].status for name in later} <= {S.SKIPPED}, "nothing is said unseen"
    if check != "abort":
        assert not memory.uploads, "nothing is left behind"


class Careless(MemoryStore):
    """Verifies nothing and forgets metadata."""

    async def put(
        self, spec: ObjectSpec, body: Body, *, fence: Callable[[], None] | None = None
    ) -> str:
        return self._store(spec, b"".join(bytes(s) for s in body.segments))  # type: ignore[arg-type]


async def test_a_store_that_verifies_nothing() -> None:
    found = await examine(FaultyStore(Careless()))
    assert found["checksum"].status is S.WARNING


async def test_a_store_that_forgets_metadata() -> None:
    class Forgetful(MemoryStore):
        async def head(self, bucket: str, key: str) -> ObjectInfo | None:
            found = await super().head(bucket, key)
            return found and ObjectInfo(
                size=found.size, etag=found.etag, content_type=None, token=None
            )

    found = await examine(FaultyStore(Forgetful()))
    assert found["head"].status is S.BROKEN
    assert "metadata" in found["head"].what


async def test_other_checksums_cannot_be_tried() -> None:
    assert (await examine(FaultyStore(MemoryStore()), "md5"))["checksum"].status is S.SKIPPED


# -- Outside

SPEC = ObjectSpec(bucket="b", key="k", token="t")


async def look(
    answered: WebAnswer | NoAnswer, put: WebAnswer | NoAnswer | None = None
) -> dict[str, Status]:
    """`put`: what a signed PUT of the probe is answered; None where none must be sent."""

    def ask(
        method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> WebAnswer:
        assert url.startswith("https://")
        assert (method, body) in (("GET", None), ("PUT", LAST))
        answer = answered if method == "GET" else put
        assert answer is not None
        if isinstance(answer, NoAnswer):
            raise answer
        return answer

    found = await outside.examine(
        MemoryStore(), SPEC, LAST, conditional_writes=put is not None, now=lambda: NOW, ask=ask
    )
    return statuses(found)


def web(
    status: int = 200, body: bytes = LAST, skew_s: float | None = 0, **headers: str
) -> WebAnswer:
    if skew_s is not None:
        headers["date"] = format_datetime(NOW + timedelta(seconds=skew_s), usegmt=True)
    return WebAnswer(status=status, headers=headers, body=body)


@pytest.mark.parametrize(
    ("answered", "presigned", "clock"),
    [
        (web(), S.OK, S.OK),
        (web(403, b"SignatureDoesNotMatch"), S.BROKEN, S.OK),
        (web(body=b"<html>login</html>"), S.BROKEN, S.OK),
        (web(skew_s=29), S.OK, S.OK),
        (web(skew_s=-31), S.OK, S.WARNING),
        (web(skew_s=301), S.OK, S.BROKEN),
        (web(skew_s=None), S.OK, S.SKIPPED),
        (web(skew_s=None, date="yesterday"), S.OK, S.SKIPPED),
        (NoAnswer("refused"), S.BROKEN, S.SKIPPED),
    ],
)
async def test_signed_addresses_and_clocks(
    answered: WebAnswer | NoAnswer, presigned: Status, clock: Status
) -> None:
    found = await look(answered)
    assert found == {
        outside.PRESIGNED: presigned,
        outside.CONDITIONAL: S.SKIPPED,
        outside.CLOCK: clock,
    }


@pytest.mark.parametrize(
    ("put", "expected"),
    [
        (web(412, b"PreconditionFailed"), S.OK),
        (web(200, b""), S.WARNING),
        (web(501, b"NotImplemented"), S.BROKEN),
        (NoAnswer("refused"), S.SKIPPED),
    ],
)
async def test_signed_puts_that_would_replace(put: WebAnswer | NoAnswer, expected: Status) -> None:
    assert (await look(web(), put))[outside.CONDITIONAL] is expected


# -- Lifecycle


class Rules:
    def __init__(self, answer: int | StorageError | None) -> None:
        self._answer = answer

    async def abort_days(self, bucket: str, prefix: str) -> int | None:
        if isinstance(self._answer, StorageError):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (14, S.OK),
        (7, S.WARNING),
        (None, S.WARNING),
        (NoSuchObject("404"), S.WARNING),
        (StoreRefused("NoSuchLifecycleConfiguration", "404"), S.WARNING),
        (StoreRefused("NotImplemented", "501"), S.SKIPPED),
        (AccessDenied("403"), S.SKIPPED),
    ],
)
async def test_the_lifecycle_rule(answer: int | StorageError | None, expected: Status) -> None:
    finding = await lifecycle.examine(Rules(answer), bucket="b", prefix="up/", lifetime_days=7)
    assert statuses([finding]) == {"store.lifecycle": expected}


def test_only_rules_for_all_our_keys_count() -> None:
    abort = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 9}, "Status": "Enabled"}
    soon = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}, "Status": "Enabled"}
    rules = [
        {**abort, "Filter": {"Prefix": ""}},
        {**soon, "Filter": {"Prefix": "up/deeper/"}},
        {**soon, "Filter": {"Tag": {"Key": "k", "Value": "v"}}},
        {**soon, "Status": "Disabled"},
        {"Expiration": {"Days": 1}, "Status": "Enabled"},
    ]
    assert shortest(rules, "up/") == 9  # type: ignore[arg-type]
    assert shortest(rules[1:], "up/") is None  # type: ignore[arg-type]
    assert shortest([{**soon, "Prefix": "up/"}], "up/") == 3  # type: ignore[list-item]


# -- Disk


def mounts(tmp_path: Path, kind: str) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"23 22 0:1 / {tmp_path}/my\\040disk rw - {kind} none rw\n"
        "broken line\n"
    )
    return file


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ext4", S.OK),
        ("xfs", S.OK),
        ("tmpfs", S.BROKEN),
        ("ramfs", S.BROKEN),
        ("overlay", S.WARNING),
    ],
)
def test_tails_in_memory_are_told(tmp_path: Path, kind: str, expected: Status) -> None:
    folder = tmp_path / "my disk" / "tus"
    found = statuses(disk.examine(folder, mounts=mounts(tmp_path, kind)))
    assert found["tmp.writable"] is S.OK
    assert found["tmp.durable"] is expected
    assert list(folder.iterdir()) == []


def test_a_folder_beside_a_memory_disk_is_on_the_disk(tmp_path: Path) -> None:
    assert disk.filesystem(tmp_path / "my", mounts(tmp_path, "tmpfs")) == "ext4"


def test_where_mounts_are_unknown_nothing_is_said(tmp_path: Path) -> None:
    found = statuses(disk.examine(tmp_path, mounts=tmp_path / "none"))
    assert found["tmp.durable"] is S.SKIPPED


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = statuses(disk.examine(tmp_path / "file" / "tus"))
    assert found == {"tmp.writable": S.BROKEN, "tmp.durable": S.SKIPPED, "tmp.room": S.SKIPPED}


@pytest.mark.parametrize(
    ("free", "expected"),
    [(disk.NO_ROOM - 1, S.BROKEN), (disk.LITTLE_ROOM - 1, S.WARNING), (disk.LITTLE_ROOM, S.OK)],
)
def test_room(free: int, expected: Status) -> None:
    assert statuses([disk._room(free)]) == {"tmp.room": expected}


# -- Load balancer


class Server:
    """Answers as the real one does; `lose` is the request that goes astray."""

    def __init__(self, *, created: int = 201, lose: int | None = None, status: int = 503) -> None:
        self.created = created
        self.lose = lose
        self.status = status
        self.asked: list[str] = []

    def __call__(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> WebAnswer:
        self.asked.append(f"{method} {url}")
        if method == "POST":
            headers = {"location": "/files/a~1"} if self.created == 201 else {}
            return WebAnswer(status=self.created, headers=headers, body=b"")
        if method == "DELETE":
            return WebAnswer(status=204, headers={}, body=b"")
        assert headers is not None
        offset = int(headers["Upload-Offset"])
        if offset == self.lose:
            return WebAnswer(status=self.status, headers={}, body=b"")
        return WebAnswer(status=204, headers={"upload-offset": str(offset + 1)}, body=b"")


def route(server: Server) -> Finding:
    finding = routing.examine("https://up.example.com/", "/files/", ask=server)
    statuses([finding])
    return finding


def test_a_balancer_with_affinity() -> None:
    server = Server()
    assert route(server).status is S.OK
    url = "https://up.example.com/files/"
    assert server.asked == [f"POST {url}", *[f"PATCH {url}a~1"] * routing.BYTES, f"DELETE {url}a~1"]


@pytest.mark.parametrize("status", [503, 409, 204])
def test_a_request_that_goes_astray_is_told(status: int) -> None:
    server = Server(lose=3, status=status)
    finding = route(server)
    assert finding.status is S.BROKEN
    assert "Byte 4" in finding.what and "Route by the upload's URL" in finding.mend
    assert server.asked[-1].startswith("DELETE")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (Server(created=401), S.SKIPPED),
        (Server(created=404), S.BROKEN),
        (Server(created=200), S.BROKEN),
        (Server(lose=0, status=405), S.BROKEN),
    ],
)
def test_what_is_no_tus_server(server: Server, expected: Status) -> None:
    assert route(server).status is expected


def test_without_a_public_address_there_is_nothing_to_ask() -> None:
    assert routing.examine(None, "/files/").status is S.SKIPPED


def test_an_address_nobody_answers() -> None:
    finding = routing.examine("http://127.0.0.1:1", "/files/")
    assert finding.status is S.BROKEN
    assert "127.0.0.1" not in finding.what
