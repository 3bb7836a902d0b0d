"""Lines without real models: tiny directories of bytes, and a clock of our own."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Ticking:
    """A clock that goes on by a minute whenever somebody looks."""

    def __init__(self, start=START):
        self.now = start

    def __call__(self):
        self.now += timedelta(minutes=1)
        return self.now
