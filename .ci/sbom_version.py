"""Writes the program's version into its bill of materials: in pyproject.toml it is not said."""

import json
import sys
from pathlib import Path

from tusd_py import __version__

file = Path(sys.argv[1])
bill = json.loads(file.read_text())
bill["metadata"]["component"]["version"] = __version__
bill["metadata"]["component"]["purl"] = f"pkg:pypi/tusd-py@{__version__}"
file.write_text(json.dumps(bill, indent=2) + "\n")
