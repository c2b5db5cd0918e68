"""Spans: one for a request, one for each stage, in the trace the client named; none when off."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.support.engines import Engine
from tests.support.process import ServerProcess, program_environment
from tests.support.served import served
from tests.support.tus import TusClient
from tusd_py.telemetry.tracing_wanted import wanted

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TUS = {"Tus-Resumable": "1.0.0"}
OFFSET = TUS | {"Content-Type": "application/offset+octet-stream"}
PART = 5 * 1024 * 1024


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def client(
    seaweed: Engine,
    tmp_path: Path,
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[httpx.AsyncClient]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    making = {"tracer_provider": provider}
    async with served(seaweed, tmp_path, monkeypatch, making=making) as (_, made):
        yield made


def named(spans: tuple[ReadableSpan, ...], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


async def test_an_upload_is_one_trace_of_requests_and_stages(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter
) -> None:
    size = PART + 10
    created = await client.post("/files/", headers=TUS | {"Upload-Length": str(size)})
    exporter.clear()
    headers = OFFSET | {"Upload-Offset": "0", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    url = created.headers["Location"]
    patched = await client.patch(url, headers=headers, content=b"x" * size)
    assert patched.status_code == 204
    spans = exporter.get_finished_spans()
    assert {format(span.context.trace_id, "032x") for span in spans} == {TRACE}
    [request] = named(spans, "PATCH tus")
    assert request.kind is SpanKind.SERVER
    assert request.parent is not None and format(request.parent.span_id, "016x") == PARENT
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 204
    parts = named(spans, "tusd.part")
    assert sorted(span.attributes["tusd.size"] for span in parts if span.attributes) == [10, PART]
    for name in ("tusd.receive", "tusd.commit", "tusd.complete"):
        assert named(spans, name), name
    own = {span.context.span_id for span in spans}
    assert all(span.parent and span.parent.span_id in own for span in spans if span is not request)
    told = " ".join(span.to_json() for span in spans)
    assert url.rpartition("/")[2] not in told


async def test_what_a_client_did_wrong_is_no_error_of_the_server(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter
) -> None:
    headers = TUS | {"traceparent": "nonsense", "X-HTTP-Method-Override": "EVIL"}
    assert (await client.post("/files/abc", headers=headers)).status_code == 405
    [span] = exporter.get_finished_spans()
    assert span.name == "HTTP tus" and span.parent is None
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_the_standard_variables_turn_it_on(environ: dict[str, str], expected: bool) -> None:
    assert wanted(environ) is expected


def test_a_server_traces_when_the_environment_says_so(seaweed: Engine, tmp_path: Path) -> None:
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_SERVICE_NAME": "uploads-here"}
    with ServerProcess(tmp_path / "on", seaweed, extra_env=environment) as server:
        tus = TusClient(server.uploads_url)
        url = tus.create(4, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
        assert tus.patch(url, 0, b"four").status == 204
        server.terminate()
        log = server.log()
    assert '"name": "PATCH tus"' in log and '"name": "tusd.complete"' in log
    assert TRACE in log and "uploads-here" in log
    assert url.rpartition("/")[2] not in "".join(
        line for line in log.splitlines() if not line.startswith("{")
    )


def test_without_tracing_nothing_of_it_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys; from tusd_py.app import create_app; from tusd_py.settings import Settings;"
        "create_app(Settings(s3_bucket='b', s3_region='r', data_dir=sys.argv[1]));"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=program_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
