# SPDX-License-Identifier: Apache-2.0
"""One tree of errors. A message says what was expected, what came, and what to do.

Each class is also a kin of the built-in exception that fits, so callers who never heard of SecondEye catch it too.
"""

from __future__ import annotations


class SecondEyeError(Exception):
    """Base of every error that SecondEye raises on purpose."""

    exit_code = 1


class InvalidInputError(SecondEyeError, ValueError):
    """An argument or a file's content is not what the function takes."""

    exit_code = 2


class ModelFormatError(SecondEyeError):
    """A model file or bundle is missing parts, altered, or not of the kind that was asked for."""

    exit_code = 2


class EngineError(SecondEyeError):
    """An engine is incompatible or corrupt, or its build or run failed."""


class BackendUnavailableError(SecondEyeError):
    """The backend asked for cannot be had here; the message gives the reason for each attempt."""


class ResourceLimitError(SecondEyeError, MemoryError):
    """The work would need more memory, pixels or time than the limits allow."""

    exit_code = 2


class MediaError(SecondEyeError, OSError):
    """A picture, film or stream cannot be read or written."""

    exit_code = 2


class SessionError(SecondEyeError, RuntimeError):
    """A live session has ended, or cannot do what was asked now."""


class ExportError(SecondEyeError):
    """A checkpoint cannot be turned into an engine."""


class InternalError(SecondEyeError, RuntimeError):
    """Our own bug: please report it."""


# se_status (secondeye.h) -> class
_STATUS_CLASSES: dict[int, type[SecondEyeError]] = {
    1: InvalidInputError,
    2: InvalidInputError,
    3: InvalidInputError,
    4: InvalidInputError,
    5: InvalidInputError,
    6: BackendUnavailableError,
    7: EngineError,
    8: ResourceLimitError,
    9: InvalidInputError,
    10: SessionError,
    11: SessionError,
    12: ModelFormatError,
    13: ResourceLimitError,
    14: SessionError,
    15: SessionError,
}


def from_status(status: int, op: str, text: str) -> SecondEyeError:
    """The exception for a status code of the C interface (called by the native module)."""
    return _STATUS_CLASSES.get(status, InternalError)(f"{op}: {text}")
