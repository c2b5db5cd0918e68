"""The former name of `tusd_storage.ports.direct`."""

from tusd_storage.ports.direct import Capability, PresignedForm

__all__ = ["Capability", "PresignedForm"]
