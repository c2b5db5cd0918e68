"""The workloads: what the load generator is told, and how a result is read."""

from dataclasses import dataclass

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True)
class Workload:
    """One row of the table."""

    key: str
    title: str
    mode: str = "upload"
    uploads: int = 1
    clients: int = 1
    size: int = 0
    chunk: int = 0
    rate: int = 0
    requests: int = 0
    with_creation: bool = False
    store: str = "null"
    unit: str = "MiB/s"
    cpu_unit: str = "CPU s/GiB"

    @property
    def arguments(self) -> list[str]:
        """For the load generator."""
        numbers = {
            "uploads": self.uploads,
            "clients": self.clients,
            "size": self.size,
            "chunk": self.chunk,
            "rate": self.rate,
            "requests": self.requests,
        }
        given = [item for name, n in numbers.items() if n for item in (f"--{name}", str(n))]
        return [self.mode, *given, *(["--with-creation"] if self.with_creation else [])]

    def amount(self, answered: int, moved: int) -> float:
        """What `unit` counts, from requests answered and bytes moved."""
        if self.unit == "MiB/s":
            return moved / MIB
        return self.uploads if self.unit == "uploads/s" else answered

    def cpu(self, cpu_s: float, answered: int, moved: int) -> float:
        """Processor time in `cpu_unit`."""
        if self.cpu_unit == "CPU s/GiB":
            return cpu_s / (moved / GIB) if moved else 0.0
        if self.cpu_unit == "CPU s":
            return cpu_s
        return 1000 * cpu_s / (answered if self.cpu_unit == "CPU ms/request" else self.uploads)


def _small(key: str, title: str, *, quick: bool, with_creation: bool) -> Workload:
    return Workload(
        key,
        title,
        uploads=200 if quick else 500,
        clients=16,
        size=100 * KIB,
        with_creation=with_creation,
        unit="uploads/s",
        cpu_unit="CPU ms/upload",
    )


def workloads(*, quick: bool) -> list[Workload]:
    """All rows; `quick` moves fewer bytes."""
    big, eighth = (256 * MIB, 32 * MIB) if quick else (GIB, 128 * MIB)
    size = "256 MiB" if quick else "1 GiB"
    seconds = 5 if quick else 20
    many = f"8 × {eighth // MIB} MiB at once"
    return [
        Workload("A", f"{size} in one PATCH", size=big),
        Workload("B", f"{size} in 8 MiB PATCHes", size=big, chunk=8 * MIB),
        Workload("C", many, uploads=8, clients=8, size=eighth),
        _small("D", "100 KiB uploads, POST + PATCH", quick=quick, with_creation=False),
        _small("E", "100 KiB uploads, creation-with-upload", quick=quick, with_creation=True),
        Workload(
            "F",
            "HEAD on an unfinished upload",
            mode="head",
            clients=16,
            size=20 * MIB,
            chunk=6 * MIB,
            requests=1000 if quick else 4000,
            unit="requests/s",
            cpu_unit="CPU ms/request",
        ),
        Workload(
            "G",
            f"200 uploads at 64 KiB/s for {seconds} s",
            mode="trickle",
            uploads=200,
            clients=200,
            size=64 * KIB * seconds,
            rate=64 * KIB,
            cpu_unit="CPU s",
        ),
        Workload("H", "20 MiB in 256 KiB PATCHes", size=20 * MIB, chunk=256 * KIB),
        Workload("A-weed", "A on SeaweedFS", size=big, store="seaweed"),
        Workload("C-weed", "C on SeaweedFS", uploads=8, clients=8, size=eighth, store="seaweed"),
        Workload("A-delay", "A with 20 ms per S3 answer", size=big, store="delay"),
    ]
