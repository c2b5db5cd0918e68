"""docs/configuration.md says what the settings say."""

import importlib.util
from pathlib import Path

from tusd_py.settings import ProfileSettings, Settings

WRITER = Path(__file__).resolve().parents[2] / "docs" / "write_configuration.py"


def test_the_page_is_what_the_settings_give() -> None:
    spec = importlib.util.spec_from_file_location("write_configuration", WRITER)
    assert spec is not None and spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    current = writer.PAGE.read_text(encoding="utf-8") == writer.text()
    assert current, "settings have changed: run `make format`, which writes docs/configuration.md"


def test_every_setting_is_described() -> None:
    for model in (Settings, ProfileSettings):
        for name, field in model.model_fields.items():
            assert field.description, name
