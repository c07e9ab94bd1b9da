"""What a template may be made of: names and exact versions, each wrong item named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes import packages
from sandboxes.daemon import orders
from sandboxes.programs import Refused


def faults(language: str, *asked: object) -> dict[str, list[str]]:
    with pytest.raises(Refused) as refused:
        packages.check(language, asked)
    return refused.value.errors


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("six==1.17.0", "six==1.17.0"),
        (" Six==1.17.0 ", "six==1.17.0"),
        ("zope.interface==7.2", "zope-interface==7.2"),
        ("ruamel_yaml==0.18.6", "ruamel-yaml==0.18.6"),
        ("torch==2.13.0+cpu", "torch==2.13.0+cpu"),
        ("x==1!2.0rc1.post2.dev3", "x==1!2.0rc1.post2.dev3"),
        ("uvicorn[Standard]==0.34.0", "uvicorn[standard]==0.34.0"),
        ("a[y,x,y]==1", "a[x,y]==1"),
    ],
)
def test_a_python_package_is_a_name_and_an_exact_version(asked, kept):
    assert packages.check("python", [asked]) == [kept]


@pytest.mark.parametrize(
    "asked", ["left-pad@1.3.0", "@scope/name@1.2.3", "x@1.2.3-beta.1+build.5", "JSONStream@1.3.5", "_a@0.0.1"]
)
def test_a_node_package_is_a_name_and_an_exact_version(asked):
    assert packages.check("node", [asked]) == [asked]


@pytest.mark.parametrize(
    "asked",
    [
        "six",
        "six>=1.0",
        "six==1.*",
        "six===1.17.0",
        "six~=1.17",
        "six==1.17.0,==1.16.0",
        "six == 1.17.0",
        "six==1.17.0; python_version > '3'",
        "six @ https://example.com/six.whl",
        "https://example.com/six.whl",
        "git+https://example.com/six.git",
        "file:///etc/passwd",
        "./six",
        "../six==1.0",
        "/tmp/six.whl",
        "-r/etc/passwd",
        "--index-url=https://example.com",
        "-e.",
        "six==1.17.0 --hash=sha256:0",
        "six==1.17.0\n--pre",
        "six[a==1.0",
        "six[]==1.0",
        "six[../x]==1.0",
        "sïx==1.0",
        "six==1.0\0",
        "",
        " ",
        "x" * 201 + "==1",
        7,
        None,
        ["six==1.17.0"],
        "left-pad@1.3.0",
    ],
)
def test_anything_more_than_that_is_refused_for_python(asked):
    assert list(faults("python", "six==1.16.0", asked)) == ["packages.1"]


@pytest.mark.parametrize(
    "asked",
    [
        "left-pad",
        "left-pad@latest",
        "left-pad@^1.3.0",
        "left-pad@1.x",
        "left-pad@1.3",
        "left-pad@>=1.0.0",
        "x@npm:left-pad@1.3.0",
        "x@file:../y",
        "x@git+https://example.com/x.git",
        "x@https://example.com/x.tgz",
        "github:a/b",
        "a/b@1.0.0",
        "@scope/../x@1.0.0",
        "@/x@1.0.0",
        "--registry=https://example.com",
        "-g@1.0.0",
        "./x@1.0.0",
        "six==1.17.0",
        "",
    ],
)
def test_anything_more_than_that_is_refused_for_node(asked):
    assert list(faults("node", asked)) == ["packages.0"]


def test_a_name_without_a_version_is_told_how_to_give_one():
    assert faults("python", "six") == {
        "packages.0": ["'six' names no version. Give an exact one, such as six==1.17.0."]
    }
    assert "left-pad@1.3.0" in faults("node", "@scope/name")["packages.0"][0]


def test_every_wrong_item_is_named_at_once():
    assert list(faults("python", "six", "a==1", "-r x", "b==2", "..")) == ["packages.0", "packages.2", "packages.4"]


def test_a_package_is_named_once_however_it_is_spelt():
    assert faults("python", "typing_extensions==4.0", "a==1", "Typing.Extensions==4.1") == {
        "packages.2": ["typing-extensions is named twice."]
    }


def test_there_is_a_most():
    assert faults("python", *(f"p{n}==1" for n in range(51))) == {"packages": ["Name at most 50 packages."]}
    assert packages.check("python", []) == []


def test_the_same_content_has_the_same_address_and_other_content_another():
    one = packages.address("python", packages.check("python", ["b==2", "A==1"]))

    assert one == packages.address("python", packages.check("python", ["a==1", "B==2"]))
    others = [("python", ["a==1", "b==3"]), ("python", ["a==1"]), ("python", []), ("node", [])]
    assert len({one, *(packages.address(*other) for other in others)}) == 5
    assert orders.TEMPLATE.fullmatch(one)


NAMES = st.from_regex(r"[a-z][a-z0-9._-]{0,20}[a-z0-9]", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True)


@given(name=NAMES, version=VERSIONS)
def test_what_is_allowed_here_is_allowed_by_the_daemon_too(name, version):
    for language, asked in (("python", f"{name}=={version}"), ("node", f"{name}@{version}")):
        [kept] = packages.check(language, [asked])
        assert orders.PACKAGES[language].fullmatch(kept)


@given(text=st.text(max_size=40))
def test_no_text_slips_past_that_a_command_line_would_read_otherwise(text):
    for language in ("python", "node"):
        try:
            [kept] = packages.check(language, [text])
        except Refused:
            continue
        assert not kept.startswith(("-", "/", "."))
        assert not set(kept) & set(" \t\n;&|$`'\"\\:")
