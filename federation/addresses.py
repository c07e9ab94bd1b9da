"""Parts of addresses: the names of the memory's namespaces and entries, for the API and the pages alike."""

from django.urls import register_converter


class NamespaceName:
    regex = "[A-Za-z0-9][A-Za-z0-9._:@~-]{0,59}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: object) -> str:
        return str(value)


class EntryKey(NamespaceName):
    """`search` is the name of an act of the API."""

    regex = "(?!search(?:/|$))[A-Za-z0-9][A-Za-z0-9._:@~-]{0,199}"


register_converter(NamespaceName, "namespace")
register_converter(EntryKey, "key")
