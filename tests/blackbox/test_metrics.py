"""`/metrics` of a real server: exact after real uploads, bounded whatever clients send."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.blackbox.conftest import Site, open_site
from tests.support.engines import Engine
from tests.support.metrics import Scrape, scrape
from tests.support.process import ServerFailed, ServerProcess, free_port, run_program
from tests.support.proxy import Proxy
from tests.support.tus import TusClient, metadata, poll
from tests.support.wire import Answer, exchange, request_head
from tusd_py.settings import Settings

MIB = 1024 * 1024
PART = 5 * MIB
BUDGET = Settings.model_fields["memory_budget"].default


@pytest.fixture(scope="module")
def watched(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of its own: the numbers of this module are nobody else's."""
    yield from open_site(seaweed, tmp_path_factory, {"TUSD_REAP_INTERVAL": "1s"})


def changes(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    return after.total(name, **labels) - before.total(name, **labels)


def test_uploads_are_counted_to_the_byte(watched: Site) -> None:
    before = scrape(watched.server.url)
    small, large = b"s" * 1000, b"l" * (2 * PART + 7)
    for _ in range(3):
        watched.tus.upload(small, chunk=600)
    watched.tus.upload(large, chunk=PART + 11)
    after = scrape(watched.server.url)

    def moved(name: str, **labels: str) -> float:
        return changes(before, after, name, **labels)

    size = 3 * len(small) + len(large)
    assert moved("tusd_uploads_created") == 4
    assert moved("tusd_uploads_finished") == 4
    assert moved("tusd_uploads_terminated") == 0
    assert moved("tusd_bytes_received") == size
    assert moved("tusd_py_received_bytes_total") == size
    assert moved("tusd_py_stored_bytes_total", strategy="resumable") == size
    assert moved("tusd_requests_total", method="POST") == 4
    assert moved("tusd_requests_total", method="PATCH") == 3 * 2 + 2
    assert moved("tusd_py_requests_total", method="PATCH", status="204") == 8
    assert moved("tusd_py_request_duration_seconds_count", method="PATCH") == 8
    assert moved("tusd_errors_total") == 0
    assert moved("tusd_py_bodies_total", reason="end") == 8
    assert moved("tusd_py_sessions_completed_total", profile="default") == 4
    # Small ones are one PutObject each; the large one is two parts, a last one, and their end.
    for operation, count in (
        ("PutObject", 3),
        ("CreateMultipartUpload", 1),
        ("UploadPart", 3),
        ("CompleteMultipartUpload", 1),
    ):
        assert moved("tusd_py_s3_requests_total", operation=operation, outcome="ok") == count
    assert moved("tusd_s3_request_duration_ms_count", operation="upload_part") == 3
    assert moved("tusd_py_stage_duration_seconds_count", stage="part") == 6
    assert moved("tusd_py_stage_duration_seconds_count", stage="complete") == 4
    assert moved("tusd_py_stage_duration_seconds_count", stage="receive") == 8
    assert moved("tusd_py_stage_failures_total") == 0


def test_an_upload_under_way_is_seen_with_its_tail(watched: Site) -> None:
    before = scrape(watched.server.url)
    url = watched.tus.create(PART)
    assert watched.tus.patch(url, 0, b"x" * 321).status == 204

    def with_tail() -> bool:
        now = scrape(watched.server.url)
        files = changes(before, now, "tusd_py_tail_files")
        return (files, changes(before, now, "tusd_py_tail_bytes")) == (1, 321)

    poll(with_tail, timeout_s=30)
    assert scrape(watched.server.url).value("tusd_py_sessions_unfinished") >= 1
    assert watched.tus.delete(url).status == 204
    after = scrape(watched.server.url)
    assert changes(before, after, "tusd_uploads_terminated") == 1
    assert changes(before, after, "tusd_bytes_received") == 321


def test_errors_have_tusds_labels(watched: Site) -> None:
    before = scrape(watched.server.url)
    url = watched.tus.create(10)
    assert watched.tus.patch(url, 5, b"12345").status == 409
    assert watched.tus.head(f"{url}x").status == 404
    after = scrape(watched.server.url)
    for status, code in (("409", "offset_mismatch"), ("404", "upload_not_found")):
        assert changes(before, after, "tusd_errors_total", status=status, code=code) == 1
        assert changes(before, after, "tusd_py_requests_total", status=status) == 1


def test_nothing_a_client_sends_becomes_a_label(watched: Site) -> None:
    def hostile(number: int) -> list[Answer]:
        tus = watched.tus
        return [
            tus.request("PROPFIND", f"/files/evil{number}"),
            tus.request("POST", "", {"X-HTTP-Method-Override": f"OVER{number}"}),
            tus.request("POST", f"/files/{number}" * 50, {"X-Request-ID": f"id{number}\t"}),
            tus.request("PATCH", f"/files/evil{number}", {"Upload-Offset": f"z{number}"}),
            tus.post({"Upload-Length": "1", "Upload-Concat": f"partial{number}"}),
        ]

    hostile(1)
    before = scrape(watched.server.url)
    for number in range(2, 12):
        hostile(number)
    after = scrape(watched.server.url)
    assert list(after.samples()) == list(before.samples())
    assert changes(before, after, "tusd_py_requests_total", method="other") == 20


def test_requests_are_counted_under_the_method_that_is_served(watched: Site) -> None:
    before = scrape(watched.server.url)
    override = {"X-HTTP-Method-Override": "HEAD"}
    assert watched.tus.request("POST", watched.tus.create(1), override).status == 200
    sessions = f"{watched.server.url}/sessions/none"
    assert exchange(watched.server.port, request_head("GET", sessions, override)).status == 404
    after = scrape(watched.server.url)

    def counted(endpoint: str, method: str) -> float:
        return changes(before, after, "tusd_py_requests_total", endpoint=endpoint, method=method)

    assert (counted("tus", "HEAD"), counted("tus", "POST")) == (1, 1)
    assert (counted("direct", "HEAD"), counted("direct", "GET")) == (0, 1)
    methods = {"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"}
    assert after.labels("tusd_requests_total", "method") == methods
    assert after.labels("tusd_py_requests_total", "method") <= methods | {"other"}


def test_reaper_and_jobs_show(watched: Site) -> None:
    watched.tus.upload(b"job")

    def promoted() -> bool:
        now = scrape(watched.server.url)
        return (
            now.value("tusd_py_jobs", kind="promote_asset", state="queued") == 0
            and now.total("tusd_py_reaper_sweep_duration_seconds_count", sweep="expire") > 0
            and now.total("tusd_py_reaper_last_run_timestamp_seconds", sweep="expire") > 1e9
            and now.value("tusd_py_database_up") == 1
        )

    poll(promoted, timeout_s=30)


def test_metrics_can_be_off_or_elsewhere(seaweed: Engine, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "off", seaweed, arguments=["--no-expose-metrics"]) as server:
        assert status_of(server.url, "/metrics") == 404
    port = free_port()
    arguments = ["--metrics-port", str(port), "--metrics-path", "/deep/metrics"]
    with ServerProcess(tmp_path / "own", seaweed, arguments=arguments) as server:
        assert status_of(server.url, "/metrics") == 404
        assert status_of(server.url, "/deep/metrics") == 404
        told = scrape(f"http://127.0.0.1:{port}", "/deep/metrics")
        assert told.value("tusd_py_workers") == 1
        assert server.terminate() == 0


def test_a_port_for_metrics_that_is_taken_is_told_at_start(seaweed: Engine, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "a", seaweed) as first:
        arguments = ["--metrics-port", str(first.port)]
        second = ServerProcess(tmp_path / "b", seaweed, arguments=arguments)
        with pytest.raises(ServerFailed, match=f"Port {first.port} on 127.0.0.1"):
            second.start()


def status_of(url: str, path: str) -> int:
    return TusClient(f"{url}/").request("GET", path).status


def children(pid: int) -> list[int]:
    """The serving processes of a supervisor."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [
        child
        for child in map(int, text.split())
        if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text()
    ]


def test_two_workers_count_together_and_a_killed_one_is_not_forgotten(
    seaweed: Engine, tmp_path: Path
) -> None:
    port = free_port()
    extra = ["--workers", "2", "--metrics-port", str(port)]
    with ServerProcess(tmp_path / "server", seaweed, arguments=extra) as server:
        metrics = f"http://127.0.0.1:{port}"
        poll(lambda: scrape(metrics).value("tusd_py_workers") == 2, timeout_s=60)
        tus, data = TusClient(server.uploads_url), b"w" * 700
        for _ in range(24):
            tus.upload(data)
        for _ in range(8):  # whoever answers, answers for both
            told = scrape(metrics)
            assert told.value("tusd_uploads_finished") == 24
            assert told.value("tusd_bytes_received") == 24 * len(data)
            assert told.total("tusd_py_s3_requests_total", operation="PutObject") == 24
            assert told.value("tusd_py_memory_budget_limit_bytes") == 2 * BUDGET
        before = set(children(server.pid))
        assert len(before) == 2
        os.kill(min(before), signal.SIGKILL)
        poll(lambda: len(set(children(server.pid)) - before) == 1, timeout_s=60)
        poll(lambda: scrape(metrics).value("tusd_py_workers") == 2, timeout_s=60)
        for _ in range(6):
            tus.upload(data)
        for _ in range(8):
            told = scrape(metrics)
            assert told.value("tusd_uploads_finished") == 30
            assert told.value("tusd_py_workers") == 2
            assert told.value("tusd_py_memory_budget_limit_bytes") == 2 * BUDGET


# -- Processes beside the server


def test_a_worker_of_its_own_tells_its_own(seaweed: Engine, tmp_path: Path) -> None:
    settings = {"TUSD_S3_PREFIX": seaweed.prefix(), "TUSD_WORK": "false"}
    with ServerProcess(tmp_path / "server", seaweed, extra_env=settings) as server:
        text = metadata({"filetype": "text/plain"})  # so its first bytes are read
        TusClient(server.uploads_url).upload(b"some bytes", metadata=text)
        with beside(server, seaweed, "work", settings) as worker:
            worker.wait_for_log("asset_settled")
            poll(lambda: settled(scrape(worker.url)), timeout_s=30)
            told = scrape(worker.url)
            assert told.value("tusd_py_workers") == 1
            assert told.total("tusd_requests_total") == 0, "it serves nothing else"
            read = {"operation": "GetObject", "outcome": "ok"}
            assert told.value("tusd_py_s3_requests_total", **read) == 1
            ours = scrape(server.url)
            assert ours.total("tusd_requests_total", method="POST") == 1
            assert ours.total("tusd_py_s3_requests_total", **read) == 0
            taken = dict(worker.environment)
            refused = run_program("work", extra_env=taken, cwd=worker.folder)
            assert refused.returncode == 2 and "another work_metrics_port" in refused.stderr
            assert worker.terminate() == 0


def settled(told: Scrape) -> bool:
    """Whether the database, as this process sees it, has no job left."""
    return told.value("tusd_py_database_up") == 1 and not told.total("tusd_py_jobs")


def test_sweeps_from_outside_are_seen_while_they_run(seaweed: Engine, tmp_path: Path) -> None:
    settings = {"TUSD_S3_PREFIX": seaweed.prefix(), "TUSD_REAP": "false"}
    with (
        Proxy(seaweed.endpoint) as slow,
        ServerProcess(tmp_path / "server", seaweed, extra_env=settings) as server,
    ):
        slow.stall_after(0)
        settings["TUSD_S3_ENDPOINT"] = slow.url
        with beside(server, seaweed, "reap", settings, "--apply") as reaper:
            slow.wait_for_faults(1)
            swept = "tusd_py_reaper_sweep_duration_seconds_count"
            assert scrape(reaper.url).total(swept) == 0
            slow.release()
            assert reaper.wait() == 0


def beside(
    server: ServerProcess,
    engine: Engine,
    command: str,
    settings: Mapping[str, str],
    *arguments: str,
) -> ServerProcess:
    """A command on the server's database, ready when its metrics are."""
    port = free_port()
    return ServerProcess(
        server.folder.with_name(command),
        engine,
        database_url=server.database_url,
        port=port,
        command=command,
        arguments=arguments,
        extra_env=dict(settings) | {f"TUSD_{command.upper()}_METRICS_PORT": str(port)},
        ready_path="/metrics",
    )
