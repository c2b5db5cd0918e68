"""Rules of a bucket that serving uploads does not need: read for `tusd-py doctor` only."""

import asyncio
import random
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from botocore.session import Session

from tusd_storage.s3.calls import Calls
from tusd_storage.s3.client import make_client, new_session
from tusd_storage.s3.config import S3Config
from tusd_storage.s3.retry import Retry
from tusd_storage.s3.threads import Threads

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import LifecycleRuleOutputTypeDef


class BucketRules:
    """Reads a bucket's rules; `aclose` it."""

    def __init__(self, config: S3Config, *, session: Session | None = None) -> None:
        self._client = make_client(
            config, session or new_session(), endpoint=config.endpoint, connections=1
        )
        retry = Retry(
            deadline_s=config.deadline_s,
            clock=time.monotonic,
            sleep=asyncio.sleep,
            uniform=random.uniform,
        )
        self._calls = Calls(Threads("rules", 1), retry, _unobserved, time.monotonic)

    async def abort_days(self, bucket: str, prefix: str) -> int | None:
        """After how many days the store itself aborts multipart uploads under the prefix.

        None: never. Raises: AccessDenied, StoreUnavailable, StoreRefused where the store has no
        such rules (GetBucketLifecycleConfiguration).
        """
        answer = await self._calls.call(
            "GetBucketLifecycleConfiguration",
            lambda: self._client.get_bucket_lifecycle_configuration(Bucket=bucket),
        )
        return shortest(answer.get("Rules", ()), prefix)

    async def aclose(self) -> None:
        """Ends the connection."""
        await self._calls.aclose()
        self._client.close()


def shortest(rules: "Iterable[LifecycleRuleOutputTypeDef]", prefix: str) -> int | None:
    """The fewest days of those rules that hold for every key under the prefix."""
    days = [
        rule["AbortIncompleteMultipartUpload"].get("DaysAfterInitiation", 0)
        for rule in rules
        if rule.get("Status") == "Enabled"
        and "AbortIncompleteMultipartUpload" in rule
        and prefix.startswith(_prefix_of(rule))
        and not (rule.get("Filter", {}).keys() - {"Prefix"})
    ]
    return min(days, default=None)


def _prefix_of(rule: "LifecycleRuleOutputTypeDef") -> str:
    return rule.get("Filter", {}).get("Prefix", rule.get("Prefix", ""))


def _unobserved(_operation: str, _outcome: str, _seconds: float) -> None:
    """Nobody counts these."""
