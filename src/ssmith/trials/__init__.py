"""A version tried before and while it is live: audit, canary, shadow, A/B."""
