"""`python -m promad` is the `promad` command."""

from promad.cli import main

if __name__ == "__main__":
    main()
