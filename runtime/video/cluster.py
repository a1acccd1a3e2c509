# SPDX-License-Identifier: Apache-2.0
"""A film's segments over a Ray cluster. Ray schedules, restarts lost workers, and moves nothing but settings.

Frames never travel: every machine reads the film and writes its segments in the same folders (a network file system),
and the journal there says what is done.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from secondeye.runtime.errors import BackendUnavailableError, SecondEyeError

RETRIES = 3  # of a group of segments whose worker was lost
LOCAL = "local"


def share_over_ray(
    work: Callable[[list[int]], Any], groups: list[list[int]], address: str, done: Callable[[Any], None]
) -> None:
    """Run work(group) for every group on a cluster's workers; done(result) is called here as each ends.

    Args:
        work: picklable; a group that was begun before goes on from what is finished.
        groups: of segments.
        address: of the cluster (HOST:PORT), ``auto`` for this machine's, ``local`` for one of our own.
        done: takes a result.

    Raises:
        BackendUnavailableError: Ray is not installed, no cluster is there, or its workers are lost again and again.
        SecondEyeError: what the work raises.
    """
    try:
        import ray
    except ImportError as error:
        raise BackendUnavailableError('cluster: needs Ray; install it with: pip install "secondeye[ray]"') from error
    ours = not ray.is_initialized()
    if ours:
        try:
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if address == LOCAL:
                options["include_dashboard"] = False
            ray.init(address=address, **options)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise BackendUnavailableError(f"cluster: no Ray cluster at {address} ({error}).") from error

    def on_worker(given: Callable[[list[int]], Any], group: list[int]) -> Any:
        return given(group)

    remote: Any = ray.remote(num_cpus=1, max_retries=RETRIES)(on_worker)
    running = [remote.remote(work, group) for group in groups]
    try:
        while running:
            ready, running = ray.wait(running, num_returns=1)
            for one in ready:
                done(ray.get(one))
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SecondEyeError):
            raise cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        raise BackendUnavailableError(
            f"cluster: a worker was lost {RETRIES + 1} times; finished segments stay, and the same command goes on."
        ) from error
    finally:
        for one in running:
            with contextlib.suppress(Exception):
                ray.cancel(one, force=True)
        if ours:
            ray.shutdown()
