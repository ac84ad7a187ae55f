"""``python -m cies``."""

from cies.cli.app import main

if __name__ == "__main__":
    main()
