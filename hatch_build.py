"""Builds the demo page's scripts into a wheel or sdist when npm is there.

Without npm the package is whole but for those scripts; the server then shows a plain page.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DemoPageHook(BuildHookInterface[Any]):
    """Runs `npm ci && npm run build` in `tusd_py/demo/web` unless the result is there already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files."""
        root = Path(self.root)
        web = root / "tusd_py" / "demo" / "web"
        built = root / "tusd_py" / "demo" / "static" / "upload.js"
        npm = shutil.which("npm")
        if version == "editable" or built.exists() or not web.is_dir():
            return
        if npm is None:
            self.app.display_warning("npm is not installed: the demo page will be a plain one")
            return
        for command in ([npm, "ci"], [npm, "run", "build"]):
            # Standard output belongs to the build frontend.
            done = subprocess.run(command, cwd=web, stdout=sys.stderr, check=False)  # noqa: S603
            if done.returncode:
                self.app.display_warning("npm failed: the demo page will be a plain one")
                return
