"""Named destinations: where sessions put their objects, and what they accept. Pure."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from string import Formatter

from tusd_py.broker.errors import (
    ContentTypeRefused,
    SizeRefused,
    UnknownProfile,
    UploadUnsupported,
)
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.destinations import Destination
from tusd_storage import partplan
from tusd_storage.partplan import GIB, StoreLimits
from tusd_storage.ports.direct import Capability
from tusd_storage.records import Strategy

DEFAULT = "default"
MAX_SINGLE_PUT = 5 * GIB
"""S3: PutObject and PostObject take no more, whatever the part sizes."""

NEEDS: Mapping[Strategy, frozenset[Capability]] = {
    Strategy.PRESIGNED_PUT: frozenset({Capability.PRESIGNED_PUT, Capability.HEAD}),
    Strategy.MULTIPART: frozenset({Capability.MULTIPART_UPLOAD, Capability.HEAD}),
    Strategy.RESUMABLE: frozenset({Capability.RESUMABLE_UPLOAD, Capability.TUS_UPLOAD}),
}
"""What a strategy asks of the adapter."""

_KEY_FIELDS = frozenset({"prefix", "profile", "id", "date", "extension"})
_SHAPES = {
    "id": r"[a-z0-9][a-z0-9-]{0,15}-[A-Za-z0-9_-]{24}",
    "date": r"[0-9]{4}/[0-9]{2}/[0-9]{2}",
    "extension": r"(?:\.[a-z0-9]{1,12})?",
}
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Settings of one destination."""

    name: str
    bucket: str
    prefix: str = ""
    key_template: str = "{prefix}{id}"
    """Fields: `{prefix}`, `{profile}`, `{id}` (required), `{date}` (as 2026/03/01), `{extension}`
    (of the file's name, with its dot; empty without one)."""
    max_size: int | None = None
    """Bytes; None for what the store takes."""
    content_types: tuple[str, ...] = ()
    """Media types that are accepted, as in `image/*`; empty for all."""
    expires_in: timedelta = timedelta(hours=24)
    """A session lives no longer than this."""
    url_expires_in: timedelta = timedelta(hours=1)
    """A signed URL is good for this long, and never longer than its session."""
    limits: StoreLimits = field(default_factory=StoreLimits)
    strategies: frozenset[Strategy] = frozenset(Strategy)

    def __post_init__(self) -> None:
        """Raises: ValueError for a key template that cannot work."""
        names = {name for _, name, _, _ in Formatter().parse(self.key_template) if name is not None}
        if "id" not in names or names - _KEY_FIELDS:
            allowed = ", ".join(f"{{{name}}}" for name in sorted(_KEY_FIELDS))
            raise ValueError(f"key_template must contain {{id}}, and of {allowed} only")

    def key(self, unique: str, filename: str | None, now: datetime) -> str:
        """The object key of a new session; `unique` must be."""
        suffix = PurePosixPath(filename or "").suffix
        return self.key_template.format(
            prefix=self.prefix,
            profile=self.name,
            id=unique,
            date=now.strftime("%Y/%m/%d"),
            extension=suffix.lower() if _EXTENSION.fullmatch(suffix) else "",
        )

    def key_pattern(self) -> tuple[str, re.Pattern[str]]:
        """How every key of this profile begins, and what its rest looks like."""
        begins = self.key_template.startswith("{prefix}")
        shapes = _SHAPES | {"profile": re.escape(self.name), "prefix": re.escape(self.prefix)}
        pieces = (
            re.escape(literal) + (shapes[name] if name is not None else "")
            for literal, name, _, _ in Formatter().parse(
                self.key_template.removeprefix("{prefix}") if begins else self.key_template
            )
        )
        return self.prefix if begins else "", re.compile("".join(pieces))

    def longest(self, strategy: Strategy) -> int:
        """The most bytes a session of this strategy may bring."""
        possible = partplan.max_length(self.limits, deferred=False)
        if strategy is Strategy.PRESIGNED_PUT:
            possible = min(possible, MAX_SINGLE_PUT)
        return possible if self.max_size is None else min(possible, self.max_size)

    def check_strategy(self, strategy: Strategy, capabilities: Collection[Capability]) -> None:
        """Raises: UploadUnsupported."""
        if strategy not in self.strategies:
            raise UploadUnsupported(f"profile {self.name} has no {strategy} uploads")
        lacking = NEEDS[strategy].difference(capabilities)
        if lacking:
            raise UploadUnsupported(f"the store's adapter lacks {', '.join(sorted(lacking))}")

    def check_size(self, strategy: Strategy, size: int | None) -> None:
        """Raises: SizeRefused."""
        longest = self.longest(strategy)
        if size is not None and size > longest:
            raise SizeRefused(f"{size} bytes are more than the {longest} that are accepted")

    def check_content_type(self, content_type: str | None) -> None:
        """Raises: ContentTypeRefused; also for none, where only some are accepted."""
        if not self.allows(content_type):
            accepted = ", ".join(self.content_types)
            raise ContentTypeRefused(f"profile {self.name} accepts {accepted}")

    def allows(self, content_type: str | None) -> bool:
        """Whether a media type is accepted; parameters do not count."""
        if not self.content_types:
            return True
        essence = essence_of(content_type)
        kind = essence.partition("/")[0]
        return bool(essence) and (
            essence in self.content_types
            or f"{kind}/*" in self.content_types
            or "*/*" in self.content_types
        )


def destination_of(profile: Profile, uploads: UploadConfig) -> Destination:
    """The profile for uploads through this server."""
    config = replace(
        uploads,
        bucket=profile.bucket,
        profile=profile.name,
        prefix=profile.prefix,
        limits=profile.limits,
        max_size=profile.max_size,
        expires_in=profile.expires_in,
    )
    return Destination(config, profile.key, profile.check_content_type)


def essence_of(content_type: str | None) -> str:
    """`type/subtype` in small letters, without parameters; empty for none."""
    return (content_type or "").partition(";")[0].strip().lower()


class Profiles:
    """The profiles by name, checked once against what the adapter can do."""

    def __init__(self, profiles: Collection[Profile], capabilities: Collection[Capability]) -> None:
        """Raises: UploadUnsupported when a profile wants what the adapter lacks."""
        self._by_name = {profile.name: profile for profile in profiles}
        self._capabilities = frozenset(capabilities)
        for profile in profiles:
            for strategy in sorted(profile.strategies):
                profile.check_strategy(strategy, self._capabilities)

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._by_name.values())

    def find(self, name: str) -> Profile | None:
        """The profile of a row, if the settings still have it."""
        return self._by_name.get(name)

    def bucket(self, name: str) -> str:
        """Where its objects are. Raises: UnknownProfile."""
        return self._known(name).bucket

    def get(self, name: str, strategy: Strategy) -> Profile:
        """Raises: UnknownProfile, UploadUnsupported."""
        profile = self._known(name)
        profile.check_strategy(strategy, self._capabilities)
        return profile

    def _known(self, name: str) -> Profile:
        profile = self._by_name.get(name)
        if profile is None:
            raise UnknownProfile("there is no such profile")
        return profile
