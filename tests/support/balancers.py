"""The load balancers of `deploy/`, started with the files that are shipped.

Owns the few lines around a shipped file that make it run without privileges.
What a file leaves open it takes from variables, as its first lines say; nothing else is changed,
unless a test asks for it by `change`.

    with HAProxy(tmp_path, {"n1": a.port, "n2": b.port}) as balancer: ... balancer.url
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from tests.support.foreground import Foreground
from tests.support.process import ROOT

DEPLOY = ROOT / "deploy"

Change = Callable[[str], str]


def without_affinity(text: str) -> str:
    """HAProxy's file as somebody would write it who knows nothing of homes: round robin."""
    kept = [line for line in text.splitlines() if "use-server" not in line]
    changed = "\n".join(line for line in kept if "use_backend" not in line) + "\n"
    assert changed.count("balance leastconn") == 2
    return changed.replace("balance leastconn", "balance roundrobin")


class Balancer(Foreground):
    """One running load balancer; ready when a node answers through it."""

    ready_path = "/health"
    shipped: ClassVar[Path]

    def __init__(
        self,
        folder: Path,
        nodes: Mapping[str, int],
        *,
        tail_loss: str = "fail",
        change: Change | None = None,
    ) -> None:
        super().__init__(folder)
        self._variables = {
            "UPLOADS_TAIL_LOSS": tail_loss,
            **{f"UPLOADS_{name.upper()}": f"127.0.0.1:{port}" for name, port in nodes.items()},
        }
        text = self.shipped.read_text()
        self._text = change(text) if change else text

    @property
    def uploads_url(self) -> str:
        """Where uploads are created."""
        return f"{self.url}/files/"


class HAProxy(Balancer):
    """`deploy/haproxy/haproxy.cfg`."""

    program = "haproxy"
    shipped = DEPLOY / "haproxy" / "haproxy.cfg"

    def command(self) -> list[str]:
        file = self._folder / "haproxy.cfg"
        file.write_text(self._text)
        self._variables["UPLOADS_LISTEN"] = f"127.0.0.1:{self.port}"
        return [self._program, "-db", "-f", str(file)]


class Nginx(Balancer):
    """`deploy/nginx/tusd.conf.template`."""

    program = "nginx"
    shipped = DEPLOY / "nginx" / "tusd.conf.template"

    def command(self) -> list[str]:
        self._variables["UPLOADS_LISTEN"] = f"127.0.0.1:{self.port}"
        (self._folder / "tusd.conf").write_text(substitute(self._text, self._variables))
        folders = "".join(
            f"{name}_temp_path {self._folder / name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self._folder / "nginx.conf").write_text(
            f"daemon off; pid {self._folder / 'pid'}; error_log stderr notice;\n"
            "worker_processes 1; events { worker_connections 1024; }\n"
            f"http {{ access_log off; {folders} include {self._folder / 'tusd.conf'}; }}\n"
        )
        if os.geteuid() == 0:  # workers would be somebody else, who cannot read a private folder
            with (self._folder / "nginx.conf").open("a") as file:
                file.write("user root;\n")
        prefix = f"{self._folder}/"
        return [self._program, "-p", prefix, "-c", "nginx.conf", "-e", "stderr"]


class Caddy(Balancer):
    """`deploy/caddy/Caddyfile`."""

    program = "caddy"
    shipped = DEPLOY / "caddy" / "Caddyfile"

    def command(self) -> list[str]:
        file = self._folder / "Caddyfile"
        file.write_text(self._text)
        self._variables["UPLOADS_SITE"] = f":{self.port}"
        return [self._program, "run", "--adapter", "caddyfile", "--config", str(file)]


BALANCERS: Mapping[str, type[Balancer]] = {"nginx": Nginx, "haproxy": HAProxy, "caddy": Caddy}


def substitute(template: str, variables: Mapping[str, str]) -> str:
    """What `envsubst` with a list of names does: other `$names` stay."""
    return re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found[1], found[0]), template)
