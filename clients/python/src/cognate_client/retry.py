"""When a call is repeated: only if the server says by RetryInfo that it may be, and not beyond the deadline."""

from __future__ import annotations

import time

from cognate_client.errors import StatusError


class Attempts:
    """The attempts of one call. `timeout` is for all of them together, in seconds; None: no deadline."""

    def __init__(self, most: int, timeout: float | None) -> None:
        self._left = most
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def timeout(self) -> float | None:
        """Seconds until the deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def pause(self, error: StatusError) -> float:
        """Returns the seconds to wait before the next attempt, or raises the error if there is none."""
        self._left -= 1
        left = self.timeout()
        delay = error.retry_after
        if self._left <= 0 or delay is None or (left is not None and left <= delay):
            raise error
        return delay
