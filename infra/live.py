"""What is live: registered releases, the aliases that name them, where engines serve them, and canaries."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from infra.database import Database
from infra.errors import InputError, TryAgainError
from infra.store import value_digest
from infra.tables import ALIASES, ENDED, RUNNING, Placement, Pointer, PointerMove, ReleaseRecord, Rollout


def rollout_id(baseline: str, canary: str, policy: str) -> str:
    """Name of a canary: the same pair under the same policy is the same canary, never a second one."""
    return value_digest({"baseline": baseline, "canary": canary, "policy": policy})


def _check(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{field}: {value!r} is not one of {', '.join(allowed)}")


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"share: {share} is not between 0 and 1")


class LiveRecords(Database):
    """Aliases, releases, placements and rollouts."""

    def pointer(self, alias: str) -> str | None:
        """Digest of the release that `alias` names, or None."""
        _check("alias", alias, ALIASES)
        with self._reading() as session:
            return session.scalar(select(Pointer.release).where(Pointer.alias == alias))

    def pointers(self) -> dict[str, str]:
        """Every alias that names a release."""
        with self._reading() as session:
            return {row.alias: row.release for row in session.scalars(select(Pointer)) if row.release}

    def move(self, alias: str, to: str | None, expected: str | None, reason: str = "") -> bool:
        """Point `alias` at `to` if it still names `expected` (None: nothing); False when it does not.

        Compare-and-set in one SQL statement, so that of two callers one wins.
        """
        _check("alias", alias, ALIASES)
        with self._writing() as session:
            return self._set(session, alias, to, expected, reason)

    def _set(self, session: Session, alias: str, to: str | None, expected: str | None, reason: str) -> bool:
        now = time.time()
        if expected is None:
            fresh = self._insert(Pointer).values(alias=alias, release=to, updated=now)
            set_ = {"release": to, "updated": now}
            statement: Any = fresh.on_conflict_do_update(
                index_elements=["alias"], set_=set_, where=Pointer.release.is_(None)
            )
        else:
            statement = update(Pointer).where(Pointer.alias == alias, Pointer.release == expected)
            statement = statement.values(release=to, updated=now)
        moved = session.execute(statement.returning(Pointer.alias)).first() is not None
        if moved:
            session.add(PointerMove(alias=alias, old=expected, new=to, reason=reason, at=now))
        return moved

    def _now_at(self, session: Session, alias: str) -> str | None:
        """What the alias names, its row locked until the transaction ends (SQLite's writer is alone anyway)."""
        return session.scalar(select(Pointer.release).where(Pointer.alias == alias).with_for_update())

    def promote(self, candidate: str, expected_production: str | None, reason: str = "") -> bool:
        """Make `candidate` production and the old production `previous`, both or neither.

        False, with nothing changed, when production is no longer `expected_production`. Promoting what is production
        already changes nothing, so that a repeated promotion keeps the way back.
        """
        if candidate == expected_production:
            return self.pointer("production") == candidate
        with self._writing() as session:
            if not self._set(session, "production", candidate, expected_production, reason):
                return False
            if expected_production:
                before = self._now_at(session, "previous")
                kept = self._set(session, "previous", expected_production, before, reason)
                assert kept, "production's row is locked, so nobody else can be moving previous"
            return True

    def rollback(self, reason: str = "") -> str:
        """Swap production and previous; returns the digest that is production now.

        Raises: InputError when there is no previous release, TryAgainError when another caller moved it meanwhile.
        """
        with self._writing() as session:
            production, previous = self._now_at(session, "production"), self._now_at(session, "previous")
            if previous is None:
                raise InputError("rollback: there is no previous release to go back to")
            if not self._set(session, "production", previous, production, reason):
                raise TryAgainError("rollback: production was moved at the same moment; look and try again")
            self._set(session, "previous", production, previous, reason)
            return previous

    def history(self, alias: str | None = None) -> list[PointerMove]:
        """Moves of one alias or of all, oldest first."""
        query = select(PointerMove).order_by(PointerMove.id)
        if alias is not None:
            query = query.where(PointerMove.alias == alias)
        with self._reading() as session:
            return list(session.scalars(query))

    def add_release(self, digest: str, release: dict[str, Any], gate_report: str = "", state: str = "") -> None:
        """Register a release (again: no change of its bundle or time; report and state are set when given)."""
        row = {"digest": digest, "release": release, "created": time.time(), "gate_report": gate_report}
        fresh = self._insert(ReleaseRecord).values(**row, state=state or "REGISTERED")
        with self._writing() as session:
            session.execute(fresh.on_conflict_do_nothing())
            given = {name: value for name, value in (("gate_report", gate_report), ("state", state)) if value}
            if given:
                session.execute(update(ReleaseRecord).where(ReleaseRecord.digest == digest).values(**given))

    def release(self, digest: str) -> ReleaseRecord | None:
        """One registered release."""
        with self._reading() as session:
            return session.get(ReleaseRecord, digest)

    def releases(self) -> list[ReleaseRecord]:
        """Every registered release, newest first."""
        with self._reading() as session:
            return list(session.scalars(select(ReleaseRecord).order_by(ReleaseRecord.created.desc())))

    def place(self, release: str, base_url: str, model: str, pools: Sequence[Mapping[str, Any]] = ()) -> None:
        """Say which engine serves `release`, and under which model name; all of them (`pools`) where it has several."""
        row = {"base_url": base_url, "model": model, "updated": time.time(), "pools": [dict(pool) for pool in pools]}
        statement = self._insert(Placement).values(release=release, **row)
        with self._writing() as session:
            session.execute(statement.on_conflict_do_update(index_elements=["release"], set_=row))

    def unplace(self, release: str) -> None:
        """Say that no engine serves `release`."""
        with self._writing() as session:
            row = session.get(Placement, release)
            if row is not None:
                session.delete(row)

    def placements(self) -> dict[str, Placement]:
        """Where each served release is, by release digest."""
        with self._reading() as session:
            return {row.release: row for row in session.scalars(select(Placement))}

    def start_rollout(self, baseline: str, canary: str, policy: str, share: float, step: int = 0) -> Rollout:
        """Begin the canary of this pair, or return it as it stands: evidence of one pair is never thrown away.

        Raises: InputError while the canary of another pair is running.
        """
        _check_share(share)
        name, now = rollout_id(baseline, canary, policy), time.time()
        row = Rollout(
            id=name, baseline=baseline, canary=canary, policy=policy, share=share, step=step,
            state=RUNNING, reason="", started=now, updated=now,
        )  # fmt: skip
        try:
            with self._writing() as session:
                existing = session.get(Rollout, name)
                if existing is not None:
                    return existing
                session.add(row)
        except IntegrityError as error:
            running = self.running_rollout()
            label = running.id[:12] if running else "another one"
            raise InputError(f"rollout {label} is running; finish it before a new canary starts") from error
        return row

    def rollout(self, name: str) -> Rollout | None:
        """One canary by its id."""
        with self._reading() as session:
            return session.get(Rollout, name)

    def running_rollout(self) -> Rollout | None:
        """The canary that takes traffic now."""
        with self._reading() as session:
            return session.scalar(select(Rollout).where(Rollout.state == RUNNING))

    def rollouts(self) -> list[Rollout]:
        """Every canary, newest first."""
        with self._reading() as session:
            return list(session.scalars(select(Rollout).order_by(Rollout.started.desc())))

    def advance_rollout(self, name: str, share: float, step: int) -> bool:
        """Set share and step of a running canary; False when it is not running any more."""
        _check_share(share)
        return self._change_rollout(name, share=share, step=step)

    def finish_rollout(self, name: str, state: str, reason: str) -> bool:
        """End a running canary; False when it was not running any more."""
        _check("state", state, ENDED)
        return self._change_rollout(name, state=state, reason=reason)

    def _change_rollout(self, name: str, **values: Any) -> bool:
        statement = update(Rollout).where(Rollout.id == name, Rollout.state == RUNNING)
        statement = statement.values(updated=time.time(), **values)
        with self._writing() as session:
            return session.execute(statement.returning(Rollout.id)).first() is not None
