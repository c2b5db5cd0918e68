"""What runs beside the uploads: the reaper and the worker."""

from datetime import timedelta

from pydantic import Field

from tusd_py.settings.area import Area
from tusd_py.settings.kinds import Duration


class BackgroundSettings(Area):
    """What runs beside the uploads."""

    reap: bool = True
    """Sweep up what uploads leave behind, from inside the server. Off: run `tusd-py reap --apply`
    from outside, on every node."""
    reap_interval: Duration = Field(default=timedelta(minutes=10), ge=timedelta(seconds=1))
    """Time between two sweeps, give or take a quarter."""
    reap_grace: Duration = Field(default=timedelta(hours=1), ge=timedelta())
    """What nobody seems to own and is younger than this is left alone: somebody may be at work."""
    retention: Duration = Field(default=timedelta(days=30), ge=timedelta())
    """Records of expired, aborted and failed uploads and of jobs that are done are kept this
    long. Completed uploads are kept for as long as their object."""
    work: bool = True
    """Run jobs, such as checking what arrived, from inside the server. Off: run `tusd-py work`."""
    work_parallel: int = Field(default=4, ge=1, le=256)
    """Jobs that one process runs at the same time."""
    job_attempts: int = Field(default=20, ge=1, le=100)
    """Tries before a job is given up, after four and a half to nine hours; `tusd-py jobs retry`
    tries again."""
