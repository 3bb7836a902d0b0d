"""One step of a selective scan."""
