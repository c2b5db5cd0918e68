"""What a request may get wrong, as facts. The statuses are in `tusd_py.http.errors` alone.

ProtocolError
├── UnsupportedVersion        Tus-Resumable is absent or another version
├── InvalidHeader             a header breaks its grammar or contradicts another
├── UnsupportedMediaType      a body without application/offset+octet-stream
├── UnknownChecksumAlgorithm
├── ChecksumMismatch          the body does not match Upload-Checksum
├── FileChecksumMismatch      the whole file does not match what was declared at creation
├── OffsetMismatch            Upload-Offset is not the upload's offset
├── SizeExceeded              more bytes than allowed or declared
├── UploadNotFound
├── UploadGone                expired or terminated
│   └── FileRefused           it has failed with FileChecksumMismatch before
├── FinalNotWritable          PATCH against a final upload
├── NotConcatenable           Upload-Concat names something that cannot be concatenated
├── KeyReused                 an idempotency key that belongs to another request
└── MethodNotAllowed
"""


class ProtocolError(Exception):
    """Root. `code` is stable and part of the answer."""

    code = "protocol_error"


class UnsupportedVersion(ProtocolError):
    """Core, Tus-Resumable."""

    code = "unsupported_version"


class InvalidHeader(ProtocolError):
    """A header that breaks its grammar, or contradicts another one."""

    code = "invalid_header"

    def __init__(self, header: str, problem: str) -> None:
        super().__init__(f"{header}: {problem}")
        self.header = header


class UnsupportedMediaType(ProtocolError):
    """Core, PATCH: all requests MUST use application/offset+octet-stream."""

    code = "unsupported_media_type"


class UnknownChecksumAlgorithm(ProtocolError):
    """Checksum: 400 if the algorithm is not supported."""

    code = "unknown_checksum_algorithm"


class ChecksumMismatch(ProtocolError):
    """Checksum: the chunk is discarded, upload and offset are not updated."""

    code = "checksum_mismatch"


class FileChecksumMismatch(ProtocolError):
    """All bytes are here, and they are not those declared at creation: the upload has failed."""

    code = "file_checksum_mismatch"


class OffsetMismatch(ProtocolError):
    """Core, PATCH: the offsets do not match; `offset` is the upload's."""

    code = "offset_mismatch"

    def __init__(self, offset: int) -> None:
        super().__init__(f"the upload's offset is {offset}")
        self.offset = offset


class SizeExceeded(ProtocolError):
    """More bytes than the upload may have."""

    code = "size_exceeded"


class UploadNotFound(ProtocolError):
    """No such upload, or none for this client."""

    code = "upload_not_found"


class UploadGone(ProtocolError):
    """The upload existed: it has expired or was terminated."""

    code = "upload_gone"


class FileRefused(UploadGone):
    """The upload existed, and failed because its bytes were not those declared at creation."""

    code = FileChecksumMismatch.code


class FinalNotWritable(ProtocolError):
    """Concatenation: a final upload takes no bytes."""

    code = "final_not_writable"


class NotConcatenable(ProtocolError):
    """Concatenation: a named upload is not a partial one, or does not exist."""

    code = "not_concatenable"


class KeyReused(ProtocolError):
    """Idempotency-Key: it was used for a creation that asked for something else."""

    code = "idempotency_key_reused"


class MethodNotAllowed(ProtocolError):
    """The resource has no such method."""

    code = "method_not_allowed"
