"""Run `kloros-infra` as `python -m kloros_infra`."""

from kloros_infra.cli.program import main

if __name__ == "__main__":
    main()
