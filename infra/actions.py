"""What users asked tools to do: proposals that wait for a confirmation, and tickets."""

import time
from typing import Any

from sqlalchemy import delete, select, update

from infra.database import Database
from infra.errors import TryAgainError
from infra.tables import Proposal, Ticket


class ActionRecords(Database):
    """Proposals and tickets."""

    def propose(self, key: str, tenant: str, caller: str, tool: str, arguments: dict[str, Any], expires: float) -> None:
        """Keep a call that waits for its confirmation; those that waited too long go."""
        row = Proposal(key=key, tenant=tenant, caller=caller, tool=tool, arguments=arguments, expires=expires)
        with self._writing() as session:
            session.execute(delete(Proposal).where(Proposal.expires < time.time(), Proposal.result == ""))
            session.add(row)

    def proposal(self, key: str, caller: str) -> Proposal | None:
        """The call that this caller may confirm under this key, or has confirmed."""
        query = select(Proposal).where(Proposal.key == key, Proposal.caller == caller, Proposal.expires >= time.time())
        with self._reading() as session:
            return session.scalar(query)

    def confirm(self, key: str, result: str) -> None:
        """Note what the confirmed call said."""
        with self._writing() as session:
            session.execute(update(Proposal).where(Proposal.key == key).values(result=result))

    def open_ticket(self, key: str, tenant: str, caller: str, subject: str) -> int:
        """Number of the ticket of this proposal, opened when there is none yet."""
        row = {"key": key, "tenant": tenant, "caller": caller, "subject": subject, "created": time.time()}
        with self._writing() as session:
            session.execute(self._insert(Ticket).values(**row).on_conflict_do_nothing())
            number = session.scalar(select(Ticket.number).where(Ticket.key == key))
        if number is None:
            raise TryAgainError("tickets: the new ticket is not there; try again")
        return number

    def tickets(self, tenant: str) -> list[Ticket]:
        """Tickets of a tenant, oldest first."""
        with self._reading() as session:
            return list(session.scalars(select(Ticket).where(Ticket.tenant == tenant).order_by(Ticket.number)))
