"""Puts the broker together from settings and ports. Names no adapter.

Owns what lives as long as the process: the sniffing thread and the validator's HTTP client.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tusd_py.broker.profiles import DEFAULT, Profile, Profiles
from tusd_py.broker.promotion import Promoter
from tusd_py.broker.service import Broker, BrokerParts
from tusd_py.broker.sniffing import Sniffer
from tusd_py.broker.validation import Validator, WebhookValidator
from tusd_py.hooks.signing import Signer
from tusd_py.settings import ProfileSettings, Settings, SettingsError
from tusd_reaper.sweeps import Area
from tusd_storage.partplan import StoreLimits
from tusd_storage.ports.listings import AssetSettling

if TYPE_CHECKING:
    import httpx

VALIDATOR_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports(BrokerParts):
    """What stands behind the broker and the promotion."""

    assets: AssetSettling


class DirectUploads:
    """The broker and the promotion of what it recorded."""

    def __init__(
        self, settings: Settings, ports: Ports, *, validator: Validator | None, signer: Signer
    ) -> None:
        """Raises: SettingsError, UploadUnsupported when a profile wants what the store lacks."""
        self.profiles = Profiles(profiles_of(settings), ports.objects.capabilities)
        self.broker = Broker(self.profiles, ports)
        self._sniffer = Sniffer()
        self._client: httpx.AsyncClient | None = None
        if validator is None and settings.validator_url is not None:
            self._client = _http_client()
            validator = WebhookValidator(settings.validator_url, self._client, signer, ports.now)
        self.promoter = Promoter(
            sessions=ports.sessions,
            assets=ports.assets,
            objects=ports.objects,
            profiles=self.profiles,
            sniffer=self._sniffer,
            validator=validator,
            now=ports.now,
        )

    def areas(self) -> list[Area]:
        """Where in the store objects of the profiles are, for sweeps."""
        found = []
        for profile in self.profiles:
            prefix, keys = profile.key_pattern()
            found.append(Area(bucket=profile.bucket, prefix=prefix, keys=keys))
        return found

    async def aclose(self) -> None:
        """Ends the thread and the client."""
        self._sniffer.close()
        if self._client is not None:
            await self._client.aclose()


def profiles_of(settings: Settings) -> Sequence[Profile]:
    """The default profile, from the settings for all uploads, and those that differ from it.

    Raises: SettingsError.
    """
    default = Profile(
        name=DEFAULT,
        bucket=settings.require_bucket(),
        prefix=settings.s3_prefix,
        max_size=settings.max_size,
        expires_in=settings.expires_in,
        limits=settings.store_limits(),
    )
    named = {DEFAULT: default}
    for name, given in settings.profiles.items():
        try:
            named[name] = _profile(name, given, default)
        except ValueError as error:
            raise SettingsError(f"profiles.{name}: {error}") from error
    if settings.companion_profile not in named:
        raise SettingsError(
            f"companion_profile is {settings.companion_profile!r}: write the name of a profile, "
            f"one of {', '.join(sorted(named))}"
        )
    return list(named.values())


def _profile(name: str, given: ProfileSettings, default: Profile) -> Profile:
    """What a profile does not say is as in the default one."""
    limits = default.limits
    if given.part_size is not None:
        limits = StoreLimits(
            part_size=given.part_size,
            max_parts=limits.max_parts,
            max_part_size=limits.max_part_size,
            max_object_size=limits.max_object_size,
            equal_parts=limits.equal_parts,
        )
    return Profile(
        name=name,
        bucket=given.bucket or default.bucket,
        prefix=default.prefix if given.prefix is None else given.prefix,
        key_template=given.key_template,
        max_size=default.max_size if given.max_size is None else given.max_size,
        content_types=given.content_types,
        expires_in=given.expires_in or default.expires_in,
        url_expires_in=given.url_expires_in,
        limits=limits,
        strategies=frozenset(given.strategies),
    )


def _http_client() -> "httpx.AsyncClient":
    try:
        import httpx
    except ImportError as error:
        raise SettingsError("validator_url needs httpx: pip install 'tusd-py[webhooks]'") from error
    return httpx.AsyncClient(timeout=VALIDATOR_TIMEOUT_S, follow_redirects=False)
