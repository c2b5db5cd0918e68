"""The one definition of every setting: flags, `TUSD_…` variables, the TOML file, the reference.

One module for each heading of the reference owns names, defaults, units and what is nonsense;
`model` puts them together, `sources` knows where they are written. None knows how a setting is
used.
"""

from tusd_py.settings.area import ENV_PREFIX, SettingsError, mask_url
from tusd_py.settings.direct import ProfileSettings
from tusd_py.settings.model import SECTIONS, TUSD_NAMES, Settings, shown
from tusd_py.settings.state import NODE_PATTERN

__all__ = [
    "ENV_PREFIX",
    "NODE_PATTERN",
    "SECTIONS",
    "TUSD_NAMES",
    "ProfileSettings",
    "Settings",
    "SettingsError",
    "mask_url",
    "shown",
]
