"""One writer for an upload: the newest request wins.

The row is the truth; a process remembers only what saves the way to it. Knows no tus.
"""

from tusd_storage.leases.lease import Interruption, Lease
from tusd_storage.leases.manager import LeaseManager

__all__ = ["Interruption", "Lease", "LeaseManager"]
