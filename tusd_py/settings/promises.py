"""What is promised to uploads, and for how long."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from tusd_py.settings.area import Area
from tusd_py.settings.kinds import Duration, Size

TailLoss = Literal["fail", "rewind"]


class PromiseSettings(Area):
    """Promises and times."""

    tail_fsync: bool = True
    """Flush acknowledged bytes to the disk, so that they survive a power loss."""
    tail_loss: TailLoss = "fail"
    """When acknowledged bytes are not on this node: `fail` answers 503 until they are, `rewind`
    moves the offset back to what the store has."""
    expires_in: Duration = Field(default=timedelta(hours=24), ge=timedelta(seconds=1))
    """An unfinished upload ends this long after its last accepted byte."""
    max_lifetime: Duration = Field(default=timedelta(days=7), ge=timedelta(seconds=1))
    """An unfinished upload ends this long after its creation at the latest."""
    lease_ttl: Duration = Field(default=timedelta(seconds=15), ge=timedelta(seconds=1))
    """A server that died loses its uploads to another after this time."""
    lease_keep: Duration = Field(default=timedelta(seconds=2), ge=timedelta(0))
    """After a request its process keeps the right to write the upload for this long, for the next
    one: that is then served without a question to the database. Another process that wants the
    upload gets it within a second. `0` where requests of one upload reach many processes by
    chance; with several `workers` it is always 0."""
    body_idle_timeout: Duration = Field(
        default=timedelta(seconds=60), ge=timedelta(milliseconds=100)
    )
    """A request whose body does not move for this long is ended; what arrived is kept."""
    min_body_rate: Size = Field(default=16, ge=0)
    """A body that brings fewer bytes per second than this, over `body_idle_timeout`, is ended,
    too."""
    head_timeout: Duration = Field(default=timedelta(seconds=30), ge=timedelta(milliseconds=100))
    """The headers of a request must be complete this long after its first byte."""
    keep_alive_timeout: Duration = Field(
        default=timedelta(seconds=75), ge=timedelta(milliseconds=100)
    )
    """A connection is closed this long after its last answer. Make it longer than the one of a
    load balancer in front."""
    send_timeout: Duration = Field(default=timedelta(seconds=60), ge=timedelta(milliseconds=100))
    """A client that takes nothing of an answer for this long is cut off."""
    shutdown_timeout: Duration = Field(default=timedelta(seconds=10), ge=timedelta(seconds=1))
    """Time that running requests get to end when the server is told to stop."""
