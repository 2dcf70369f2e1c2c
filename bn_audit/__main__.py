"""``python -m bn_audit``: the command line."""

from bn_audit.cli import main

if __name__ == "__main__":
    main()
