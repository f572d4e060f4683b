"""Log lines that nothing a caller sends can forge: one record, one line, control characters written out."""

import logging
import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def written_out(text: str) -> str:
    """The text with its control characters and line ends as escapes."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


class OneLine(logging.Formatter):
    """Writes a record as one line; lines of a traceback follow, each marked by a bar."""

    def format(self, record: logging.LogRecord) -> str:
        """The record; a traceback that another handler has written is written anew."""
        record.exc_text = None
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line itself."""
        return written_out(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802  # logging's name
        """A traceback."""
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]  # typed as logging types it
        return "\n".join(f"| {written_out(line)}" for line in lines)


def log_in_lines(level: int) -> None:
    """Log to standard error this way."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
