from tests.scripted import runtime  # noqa: F401 - a fixture of every test here
