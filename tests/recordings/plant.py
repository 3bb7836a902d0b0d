"""A made-up plant: machines whose hum changes its pitch when they are about to fail."""

import numpy as np


def rows(machines=12, steps=96, seed=0):
    """One tuple a step: machine, seconds, temperature, voltage, state, plant."""
    rng = np.random.default_rng(seed)
    found = []
    for machine in range(machines):
        for step in range(steps):
            bad = (step // 24 + machine) % 2
            hum = np.sin(step * (0.4 + 1.2 * bad)) + 0.1 * rng.normal()
            volts = 400 + 5 * rng.normal()
            state = "failing" if bad else "fine"
            found.append((f"m{machine}", step, hum, volts, state, f"plant{machine % 6}"))
    return found


NAMES = ("machine", "ts", "temp", "volt", "state", "plant")


def write(path, items, names=NAMES, separator=",", form=lambda cell: cell, encoding="utf-8"):
    """Write rows as a table."""
    lines = [separator.join(names)]
    lines += [separator.join(form(str(cell)) for cell in row) for row in items]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path
