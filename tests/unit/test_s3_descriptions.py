"""What is left of botocore's descriptions says the same as all of it, in far less memory."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.regions import EndpointResolver
from botocore.session import Session

from tests.support.aws import session_with
from tusd_storage.s3.descriptions import lean_loader

SERVICES = ("s3", "sts", "sso", "sso-oidc", "signin")
"""S3, and those that botocore's providers of credentials make clients of."""
OWN_NAMES = ("s3", "sts", "portal.sso", "oidc", "signin")
"""The same in `endpoints.json`."""


@pytest.fixture(scope="module", name="plain")
def made_plain() -> Loader:
    return Loader()


@pytest.fixture(scope="module", name="lean")
def made_lean() -> Loader:
    return lean_loader()


def without_prose(value: Any) -> Any:
    if isinstance(value, list):
        return [without_prose(item) for item in value]
    if not isinstance(value, dict):
        return value
    prose = ("documentation", "documentationUrl")
    return {
        name: "" if name in prose and isinstance(item, str) else without_prose(item)
        for name, item in value.items()
    }


@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1"])
@pytest.mark.parametrize("service", SERVICES)
def test_only_prose_is_gone(plain: Loader, lean: Loader, service: str, kind: str) -> None:
    whole = plain.load_service_model(service, kind)
    left = lean.load_service_model(service, kind)
    assert left == without_prose(whole)
    assert json.dumps(left) == json.dumps(without_prose(whole)), "another order"


@pytest.mark.parametrize("name", ["partitions", "_retry", "sdk-default-configuration"])
def test_other_files_are_as_they_were(plain: Loader, lean: Loader, name: str) -> None:
    assert lean.load_data(name) == plain.load_data(name)


def test_a_member_that_is_called_documentation_stays(tmp_path: Path) -> None:
    folder = tmp_path / "own" / "2020-01-01"
    folder.mkdir(parents=True)
    content = {"members": {"documentation": {"shape": "Text", "documentation": "<p>gone</p>"}}}
    (folder / "service-2.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    loader = lean_loader()
    loader.search_paths.append(str(tmp_path))
    assert loader.load_service_model("own", "service-2") == {
        "members": {"documentation": {"shape": "Text", "documentation": ""}}
    }


def test_every_region_has_the_same_endpoints(plain: Loader, lean: Loader) -> None:
    whole = EndpointResolver(plain.load_data("endpoints"))
    left = EndpointResolver(lean.load_data("endpoints"))
    assert left.get_available_partitions() == whole.get_available_partitions()
    assert {"aws", "aws-cn", "aws-us-gov"} <= set(left.get_available_partitions())
    for service, region in _places(plain.load_data("endpoints")):
        for options in ({}, {"use_dualstack_endpoint": True}, {"use_fips_endpoint": True}):
            assert _endpoint(left, service, region, options) == _endpoint(
                whole, service, region, options
            ), (service, region, options)
    for name in OWN_NAMES:
        for partition in whole.get_available_partitions():
            assert left.get_available_endpoints(name, partition) == whole.get_available_endpoints(
                name, partition
            )


def _places(endpoints: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for partition in endpoints["partitions"]:
        for service in OWN_NAMES:
            known = partition["services"].get(service, {}).get("endpoints", {})
            for region in {*partition["regions"], *known, "xx-new-1"}:
                yield service, region


def _endpoint(
    resolver: EndpointResolver, service: str, region: str, options: dict[str, bool]
) -> object:
    try:
        return resolver.construct_endpoint(service, region, **options)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "region", ["eu-central-1", "cn-north-1", "us-gov-west-1", "us-isob-east-1"]
)
def test_clients_go_where_botocores_go(service: str, region: str) -> None:
    lean = session_with("key", "secret").create_client(service, region_name=region)
    plain = Session().create_client(
        service, region_name=region, aws_access_key_id="key", aws_secret_access_key="secret"
    )
    assert lean.meta.endpoint_url == plain.meta.endpoint_url
    assert lean.meta.partition == plain.meta.partition
    assert lean.meta.method_to_api_mapping == plain.meta.method_to_api_mapping


def test_it_is_less_than_a_third_of_the_memory() -> None:
    assert _memory(lean_loader()) < _memory(Loader()) / 3


def _memory(loader: Loader) -> int:
    """What stays in memory of what one client of S3 has read."""
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start(1)
    try:
        before, _ = tracemalloc.get_traced_memory()
        loader.load_service_model("s3", "service-2")
        loader.load_service_model("s3", "endpoint-rule-set-1")
        loader.load_data("endpoints")
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        if started:
            tracemalloc.stop()


def test_descriptions_of_ones_own_are_found() -> None:
    assert lean_loader().search_paths == Loader().search_paths
