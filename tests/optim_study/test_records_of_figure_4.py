"""The records of figure 4 in docs/results/figure4 are files of the paper's study, which continues
from them alone.
"""

import json
import shutil
from pathlib import Path

import pytest

from optim_study import paper
from optim_study.folder import StudyFolder

RECORDS = Path(__file__).parents[2] / "docs" / "results" / "figure4"
NETWORKS = sorted(path.name for path in RECORDS.iterdir())


@pytest.mark.parametrize("network", NETWORKS)
def test_a_study_goes_on_from_the_stored_records(network, tmp_path):
    shutil.copytree(RECORDS / network, tmp_path / network)
    paths = sorted((tmp_path / network / "trials").iterdir())
    records = {int(path.stem): json.loads(path.read_text()) for path in paths}
    protocol = next(iter(records.values()))["study"]
    config = paper(arch=(protocol["arch"],), depth=(protocol["depth"],))
    (study,) = config.studies(protocol["data"])
    folder = StudyFolder(tmp_path, study)
    folder.check()
    assert (study.name, study.trials) == (network, 60)
    assert folder.recorded() == records.keys() <= set(range(study.trials))
    for number, record in records.items():
        row, settings = folder.load_record(number).row, record["settings"]
        assert record["study"] == protocol == study.protocol()
        drawn = study.settings(number)
        assert row.learning_rate == settings["learning_rate"] == drawn.learning_rate
        assert row.init_std == settings["init_std"] == drawn.init_std
        assert row.best_train_nll == min(train for train, _ in record["curve"][: row.epochs + 1])
