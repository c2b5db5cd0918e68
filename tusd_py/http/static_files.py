"""Small files of the package, read once, served with an ETag and the headers of their page."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

import tusd_py

SHARED = Path(tusd_py.__file__).parent / "web"
"""What all pages load."""

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file in memory."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "StaticFile":
        """From the disk. Raises: OSError, KeyError for a suffix that is not served."""
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, MEDIA_TYPES[path.suffix], etag)

    def answer(self, request: Request, headers: Mapping[str, str]) -> Response:
        """The file, or 304 when the browser has it."""
        complete = {**headers, "ETag": self.etag}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=complete)
        return Response(self.content, media_type=self.media_type, headers=complete)


def files_in(*folders: Path) -> dict[str, StaticFile]:
    """What browsers may have of these folders and of the shared one, by name."""
    return {
        path.name: StaticFile.read(path)
        for folder in (SHARED, *folders)
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix in MEDIA_TYPES
    }
