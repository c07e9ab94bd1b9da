from tests.scripted import e2b  # noqa: F401 - a fixture of the tests here
