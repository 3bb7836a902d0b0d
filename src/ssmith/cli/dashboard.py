"""``ssmith dashboard``: lines as pages for engineers and managers."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssmith.cli import flags
from ssmith.cli.generated import whole
from ssmith.cli.output import Output
from ssmith.core.errors import InputError


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "dashboard",
        about="write lines as a static site: what is live, why, and whether it still holds",
        example="ssmith dashboard line --out site --language ja",
        run=run,
        kept=kept,
    )
    command.positional("LINE", "directory of a line, or several", kind=Path, many=True)
    command.out("directory for index.html and the pages it links to", required=False)
    command.add("--language", "en or ja", default="en")
    command.add("--serve", "serve it read-only on this machine, and refresh it", kind=whole,
                metavar="PORT", in_recipe=False)  # fmt: skip


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted command leaves."""
    if arguments.out is None:
        return "nothing was written"
    return f"some pages in {arguments.out} may be new; run the command again"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Write the site, serve it, or both."""
    from ssmith.core.directories import refuse_existing
    from ssmith.dashboard import read_story, write_site

    port: int | None = arguments.serve
    if arguments.out is None and port is None:
        raise InputError("neither --out nor --serve", next_step="say where the site is to go")
    pages: list[Path] = []
    if arguments.out is not None:
        refuse_existing(arguments.out / "index.html", overwrite=arguments.overwrite)
        stories = [read_story(line) for line in arguments.line]
        pages = write_site(stories, arguments.out, arguments.language)
        output.line(f"site: {pages[0]}")
    output.result({"pages": [str(page) for page in pages], "language": arguments.language})
    if port is not None:
        _serve(arguments, port, output)
    return 0


def _serve(arguments: argparse.Namespace, port: int, output: Output) -> None:
    from ssmith.dashboard.serve import make_server

    with make_server(arguments.line, port, arguments.language) as server:
        output.line(f"serving http://{server.server_name}:{server.server_port}/ until interrupted")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            output.line("stopped")
