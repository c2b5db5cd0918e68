"""botocore clients, TLS and proxies, from the configuration. The one place that builds them."""

import functools
import os
import ssl
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import ConfigParseError, ProfileNotFound
from botocore.httpsession import get_cert_path
from botocore.loaders import Loader
from botocore.session import Session
from botocore.utils import get_environ_proxies

from tusd_storage.errors import AccessDenied
from tusd_storage.s3.config import AddressingStyle, S3Config
from tusd_storage.s3.descriptions import lean_loader
from tusd_storage.s3.wire import Origin, Wire

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def new_session() -> Session:
    """A session with credentials of its own that shares the description of S3 with all others.

    botocore's: boto3's would bring its resources and transfers into memory.

    Raises: AccessDenied when the AWS configuration names something that is not there.
    """
    session = Session()
    session.register_component("data_loader", _loader())
    try:
        session.get_scoped_config()  # botocore would read it only later, and then raise its own
    except (ProfileNotFound, ConfigParseError) as error:
        what = "AWS_PROFILE" if isinstance(error, ProfileNotFound) else "the AWS configuration file"
        raise AccessDenied(f"{what} names no profile that can be read") from error
    return session


@functools.cache
def _loader() -> Loader:
    """What it has read it keeps; each session would read it again."""
    return lean_loader()


def make_client(
    config: S3Config, session: Session, *, endpoint: str | None, connections: int
) -> "S3Client":
    """A client that signs with SigV4, adds no checksums of its own and never tries again."""
    client = session.create_client(
        "s3",
        endpoint_url=endpoint,
        region_name=config.region or session.get_config_variable("region") or "us-east-1",
        verify=config.verify,
        config=Config(
            # Without it, URLs for an endpoint of your own are signed with SigV2.
            signature_version="s3v4",
            # The defaults make stores that know no trailers refuse the request.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=config.connect_timeout_s,
            read_timeout=config.read_timeout_s,
            max_pool_connections=connections,
            tcp_keepalive=True,
            s3={"addressing_style": _addressing_style(config)},
        ),
    )
    return cast("S3Client", client)


def make_wire(config: S3Config, session: Session) -> Wire:
    """Connections that trust and go where botocore's would."""
    return Wire(
        connect_timeout_s=config.connect_timeout_s,
        read_timeout_s=config.read_timeout_s,
        tls=_tls(config, session),
        proxy_for=functools.cache(_proxy_for),
    )


def _addressing_style(config: S3Config) -> AddressingStyle:
    if config.addressing_style is not None:
        return config.addressing_style
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    own = config.endpoint or any(os.environ.get(name) for name in variables)
    # On AWS `virtual` rather than `auto`: presigned URLs then name the region's own host. The
    # global one redirects for young buckets, which no browser follows with a signed PUT.
    return "path" if own else "virtual"


def _tls(config: S3Config, session: Session) -> ssl.SSLContext:
    verify = config.verify
    if verify is None:
        verify = session.get_config_variable("ca_bundle") or True
    if verify is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = ssl.create_default_context(
            cafile=verify if isinstance(verify, str) else get_cert_path(True)
        )
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy_for(origin: Origin) -> str | None:
    """The proxy's URL, by the usual environment variables, as botocore picks it."""
    url = f"{origin.scheme}://{origin.authority}"
    proxies = get_environ_proxies(url)
    proxy = proxies.get(origin.scheme) or proxies.get("all")
    if not proxy:
        return None
    return proxy if urlsplit(proxy).scheme in {"http", "https"} else f"http://{proxy}"
