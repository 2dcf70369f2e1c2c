"""``python -m bn_audit``: the command line."""

import os
import sys

if __name__ == "__main__":
    # Python looks for modules in the working directory first, which may be a project that nobody trusts, with a
    # click.py in it. What ``inspect`` imports, it looks for there itself.
    if sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]

    from bn_audit.cli import main

    main()
