"""Lines as a static site in English or Japanese, and the same served read-only."""

from ssmith.dashboard.reading import read_story
from ssmith.dashboard.site import write_site

__all__ = ["read_story", "write_site"]
