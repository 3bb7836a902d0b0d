"""The commands of a command line, with those that they have of their own."""

import argparse


def words_of(of):
    """Every command of a parser, with those of its commands."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                deeper = list(words_of(inner))
                yield from (f"{name} {word}" for word in deeper) if deeper else [name]
