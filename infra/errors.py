"""The one error tree, split by what the caller can do.

SluiceError
├── TryAgainError          the same call may work later: an engine that is starting, a busy database
├── InputError             the caller's data is wrong: a document, a case, a request (HTTP 4xx, exit code 2)
│   └── PolicyError        a line of sluice.yaml or a setting is wrong; names the file and the field
├── SetupError             the machine is wrong: a port is taken, a package or a model folder is missing
└── IntegrityError         stored bytes are not what their digest says; never served, always rebuilt
"""


class SluiceError(Exception):
    """Root of every error that Sluice raises on purpose. `exit_code` is the command line's."""

    exit_code = 1


class TryAgainError(SluiceError):
    """Nothing is wrong with the request; the same call may succeed later."""


class InputError(SluiceError):
    """The caller's data is wrong; the message names the file, field or id and what to do."""

    exit_code = 2


class PolicyError(InputError):
    """A value of the policy file or a setting is unknown or impossible."""


class SetupError(SluiceError):
    """This machine lacks something; the message says what to install, free or start."""


class IntegrityError(SluiceError):
    """Stored content does not match its digest."""
