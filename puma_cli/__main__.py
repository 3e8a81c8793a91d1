"""Run the command line as `python -m puma_cli`."""

from puma_cli.cli.app import main

if __name__ == "__main__":
    main()
