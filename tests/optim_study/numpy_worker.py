"""A worker process with the NumPy backend: `numpy_worker.py JOB`, the job as JSON (see `helpers.Job`).

It writes a line an event to the progress file, "PID EVENT EPOCH TRIALS", with single appends, so that the lines of
several workers stay whole and in order. Exit code 2 with one sentence, as the commands'.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

from numpy_backend import NumpyBackend, NumpyTrials

from optim_study.protocol import config_from_protocol
from optim_study.storage import open_storage
from optim_study.study import open_study
from optim_study.worker import Claimed, EpochDone, Event, Finished, Saved, WorkOptions, work
from rhn.errors import RhnError


def progress_line(event: Event) -> str:
    match event:
        case Claimed():
            return f"claimed 0 {','.join(map(str, event.epochs))}"
        case EpochDone():
            return f"epoch {event.epoch} {','.join(map(str, event.live))}"
        case Saved():
            return f"saved {event.epoch} {','.join(map(str, event.numbers))}"
        case Finished():
            return f"finished {event.outcome.epochs} {event.number}"


class SelfStoppingTrials(NumpyTrials):
    """Stops its process (SIGSTOP) once, in the middle of an epoch: a worker as slow as can be."""

    stop_at: int | None = None

    def run_epoch(self):
        if self.epoch == self.stop_at:
            type(self).stop_at = None
            os.kill(os.getpid(), signal.SIGSTOP)
        super().run_epoch()


def main(job: dict) -> None:
    progress = os.open(job["progress"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if job["file_limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"], job["file_limit"]))
    SelfStoppingTrials.stop_at = job["stop_at"]
    config = config_from_protocol(job["protocol"], trials=job["trials"])
    out = Path(job["out"])
    study = open_study(config, out, open_storage(job["storage"], out, job["wait_storage"]))
    backend = NumpyBackend()
    backend.fused = SelfStoppingTrials
    tell = lambda event: os.write(progress, f"{os.getpid()} {progress_line(event)}\n".encode())  # noqa: E731
    work(study, backend, WorkOptions(**job["options"]), tell)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except RhnError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
