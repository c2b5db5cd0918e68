"""The documentation is true: it builds, its examples run, and it names what exists and no more."""

import ast
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.test_deploy_files import in_environment
from tests.support.engines import Engine
from tests.support.pages import DOCS, ENDPOINT, ROOT_URL, page, readme, run, run_python, run_tus_js
from tests.support.process import ROOT, SOURCE_ROOTS, ServerProcess
from tests.support.tus import Bucket
from tusd_py.broker.errors import BrokerError
from tusd_py.cli import build_parser
from tusd_py.hooks.events import HookType
from tusd_py.http import errors
from tusd_py.settings import Settings
from tusd_py.settings.sources import load

PAGES = sorted(DOCS.glob("*.md"))
DATA = os.urandom(6 * 1024 * 1024 + 7)

_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


def first_column(name: str, heading: str) -> set[str]:
    """What the table under a heading lists: the code words of its first column."""
    section = page(name).text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"(?m)^\| (`[^|]*`) \|", section)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


# -- The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` builds it."""
    if not (ROOT / "bench" / "RESULTS.md").exists():
        pytest.skip("an unpacked sdist has not all the pages")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [in_environment("mkdocs-material", "mkdocs"), "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    for source in PAGES:
        name = "index.html" if source.stem == "index" else f"{source.stem}/index.html"
        assert (site / name).exists(), name
    assert (site / "contributing" / "index.html").exists()


def test_the_measurements_are_a_page(site: Path) -> None:
    for name in ("performance", "comparison"):
        text = (site / name / "index.html").read_text(encoding="utf-8")
        assert 'href="../measurements/"' in text
    assert (site / "measurements" / "index.html").exists()


def test_a_reader_fetches_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|iframe|source)[^>]+src=\"(https?:)?//|<link[^>]+href=\"//")
    for html in site.rglob("*.html"):
        text = html.read_text(encoding="utf-8")
        assert not loads.search(text), html.name
        assert "fonts.g" not in text, html.name


# -- What the pages name


@pytest.mark.parametrize("name", [source.name for source in PAGES])
def test_every_link_leads_to_a_file_of_the_repository(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page(name).text):
        assert (DOCS / target).exists(), target


@pytest.mark.parametrize("name", [source.name for source in PAGES])
def test_every_setting_named_exists(name: str) -> None:
    named = set(re.findall(r"\bTUSD_(?!TEST_)([A-Z0-9_]+)", page(name).text)) - {"CONFIG", "NAME"}
    assert {one.lower() for one in named} <= set(Settings.model_fields)
    linked = set(re.findall(r"\[`([a-z0-9_]+)`\]\(configuration\.md#", page(name).text))
    assert linked <= set(Settings.model_fields)


@pytest.mark.parametrize("name", [source.name for source in PAGES])
def test_every_command_is_one(name: str) -> None:
    for text in page(name).blocks("sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and "=" in words[0]:
                del words[0]
            if words[:1] == ["tusd-py"]:
                build_parser().parse_args(words[1:])
    for command in re.findall(r"`tusd-py ([a-z-]+)", page(name).text):
        assert re.search(rf"(?m)^ +{command}(?: |$)", build_parser().format_help()), command


@pytest.mark.parametrize("name", [source.name for source in PAGES])
def test_every_toml_block_is_a_configuration(name: str, tmp_path: Path) -> None:
    for number, text in enumerate(page(name).blocks("toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        load(environ={}, config=file)


def test_every_error_code_is_explained_and_none_is_invented() -> None:
    known = {failure.code for failure in errors.TABLE.values()}
    known |= {failure.code for failure in errors._INTERRUPTED.values()} | {errors.INTERNAL.code}
    known |= {kind.code for kind in BrokerError.__subclasses__()}
    assert first_column("operations.md", "Errors") == known


def test_every_log_line_is_explained_and_none_is_invented() -> None:
    assert first_column("operations.md", "Log lines") == set(logged())


def logged() -> Iterator[str]:
    """The texts of all calls like `log.info("text", ...)` in the program."""
    for root, package in zip(SOURCE_ROOTS, ("tusd_py", "tusd_storage", "tusd_reaper"), strict=True):
        for source in (root / package).rglob("*.py"):
            if "node_modules" not in source.parts and source.name != "logs.py":
                yield from _calls(ast.parse(source.read_text(encoding="utf-8")))


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _LOG_METHODS
            and re.search(r"\blog\b|get_logger", ast.unparse(node.func.value))
        ):
            text = node.args[0]
            assert isinstance(text, ast.Constant), ast.unparse(node)
            yield str(text.value)


# -- Moving over

TUSD_FLAGS = """
acquire-lock-timeout azure-blob-access-tier azure-container-access-type azure-endpoint
azure-object-prefix azure-storage base-path behind-proxy cors-allow-credentials cors-allow-headers
cors-allow-methods cors-allow-origin cors-expose-headers cors-max-age dir-perms
disable-concatenation disable-cors disable-download disable-termination
enable-experimental-protocol enable-h2c expose-metrics expose-pprof file-perms
filelock-acquirer-poll-interval filelock-holder-poll-interval gcs-bucket gcs-endpoint
gcs-object-prefix hooks-dir hooks-enabled-events hooks-grpc hooks-grpc-backoff
hooks-grpc-client-tls-certificate hooks-grpc-client-tls-key hooks-grpc-forward-headers
hooks-grpc-retry hooks-grpc-secure hooks-grpc-server-tls-certificate hooks-http hooks-http-backoff
hooks-http-forward-headers hooks-http-retry hooks-http-size-limit hooks-http-skip-verify
hooks-http-timeout hooks-plugin host log-format max-size metrics-path network-timeout port
pprof-block-profile-rate pprof-mutex-profile-rate pprof-path progress-hooks-interval
request-completion-timeout s3-bucket s3-concurrent-part-uploads s3-disable-content-hashes
s3-disable-ssl s3-endpoint s3-log-api-calls s3-max-buffered-parts s3-min-part-size
s3-object-prefix s3-part-size s3-transfer-acceleration show-greeting show-startup-logs
shutdown-timeout tls-certificate tls-key tls-mode unix-sock upload-dir verbose version
"""
"""Of tusd v2.10, cmd/tusd/cli/flags.go."""


def test_every_flag_of_tusd_has_its_line() -> None:
    listed = first_column("migrating-from-tusd.md", "Flag by flag")
    assert listed == {f"-{flag}" for flag in TUSD_FLAGS.split()}


def test_every_hook_of_tusd_has_its_line() -> None:
    assert first_column("migrating-from-tusd.md", "Hook by hook") == {
        *("pre-create", "post-create", "post-receive", "pre-finish", "post-finish"),
        *("pre-terminate", "post-terminate"),
    }
    assert first_column("migrating-from-tusd.md", "Hook by hook") <= {
        kind.value for kind in HookType
    }


def test_every_reason_of_the_import_is_explained_and_none_is_invented() -> None:
    codes = {"taken", "already", "finished"}
    for source in (ROOT / "tusd_py" / "importing").glob("*.py"):
        codes |= set(re.findall(r'NotTaken\(\s*"([a-z_0-9]+)"', source.read_text(encoding="utf-8")))
    assert first_column("migrating-from-tusd.md", "What the import takes over") == codes


# -- What the pages show


@pytest.fixture(scope="module")
def server(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    extra = {"TUSD_S3_PREFIX": seaweed.prefix()}
    with ServerProcess(tmp_path_factory.mktemp("docs"), seaweed, extra_env=extra) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(seaweed: Engine, server: ServerProcess) -> Iterator[Bucket]:
    found = Bucket(seaweed, server.extra_env["TUSD_S3_PREFIX"])
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the file that the examples upload."""
    (tmp_path / "video.mp4").write_bytes(DATA)
    return tmp_path


@pytest.mark.parametrize("name", ["index.md", "clients.md"])
def test_three_lines_of_python(
    name: str, server: ServerProcess, bucket: Bucket, folder: Path
) -> None:
    code = page(name).block("python", ".upload()\n" if name == "index.md" else '4").upload()')
    before = set(bucket.keys())
    run_python(code.replace(ENDPOINT, server.uploads_url), folder)
    (key,) = set(bucket.keys()) - before
    assert bucket.read(key) == DATA


def test_tuspy_with_a_storage_for_urls(server: ServerProcess, bucket: Bucket, folder: Path) -> None:
    code = page("clients.md").block("python", "FileStorage").replace(ENDPOINT, server.uploads_url)
    url = run_python(code, folder).strip()
    assert bucket.read(url) == DATA
    assert (folder / "uploads.json").exists()


def test_tus_js_client(server: ServerProcess, bucket: Bucket, folder: Path) -> None:
    code = page("clients.md").block("js", "tus-js-client").replace(ENDPOINT, server.uploads_url)
    assert bucket.read(run_tus_js(code, folder)) == DATA


def test_curl_by_hand(server: ServerProcess, bucket: Bucket, tmp_path: Path) -> None:
    code = page("clients.md").block("sh", "Upload-Length: 11")
    create = code.replace(ENDPOINT, server.uploads_url)
    answer = run(["sh", "-es"], tmp_path, create)
    location = re.search(r"(?im)^location: *(\S+)", answer)
    assert location is not None
    url = f"export URL={server.url}{location[1]}\n"
    said = run(["sh", "-es"], tmp_path, url + page("clients.md").block("sh", " world"))
    assert re.findall(r"(?im)^upload-offset: *(\d+)", said) == ["5", "5", "11"]
    assert bucket.read(location[1]) == b"hello world"
    ended = run(["sh", "-es"], tmp_path, url + page("clients.md").block("sh", "DELETE"))
    assert ended.startswith("hello world")
    assert "204" in ended
    assert bucket.read(location[1]) is None


def test_what_readme_and_docs_show_alike() -> None:
    for name, language, containing in (
        ("broker.md", "python", "httpx"),
        ("broker.md", "js", "@uppy/aws-s3"),
        ("clients.md", "js", "@uppy/tus"),
    ):
        assert page(name).block(language, containing) == readme().block(language, containing)


def test_a_session_straight_to_the_store(server: ServerProcess, folder: Path) -> None:
    code = page("broker.md").block("python", "httpx").replace(ROOT_URL, server.url)
    said = run_python(code, folder)
    assert said.split() == ["validating", str(len(DATA))]
