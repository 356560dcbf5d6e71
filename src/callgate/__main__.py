"""`python -m callgate` is the same program as `callgate`."""

from callgate.cli import main

if __name__ == "__main__":
    main()
