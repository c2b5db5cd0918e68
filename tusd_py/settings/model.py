"""Every setting, and what must be true of settings of different areas."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ConfigDict, model_validator

from tusd_py.settings.access import AccessSettings, check_auth
from tusd_py.settings.area import MASK, Area, Hidden, mask_url
from tusd_py.settings.background import BackgroundSettings
from tusd_py.settings.direct import DirectSettings
from tusd_py.settings.downloads import DownloadSettings
from tusd_py.settings.hooks import HookSettings
from tusd_py.settings.operator import OperatorSettings
from tusd_py.settings.promises import PromiseSettings
from tusd_py.settings.server import ServerSettings
from tusd_py.settings.state import StateSettings
from tusd_py.settings.store import SizeSettings, StoreSettings
from tusd_py.settings.telemetry import LogSettings, MetricsSettings
from tusd_py.units import show_duration, show_size

AREAS: Mapping[str, type[Area]] = {
    "The server": ServerSettings,
    "State on this node": StateSettings,
    "The store": StoreSettings,
    "Sizes and limits": SizeSettings,
    "Promises and times": PromiseSettings,
    "What runs beside the uploads": BackgroundSettings,
    "Uploads straight to the store": DirectSettings,
    "Downloads": DownloadSettings,
    "Who may upload": AccessSettings,
    "The operator page": OperatorSettings,
    "Hooks": HookSettings,
    "Metrics": MetricsSettings,
    "Logs": LogSettings,
}

SECTIONS: Mapping[str, tuple[str, ...]] = {
    title: tuple(area.model_fields) for title, area in AREAS.items()
}
"""The reference and `--help`: the names of the settings under each heading."""

TUSD_NAMES: Mapping[str, str] = {
    "network_timeout": "body_idle_timeout",
    "s3_concurrent_part_uploads": "s3_max_connections",
    "s3_part_size": "part_size",
}
"""What tusd calls settings of the same meaning and unit; taken wherever ours are."""


class Settings(  # the fields of the last one come first
    LogSettings,
    MetricsSettings,
    HookSettings,
    OperatorSettings,
    AccessSettings,
    DownloadSettings,
    DirectSettings,
    BackgroundSettings,
    PromiseSettings,
    SizeSettings,
    StoreSettings,
    StateSettings,
    ServerSettings,
):
    """Every setting of the program. Frozen; `repr` and `masked` show no secret."""

    model_config = ConfigDict(defer_build=False)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.max_lifetime < self.expires_in:
            raise ValueError(
                f"max_lifetime is {show_duration(self.max_lifetime)}, expires_in is "
                f"{show_duration(self.expires_in)}: write a max_lifetime at least as long"
            )
        if self.max_part_size < self.part_size:
            raise ValueError(
                f"max_part_size is {show_size(self.max_part_size)}, part_size is "
                f"{show_size(self.part_size)}: write a part_size that is not larger"
            )
        if self.operator_page and not (self.operator_token or self.operator_open):
            raise ValueError("operator_page shows every upload: write an operator_token with it")
        if self.operator_page and self.base_path.startswith("/operator/"):
            raise ValueError('operator_page needs "/operator/": write another base_path')
        if self.demo_page and self.base_path == "/":
            raise ValueError('The demo page needs "/": set base_path to "/files/" or demo_page off')
        check_auth(self)
        if self.base_path != "/" and f"{self.metrics_path}/".startswith(self.base_path):
            raise ValueError("metrics_path lies below base_path: write another, as in /metrics")
        if self.metrics_port is not None and self.metrics_port == self.port:
            raise ValueError("metrics_port is the port of the uploads: write another, or none")
        return self

    def masked(self) -> dict[str, object]:
        """All values, fit to be shown: secrets and the database's password are `***`."""
        return dict(self.__repr_args__())

    def __repr_args__(self) -> list[tuple[str, Any]]:
        return [(name, shown(name, getattr(self, name))) for name in type(self).model_fields]

    def __str__(self) -> str:
        return repr(self)


def shown(name: str, value: Any) -> Any:
    """The value of a setting, fit to be shown."""
    field = Settings.model_fields.get(name)
    if field is not None and any(isinstance(mark, Hidden) for mark in field.metadata):
        return MASK if value else value
    if isinstance(value, list | tuple):
        return tuple(mask_url(item) if isinstance(item, str) else item for item in value)
    return mask_url(value) if isinstance(value, str) else value
