"""Run `optim-study` as `python -m optim_study`."""

from rhn.cli.safe_path import run_module

if __name__ == "__main__":  # a spawned worker imports this module too
    run_module("optim_study.cli")
