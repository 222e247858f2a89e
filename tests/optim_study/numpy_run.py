"""A run of one study with the NumPy backend: `numpy_run.py JOB`, the job as JSON (see
`small_studies.started`).

Exit code 2 with one sentence, and 130 after Ctrl-C, as the command's.
"""

import json
import sys
from contextlib import closing, nullcontext
from pathlib import Path

from small_studies import drive

from optim_study.config import RunConfig, config_from_protocol
from optim_study.engines import Processes, ThisProcess
from optim_study.ray_engine import ray_tasks
from rhn.cli.entry import run_command


def main(protocol: dict, trials: int, out: str, storage: str | None, engine=1, **options) -> None:
    config = config_from_protocol(protocol, trials=trials)
    with engine_of(engine) as places:
        drive(config, Path(out), storage, engine=places, **options)


def engine_of(engine: int | str):
    """A number of processes, or the address of a Ray cluster."""
    if isinstance(engine, int):
        places = ["cpu"] * engine
        return nullcontext(ThisProcess("cpu")) if engine == 1 else closing(Processes(places))
    return ray_tasks(RunConfig(engine="ray", address=engine, device="cpu"))


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(**json.loads(sys.argv[1]))))
