"""The records: what is live, what was answered and how it was rated; one SQL database, written by several processes."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, update

from infra.database import open_database
from infra.errors import InputError
from infra.live import LiveRecords, rollout_id
from infra.tables import (
    ARMS,
    ROLES,
    AddedCase,
    ApiKey,
    Feedback,
    Placement,
    PointerMove,
    ReleaseRecord,
    Rollout,
    Trace,
)

__all__ = [
    "AddedCase",
    "ApiKey",
    "Feedback",
    "Outcome",
    "Placement",
    "PointerMove",
    "Rated",
    "Records",
    "ReleaseRecord",
    "Rollout",
    "Trace",
    "key_digest",
    "rollout_id",
]

PURGE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the canary sees of one request. `rating` is the last one given, None without any."""

    seq: int
    trace_id: str
    request_key: str | None
    arm: str
    release: str
    session: str
    error: bool
    unsafe: bool
    latency_ms: float
    refused: bool
    rating: int | None


class Rated(NamedTuple):
    """An answer and one rating of it."""

    trace: Trace
    feedback: Feedback


def key_digest(key: str) -> str:
    """What is kept of a caller's key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _new_values(trace: Trace) -> dict[str, Any]:
    """Column values of a new trace, without the number that the database gives."""
    return {column.key: getattr(trace, column.key) for column in Trace.__table__.columns if column.key != "seq"}


class Records(LiveRecords):
    """Every read and write of the records. Each write is one short transaction.

    Raises: TryAgainError when the database stays busy or away, SetupError when its disk is full or not writable.
    """

    @classmethod
    def open(cls, url: str) -> "Records":
        """Open the database of a SQLAlchemy address and bring its schema up to date."""
        return cls(open_database(url))

    def add_traces(self, traces: Sequence[Trace]) -> None:
        """Store a batch in one transaction, in order; a request key that the release already answered is left out."""
        if not traces:
            return
        for trace in traces:
            if trace.arm not in ARMS:
                raise InputError(f"trace {trace.trace_id}: arm {trace.arm!r} is not one of {', '.join(ARMS)}")
        with self._writing() as session:
            session.execute(self._insert(Trace).on_conflict_do_nothing(), [_new_values(trace) for trace in traces])

    def trace(self, trace_id: str) -> Trace | None:
        """One trace."""
        with self._reading() as session:
            return session.scalar(select(Trace).where(Trace.trace_id == trace_id))

    def answered(self, request_key: str, release: str = "") -> Trace | None:
        """The stored answer of this release, or the first of any, to this request, for a caller that asks twice."""
        query = select(Trace).where(Trace.request_key == request_key).order_by(Trace.seq).limit(1)
        if release:
            query = query.where(Trace.release == release)
        with self._reading() as session:
            return session.scalar(query)

    def traces(self, *, release: str = "", since: float = 0.0, after: int = 0, limit: int = 1000) -> list[Trace]:
        """Traces in order of arrival: of one release or all, created at or after `since`, numbered above `after`."""
        query = select(Trace).where(Trace.created >= since, Trace.seq > after).order_by(Trace.seq).limit(limit)
        if release:
            query = query.where(Trace.release == release)
        with self._reading() as session:
            return list(session.scalars(query))

    def unexported(self, limit: int) -> list[Trace]:
        """Oldest traces that no exporter has taken yet."""
        query = select(Trace).where(Trace.exported.is_(False)).order_by(Trace.seq).limit(limit)
        with self._reading() as session:
            return list(session.scalars(query))

    def mark_exported(self, trace_ids: Iterable[str]) -> None:
        """Say that these traces were exported."""
        with self._writing() as session:
            session.execute(update(Trace).where(Trace.trace_id.in_(list(trace_ids))).values(exported=True))

    def outcomes(self, rollout: str, after: int = 0) -> list[Outcome]:
        """Outcomes of both arms of a canary in order of arrival, numbered above `after`."""
        last = select(func.max(Feedback.id).label("id")).group_by(Feedback.trace_id).subquery()
        ratings = select(Feedback.trace_id, Feedback.rating).join(last, Feedback.id == last.c.id).subquery()
        query = (
            select(
                Trace.seq, Trace.trace_id, Trace.request_key, Trace.arm, Trace.release, Trace.session,
                Trace.error != "", Trace.unsafe, Trace.latency_ms, Trace.refused, ratings.c.rating,
            )
            .outerjoin(ratings, ratings.c.trace_id == Trace.trace_id)
            .where(Trace.rollout == rollout, Trace.arm.in_(("baseline", "canary")), Trace.seq > after)
            .order_by(Trace.seq)
        )  # fmt: skip
        with self._reading() as session:
            return [Outcome(*row) for row in session.execute(query)]

    def add_feedback(
        self,
        trace_id: str,
        rating: int,
        *,
        correction: str = "",
        reason: str = "",
        simulated: bool = False,
        tenant: str | None = None,
    ) -> None:
        """Store a rating (-1 or 1), texts already redacted; a trace of another tenant than `tenant` is unknown.

        Raises: InputError for an unknown trace or rating.
        """
        if rating not in (-1, 1):
            raise InputError(f"rating: {rating} is neither -1 nor 1")
        row = Feedback(
            trace_id=trace_id,
            created=time.time(),
            rating=rating,
            correction=correction,
            reason=reason,
            simulated=simulated,
        )
        known = select(Trace.seq).where(Trace.trace_id == trace_id)
        if tenant is not None:
            known = known.where(Trace.tenant == tenant)
        with self._writing() as session:
            if session.scalar(known) is None:
                raise InputError(f"trace_id: no trace {trace_id!r}")
            session.add(row)

    def feedback(self, trace_id: str) -> list[Feedback]:
        """Ratings of one trace, oldest first."""
        with self._reading() as session:
            return list(session.scalars(select(Feedback).where(Feedback.trace_id == trace_id).order_by(Feedback.id)))

    def rated(self, *, simulated: bool = False, after: int = 0, limit: int = 1000) -> list[Rated]:
        """Ratings numbered above `after`, oldest first, each with its trace; those of programs only if `simulated`."""
        query = (
            select(Trace, Feedback)
            .join(Feedback, Feedback.trace_id == Trace.trace_id)
            .where(Feedback.id > after)
            .order_by(Feedback.id)
            .limit(limit)
        )
        if not simulated:
            query = query.where(Feedback.simulated.is_(False))
        with self._reading() as session:
            return [Rated(*row) for row in session.execute(query)]

    def add_key(
        self,
        key: str,
        name: str,
        role: str,
        access: Iterable[str],
        *,
        tenant: str = "default",
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        """Let a caller in; the key itself is not kept. The same key again changes everything but the key."""
        if role not in ROLES:
            raise InputError(f"role: {role!r} is not one of {', '.join(ROLES)}")
        row = {"name": name, "role": role, "access": sorted(access), "tenant": tenant, "limits": dict(limits or {})}
        statement = self._insert(ApiKey).values(digest=key_digest(key), created=time.time(), **row)
        with self._writing() as session:
            session.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=row))

    def drop_key(self, digest: str) -> None:
        """Shut a caller out."""
        with self._writing() as session:
            session.execute(delete(ApiKey).where(ApiKey.digest == digest))

    def keys(self) -> dict[str, ApiKey]:
        """Every caller by the digest of the key."""
        with self._reading() as session:
            return {row.digest: row for row in session.scalars(select(ApiKey))}

    def add_case(self, name: str, trace_id: str, case: dict[str, Any], reason: str = "") -> bool:
        """Keep a case made from a trace; False when it is there already."""
        row = {"id": name, "trace_id": trace_id, "case": case, "created": time.time(), "reason": reason}
        statement = self._insert(AddedCase).values(**row).on_conflict_do_nothing().returning(AddedCase.id)
        with self._writing() as session:
            return session.execute(statement).first() is not None

    def cases_added(self) -> list[AddedCase]:
        """Cases made from production, oldest first."""
        with self._reading() as session:
            return list(session.scalars(select(AddedCase).order_by(AddedCase.created, AddedCase.id)))

    def purge(self, before: float) -> int:
        """Retention: delete traces created before that time, with their ratings; returns how many traces went.

        Works in batches, so that no writer waits long. The outcomes of a running canary stay.
        """
        running = self.running_rollout()
        query = select(Trace.trace_id).where(Trace.created < before).limit(PURGE_BATCH)
        if running is not None:
            query = query.where(Trace.rollout != running.id)
        gone = 0
        while True:
            with self._writing() as session:
                names = list(session.scalars(query))
                session.execute(delete(Feedback).where(Feedback.trace_id.in_(names)))
                session.execute(delete(Trace).where(Trace.trace_id.in_(names)))
            gone += len(names)
            if len(names) < PURGE_BATCH:
                return gone
