"""``python -m driftlaw``."""

from driftlaw.cli.app import main

if __name__ == "__main__":
    main()
