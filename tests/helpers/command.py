"""A way to run a command line in this process, and to see how it ended."""

import json

from ssmith.cli.main import main


class Ended:
    """How a command line ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def document(self):
        return json.loads(self.out)


def ended(capsys, *words):
    """Run ``ssmith`` with these words."""
    code = main([str(word) for word in words])
    return Ended(code, *capsys.readouterr())
