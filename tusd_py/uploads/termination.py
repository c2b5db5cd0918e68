"""Termination of uploads: the order lies in `tusd_storage`, because the reaper keeps it as well."""

from tusd_storage.termination import Terminator

__all__ = ["Terminator"]
