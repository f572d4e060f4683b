"""The records: what is live, what was answered and how it was rated; one SQL database, written by several processes."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import delete, func, or_, select, update

from infra.actions import ActionRecords
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
    "ExportState",
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
    "new_values",
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


@dataclass(frozen=True, slots=True)
class ExportState:
    """How far the export of traces is: what waits (traces by urgency, ratings), and what was left out and is kept."""

    urgent: int
    ordinary: int
    ratings: int
    left_out: int


class Rated(NamedTuple):
    """An answer and one rating of it."""

    trace: Trace
    feedback: Feedback


def key_digest(key: str) -> str:
    """What is kept of a caller's key."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_values(trace: Trace) -> dict[str, Any]:
    """Column values of a new trace, without the number that the database gives."""
    return {column.key: getattr(trace, column.key) for column in Trace.__table__.columns if column.key != "seq"}


class Records(LiveRecords, ActionRecords):
    """Every read and write of the records. Each write is one short transaction.

    Raises: TryAgainError when the database stays busy or away, SetupError when its disk is full or not writable.
    """

    @classmethod
    def open(cls, url: str) -> "Records":
        """Open the database of a SQLAlchemy address and bring its schema up to date."""
        return cls(open_database(url))

    def add_traces(self, traces: Sequence[Trace]) -> None:
        """Store a batch in one transaction, in order; a request key that the release already answered is left out."""
        if traces:
            self.add_trace_rows([new_values(trace) for trace in traces])

    def add_trace_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """The same from values by column. A trace that is there already is left out, too.

        Raises: InputError for a value that the database does not take.
        """
        for row in rows:
            if row["arm"] not in ARMS:
                raise InputError(f"trace {row['trace_id']}: arm {row['arm']!r} is not one of {', '.join(ARMS)}")
        with self._writing() as session:
            session.execute(self._insert(Trace).on_conflict_do_nothing(), rows)

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
        """Traces that no exporter has taken yet: the urgent ones first, each kind oldest first."""
        found: list[Trace] = []
        with self._reading() as session:
            for urgent in (True, False):
                query = select(Trace).where(Trace.exported.is_(False), Trace.urgent.is_(urgent)).order_by(Trace.seq)
                found += session.scalars(query.limit(limit - len(found)))
        return found

    def ordinary_unexported(self, after: int, limit: int) -> list[tuple[int, str]]:
        """(number, trace id) of the oldest traces above a number that wait for export and are not urgent."""
        query = (
            select(Trace.seq, Trace.trace_id)
            .where(Trace.exported.is_(False), Trace.urgent.is_(False), Trace.seq > after)
            .order_by(Trace.seq)
            .limit(limit)
        )
        with self._reading() as session:
            return [(seq, trace_id) for seq, trace_id in session.execute(query)]

    def mark_exported(self, trace_ids: Iterable[str], *, left_out: bool = False) -> None:
        """Say that these traces were exported, or left out of it."""
        done = {"exported": True, "left_out": left_out}
        with self._writing() as session:
            session.execute(update(Trace).where(Trace.trace_id.in_(list(trace_ids))).values(done))

    def export_state(self) -> ExportState:
        """What waits for export and what was left out of it."""
        waiting = select(Trace.urgent, func.count()).where(Trace.exported.is_(False)).group_by(Trace.urgent)
        left_out = select(func.count()).where(Trace.left_out.is_(True))
        ratings = select(func.count()).where(Feedback.exported.is_(False))
        with self._reading() as session:
            by_urgency = {bool(urgent): count for urgent, count in session.execute(waiting)}
            return ExportState(
                urgent=by_urgency.get(True, 0),
                ordinary=by_urgency.get(False, 0),
                ratings=session.scalar(ratings) or 0,
                left_out=session.scalar(left_out) or 0,
            )

    def unexported_ratings(self, limit: int) -> list[Feedback]:
        """Oldest ratings that no exporter has taken yet, of traces that it has."""
        query = (
            select(Feedback)
            .join(Trace, Trace.trace_id == Feedback.trace_id)
            .where(Feedback.exported.is_(False), Trace.exported.is_(True), Trace.left_out.is_(False))
            .order_by(Feedback.id)
            .limit(limit)
        )
        with self._reading() as session:
            return list(session.scalars(query))

    def mark_ratings_exported(self, ids: Iterable[int]) -> None:
        """Say that these ratings were exported."""
        with self._writing() as session:
            session.execute(update(Feedback).where(Feedback.id.in_(list(ids))).values(exported=True))

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
            not_sent = or_(Trace.exported.is_(False), Trace.left_out.is_(True))
            now = {"urgent": True, "exported": False, "left_out": False}
            session.execute(update(Trace).where(Trace.trace_id == trace_id, not_sent).values(now))

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
