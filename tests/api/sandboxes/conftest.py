from tests.scripted import e2b, runtime  # noqa: F401 - fixtures of the tests here
