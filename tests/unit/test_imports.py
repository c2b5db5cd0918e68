"""What a serving process does not import: it would hold it in memory for as long as it lives."""

import subprocess
import sys
from pathlib import Path

from tests.support.process import program_environment

UNUSED = (
    "alembic",
    "boto3",
    "httpx",
    "jinja2",
    "jwt",
    "mako",
    "psycopg",
    "s3transfer",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.orm",
    "tusd_py.demo.dev",
    "tusd_py.demo.engine",
)
"""Of other databases, other commands, and settings that are not the defaults."""

SCRIPT = """
import sys
import tusd_py.cli, tusd_py.server
from tusd_py.app import create_app
from tusd_py.settings import Settings

tusd_py.cli.build_parser()
create_app(Settings(s3_bucket="b", s3_region="r", data_dir=sys.argv[1]))
assert "tusd_storage.s3.store" in sys.modules and "tusd_storage.sql.store" in sys.modules
print(*sys.modules)
"""


def test_a_server_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=program_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.split())
    assert [name for name in UNUSED if name in found] == []
