"""Locks of the operating system: which processes of this node live."""

from tusd_storage.locks.liveness import ProcessLock

__all__ = ["ProcessLock"]
