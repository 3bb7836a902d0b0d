"""The checker of every type and shape during tests: an int may stand for a float, as in mypy."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
