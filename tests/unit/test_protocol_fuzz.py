"""Whatever a client sends, a parser returns a value or raises ProtocolError, nothing else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.protocol import checksum, concat, headers, metadata
from tusd_py.protocol.disposition import content_disposition
from tusd_py.protocol.errors import ProtocolError
from tusd_py.protocol.requests import parse_create, parse_patch

latin1 = st.binary(max_size=80).map(lambda raw: raw.decode("latin-1"))
near_misses = st.sampled_from(
    [
        *("", "0", "1", "5", "-1", "1.0.0", "0.2.2", "9" * 30, "٣", "1, 1", "chunked", "identity"),
        *("partial", "final;", "final;/files/a", "final;http://[", "final;//", "final;/files/%00"),
        *("sha1", "sha1 ", "sha1 =", "md5 1B2M2Y8AsgTpgAmY7PhCfg==", "crc32 AAAAAA==", "x AA=="),
        *("a YQ==", "a", "a,a", "a YQ==,b", "filename Lw==", "filetype dGV4dC9odG1s", ", ,"),
        *("application/offset+octet-stream", "upload-checksum", "Upload-Checksum, x"),
    ]
)
names = st.sampled_from(
    [
        *("tus-resumable", "upload-length", "upload-offset", "upload-defer-length", "trailer"),
        *("upload-metadata", "upload-checksum", "upload-concat", "content-length", "content-type"),
        *("transfer-encoding", "x-http-method-override"),
    ]
)
requests = st.dictionaries(names, near_misses | latin1, max_size=10)
good_start = st.sampled_from(
    [
        {},
        {"tus-resumable": "1.0.0"},
        {"tus-resumable": "1.0.0", "upload-length": "10"},
        {
            "tus-resumable": "1.0.0",
            "upload-offset": "0",
            "content-type": "application/offset+octet-stream",
        },
    ]
)


@given(requests, good_start, st.none() | st.integers(0, 10))
@settings(deadline=None, max_examples=150)
def test_creations(sent: dict[str, str], start: dict[str, str], max_size: int | None) -> None:
    try:
        request = parse_create(sent | start, base_path="/files/", max_size=max_size)
    except ProtocolError:
        return
    assert request.length is None or 0 <= request.length <= headers.MAX_INTEGER
    content_disposition(metadata.filename(request.pairs)).encode("ascii")
    (metadata.content_type(request.pairs) or "").encode("ascii")


@given(requests, good_start)
@settings(deadline=None, max_examples=150)
def test_patches(sent: dict[str, str], start: dict[str, str]) -> None:
    try:
        request = parse_patch(sent | start)
    except ProtocolError:
        return
    assert 0 <= request.offset <= headers.MAX_INTEGER


anything = near_misses | latin1 | st.text(max_size=80)


@given(anything)
@settings(deadline=None, max_examples=150)
def test_single_headers(text: str) -> None:
    for parse in (
        lambda: metadata.parse(text),
        lambda: checksum.parse(text),
        lambda: checksum.parse("sha1 " + text),
        lambda: concat.parse(text, base_path="/files/"),
        lambda: concat.parse("final;" + text, base_path="/files/"),
        lambda: concat.parse("final;/files/" + text, base_path="/files/"),
        lambda: headers.integer({"x": text}, "X"),
        lambda: headers.deferred({"upload-defer-length": text}),
        lambda: headers.check_version({"tus-resumable": text}),
        lambda: headers.check_media_type({"content-type": text}),
        lambda: headers.effective_method("POST", {"x-http-method-override": text}),
        lambda: checksum.trailer_declared(text),
    ):
        try:
            parse()
        except ProtocolError as error:
            assert error.code != ProtocolError.code
