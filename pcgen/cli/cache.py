"""Say where pcgen evaluate keeps distances and features that it has computed, and how much; --clear removes them.

They lie in the user's cache folder; the environment variable PCGEN_CACHE moves them. Nothing is lost but the time of
computing them again.
"""

import argparse
import sys

from pcgen.cli import common
from pcgen.cli.evaluate import add_cache_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_cache_argument(parser)
    parser.add_argument("--clear", action="store_true", help="remove them")


def run(arguments: argparse.Namespace) -> int:
    """Count, and remove if asked to."""
    from pcgen.metrics.store import Store

    store = Store(arguments.cache)
    found = store.clear() if arguments.clear else store.contents()
    text = f"{common.count(found.files, 'file')} of {found.size / 1e6:.1f} MB"
    where = f"of at most {store.limit / 1e6:.0f} MB in {store.folder}"
    sys.stdout.write(f"removed {text} from {store.folder}\n" if arguments.clear else f"{text}, {where}\n")
    return 0
