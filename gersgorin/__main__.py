"""Run `gersgorin` as `python -m gersgorin`."""

from rhn.cli.safe_path import run_module

if __name__ == "__main__":  # a spawned worker imports this module too
    run_module("gersgorin.cli.commands")
