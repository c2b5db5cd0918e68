"""How finished uploads are given out."""

from typing import Literal

from tusd_py.settings.area import Area
from tusd_py.settings.kinds import MediaTypes

Download = Literal["redirect", "stream", "off"]


class DownloadSettings(Area):
    """Downloads."""

    download: Download = "redirect"
    """GET on a finished upload: `redirect` to a signed address at the store, `stream` through this
    server, or `off`."""
    inline_types: MediaTypes = ()
    """Media types that a browser may show instead of saving, as in `image/png, video/*`."""
