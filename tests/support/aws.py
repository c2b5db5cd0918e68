"""Sessions as the server makes them, with credentials of a test's own."""

from botocore.session import Session

from tusd_storage.s3.client import new_session


def session_with(
    access_key: str, secret_key: str, token: str | None = None, *, region: str | None = None
) -> Session:
    """A session that looks nowhere else for credentials."""
    session = new_session()
    session.set_credentials(access_key, secret_key, token)
    if region is not None:
        session.set_config_variable("region", region)
    return session
