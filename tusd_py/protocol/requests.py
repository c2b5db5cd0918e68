"""Requests as frozen values: everything the headers say, checked as far as headers alone allow."""

from tusd_py.protocol import checksum as checksums
from tusd_py.protocol import concat as concats
from tusd_py.protocol import metadata as metadatas
from tusd_py.protocol.checksum import Checksum
from tusd_py.protocol.concat import Concat
from tusd_py.protocol.errors import InvalidHeader, SizeExceeded
from tusd_py.protocol.headers import (
    Headers,
    check_media_type,
    check_version,
    deferred,
    integer,
)
from tusd_storage.frozen import record


@record(frozen=True, slots=True, kw_only=True)
class BodyFacts:
    """What the headers say about the request body."""

    content_length: int | None
    """Bytes; None with chunked transfer coding."""
    checksum: Checksum | None
    checksum_trailer: bool
    """Upload-Checksum comes after the body."""

    @property
    def is_empty(self) -> bool:
        """Whether it is certain that no bytes follow."""
        return self.content_length == 0

    @property
    def checked(self) -> bool:
        """Whether nothing of the body counts before its checksum has matched."""
        return self.checksum is not None or self.checksum_trailer


@record(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A POST (Creation, Creation With Upload, Concatenation)."""

    length: int | None
    """None: deferred, or final."""
    metadata: str
    """As received."""
    pairs: dict[str, bytes]
    crc32: int | None = None
    """CRC-32 of the whole file, if the metadata declare it."""
    concat: Concat
    concat_header: str | None
    body: BodyFacts


@record(frozen=True, slots=True, kw_only=True)
class PatchRequest:
    """A PATCH (Core, Checksum, Creation's deferred length)."""

    offset: int
    length: int | None
    """Upload-Length, when a deferred length is declared now."""
    body: BodyFacts


def parse_create(headers: Headers, *, base_path: str, max_size: int | None) -> CreateRequest:
    """Raises: UnsupportedVersion, InvalidHeader, SizeExceeded, UnsupportedMediaType, …."""
    check_version(headers)
    concat_header = headers.get("upload-concat")
    concat = concats.parse(concat_header, base_path=base_path)
    length = _declared_length(headers, final=concat.final)
    if length is not None and max_size is not None and length > max_size:
        raise SizeExceeded(f"Upload-Length is {length}, the maximum is {max_size} bytes")
    metadata = headers.get("upload-metadata", "")
    pairs = metadatas.parse(metadata)
    body = _body_facts(headers)
    _check_create_body(headers, body, length, final=concat.final)
    return CreateRequest(
        length=length,
        metadata=metadata,
        pairs=pairs,
        crc32=checksums.declared_crc32(pairs),
        concat=concat,
        concat_header=concat_header,
        body=body,
    )


def parse_patch(headers: Headers) -> PatchRequest:
    """Raises: UnsupportedVersion, UnsupportedMediaType, InvalidHeader, UnknownChecksumAlgorithm."""
    check_version(headers)
    check_media_type(headers)
    offset = integer(headers, "Upload-Offset")
    if offset is None:
        raise InvalidHeader("Upload-Offset", "must be given")
    return PatchRequest(
        offset=offset, length=integer(headers, "Upload-Length"), body=_body_facts(headers)
    )


def _declared_length(headers: Headers, *, final: bool) -> int | None:
    """Creation, POST: exactly one of Upload-Length and Upload-Defer-Length; neither when final."""
    length = integer(headers, "Upload-Length")
    later = deferred(headers)
    if final:
        if length is not None or later:
            raise InvalidHeader("Upload-Length", "must not be given for a final upload")
        return None
    if length is not None and later:
        raise InvalidHeader("Upload-Defer-Length", "must not be given with Upload-Length")
    if length is None and not later:
        raise InvalidHeader("Upload-Length", "or Upload-Defer-Length must be given")
    return length


def _body_facts(headers: Headers) -> BodyFacts:
    text = headers.get("upload-checksum")
    checksum = None if text is None else checksums.parse(text)
    trailer = checksum is None and checksums.trailer_declared(headers.get("trailer"))
    chunked = "transfer-encoding" in headers
    size = integer(headers, "Content-Length")
    if size is None and not chunked:
        size = 0
    return BodyFacts(
        content_length=None if chunked else size, checksum=checksum, checksum_trailer=trailer
    )


def _check_create_body(
    headers: Headers, body: BodyFacts, length: int | None, *, final: bool
) -> None:
    """Creation With Upload: the content type is required; a final upload takes no body."""
    if body.is_empty:
        return
    if final:
        raise InvalidHeader("Content-Length", "must be 0 for a final upload")
    check_media_type(headers)
    if length is not None and (body.content_length or 0) > length:
        raise SizeExceeded(f"the body is longer than Upload-Length, {length} bytes")
