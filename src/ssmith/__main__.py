"""``python -m ssmith``: the same as the command ``ssmith``."""

from ssmith.cli.main import run

if __name__ == "__main__":
    run()
