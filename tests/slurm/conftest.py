import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, why_not


@pytest.fixture(scope="session")
def slurm():
    """A real Slurm for the session, with its clients on PATH."""
    reason = why_not()
    if reason:
        pytest.skip(f"no Slurm here: {reason}")
    # A short path: that of a Unix socket may have 107 characters.
    base = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(base)
    before = {name: os.environ.get(name) for name in cluster.environment}
    try:
        cluster.start()
        os.environ.update(cluster.environment)
        yield cluster
    finally:
        cluster.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(base, ignore_errors=True)
