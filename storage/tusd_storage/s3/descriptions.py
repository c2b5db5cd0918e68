"""What botocore knows of services and regions, as it reads it from its files, in little memory.

botocore keeps what a file says for as long as the process lives: 11 MiB for one client of S3, of
which nine are documentation, services that nobody calls, and the same words again and again.
Knows nothing of clients.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.loaders import JSONFileLoader, Loader

SERVICES = frozenset({"s3", "sts", "sso", "portal.sso", "oidc", "sso-oidc", "signin"})
"""S3 and where credentials come from, as `endpoints.json` and the credential providers name them.

Of any other service botocore would still know the names that its partition has by default.
"""

_PROSE = frozenset({"documentation", "documentationUrl"})


def lean_loader() -> Loader:
    """botocore's component `data_loader`, for sessions to share: what it has read it keeps."""
    return Loader(file_loader=_LeanFiles())


class _LeanFiles(JSONFileLoader):
    def load_file(self, file_path: str) -> Any:
        """The file's content, its prose empty; None without such a file.

        Raises: ValueError, when there is no JSON in it.
        """
        for suffix, opened in ((".json", open), (".json.gz", gzip.open)):
            path = f"{file_path}{suffix}"
            if Path(path).is_file():
                with opened(path, "rb") as file:
                    return json.load(file, object_pairs_hook=_reader(file_path))
        return super().load_file(file_path)


def _reader(file_path: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """What makes a dictionary of each object of the file, while it is parsed."""
    words: dict[str, str] = {}

    def text(name: str, value: Any) -> Any:
        if type(value) is not str:
            return value
        return "" if name in _PROSE else words.setdefault(value, value)

    def lean(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: text(name, value) for name, value in pairs}

    def partition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = lean(pairs)
        if "partition" in found and "services" in found:
            services = found["services"]
            found["services"] = {k: v for k, v in services.items() if k in SERVICES}
        return found

    return partition if Path(file_path).name == "endpoints" else lean
