import pytest

from sandboxes import engine
from tests.scripted import ScriptedRuntime


@pytest.fixture()
def runtime():
    """A scripted runtime in the place of the machine's own."""
    real = engine.runtime()
    scripted = ScriptedRuntime()
    engine.register(engine.LOCAL, scripted)
    yield scripted
    engine.register(engine.LOCAL, real)
