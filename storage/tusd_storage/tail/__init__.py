"""Tails: acknowledged bytes that are not yet a part, on this node's disk."""

from tusd_storage.tail.paths import tail_path
from tusd_storage.tail.store import NodeTails

__all__ = ["NodeTails", "tail_path"]
