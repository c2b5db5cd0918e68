"""What must be there before the server starts: folders, database, bucket.

Each is checked by using it, and what is wrong becomes one sentence that says what to do.
"""

from dataclasses import replace

import structlog

from tusd_py.settings import ENV_PREFIX, Settings, SettingsError, mask_url
from tusd_storage.errors import AccessDenied, Rejected, StorageError, StoreUnresolved, Unavailable

SQLITE = "sqlite"


def prepare_folders(settings: Settings) -> None:
    """Makes the folders and the node's name, so that every worker finds them.

    Raises: SettingsError.
    """
    for name, folder in (("data_dir", settings.data_dir), ("tmp_dir", settings.tmp_dir)):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise SettingsError(
                f"The folder {name} = {str(folder)!r} cannot be written ({error.strerror}): "
                f"make it writable, or write another with {ENV_PREFIX}{name.upper()}"
            ) from error
    settings.node_name()


def prepare_database(settings: Settings, *, migrating: bool = False) -> None:
    """Brings SQLite up to date; demands that PostgreSQL is, unless `migrating`.

    Raises: SettingsError.
    """
    from tusd_storage import sql

    url = settings.database_url
    shown = mask_url(url)
    try:
        if migrating or url.startswith(SQLITE):
            sql.migrate(url)
        elif not sql.schema_is_current(url):
            raise SettingsError(
                f"The schema of {shown} is not the one of this version: run `tusd-py migrate` "
                "with the same settings, then start again"
            )
    except sql.TablesInUse as error:
        raise SettingsError(
            f"The database {shown} could not be brought up to date ({error}): "
            "end that transaction, or wait for its end, then run `tusd-py migrate` again"
        ) from error
    except StorageError as error:
        raise SettingsError(
            f"The database {shown} cannot be used ({error}): "
            f"start it, or correct {ENV_PREFIX}DATABASE_URL"
        ) from error
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"PostgreSQL needs {error.name}: run pip install 'tusd-py[postgres]'"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{ENV_PREFIX}DATABASE_URL is {shown!r}: {error}") from error


async def check_bucket(settings: Settings) -> None:
    """Asks the store for the bucket once. A store that is merely down is waited for by `/ready`.

    Raises: SettingsError, when waiting would not help.
    """
    from tusd_py.configs import s3_config
    from tusd_storage.s3 import S3Store

    bucket = settings.require_bucket()
    hasty = replace(s3_config(settings), connect_timeout_s=2, read_timeout_s=5, deadline_s=2)
    store = None
    try:
        store = S3Store(hasty)
        await store.probe(bucket)
    except AccessDenied as error:
        raise SettingsError(
            f"The bucket {bucket!r} cannot be used ({error}): set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (or a profile) with the right s3:ListBucket on it"
        ) from error
    except Rejected as error:
        raise SettingsError(
            f"The bucket {bucket!r} cannot be used ({error}): create it, or correct "
            f"{ENV_PREFIX}S3_BUCKET, {ENV_PREFIX}S3_ENDPOINT or {ENV_PREFIX}S3_REGION"
        ) from error
    except StoreUnresolved:
        structlog.get_logger(__name__).warning(
            "the host name of the store cannot be resolved: correct s3_endpoint or s3_region, or "
            "mend the name service; /ready tells when the store answers",
            bucket=bucket,
        )
    except Unavailable as error:
        structlog.get_logger(__name__).warning(
            "the store does not answer; /ready tells when it does", bucket=bucket, reason=str(error)
        )
    finally:
        if store is not None:
            await store.aclose()
