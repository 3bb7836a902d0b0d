"""The spine: the only room where two verbs meet."""

from ssmith.spine.plan import plan

__all__ = ["plan"]
