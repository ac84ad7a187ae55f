"""``python -m cies``."""

from cies.cli import main

if __name__ == "__main__":
    main()
