"""What a demo found in the end: two sums that must come out, and a check that must hold.

read      = produced  + rejected_at_source
produced  = processed + duplicates + late + rejected_downstream
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from redis import Redis

from streamgauge.cli.demo.sources import Sent
from streamgauge.cli.verify import Report


@dataclass(frozen=True, kw_only=True)
class Result:
    """The last line of `demo --json`."""

    read: int
    produced: int
    processed: int
    rejected: int
    rejected_at_source: int
    rejected_downstream: int
    late: int
    duplicates: int
    postgres_rows: int
    redis_keys: int
    verified: bool
    differences: int
    seconds: float

    @classmethod
    def of(
        cls, sent: Sent, report: Report, *, postgres_rows: int, redis_keys: int, seconds: float
    ) -> "Result":
        """Put together from the source's own counts and the recomputation of the raw log."""
        downstream = sum(report.rejected.values())
        found = cls(
            read=sent.read,
            produced=sent.produced,
            processed=report.accepted,
            rejected=sent.rejected + downstream,
            rejected_at_source=sent.rejected,
            rejected_downstream=downstream,
            late=report.late,
            duplicates=report.duplicates,
            postgres_rows=postgres_rows,
            redis_keys=redis_keys,
            verified=report.ok,
            differences=sum(report.different.values()),
            seconds=round(seconds, 1),
        )
        return found if found.balanced else replace(found, verified=False)

    @property
    def balanced(self) -> bool:
        """Whether both sums come out."""
        downstream = self.processed + self.duplicates + self.late + self.rejected_downstream
        return self.read == self.produced + self.rejected_at_source and self.produced == downstream

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """Both sums, and the verdict."""
        verdict = "equal to a recomputation from the raw events"
        return "\n".join(
            (
                f"read {self.read:,} = produced {self.produced:,} + rejected at the source "
                f"{self.rejected_at_source:,}",
                f"produced {self.produced:,} = processed {self.processed:,} + duplicates "
                f"{self.duplicates:,} + late {self.late:,} + rejected {self.rejected_downstream:,}",
                f"{self.postgres_rows:,} rows in Postgres, {self.redis_keys:,} keys in Redis: "
                f"{verdict if self.verified else f'{self.differences:,} DIFFERENCES'}",
                f"{self.seconds:.1f} s",
            )
        )


def count_keys(url: str, namespace: str) -> int:
    """Keys of the namespace in Redis."""
    with Redis.from_url(url) as client:
        return sum(1 for _ in client.scan_iter(f"{namespace or 'sg'}:*", count=10_000))
