"""Settings in files beside a program."""

from __future__ import annotations

from bn_audit.source.flow.settings_files import read_settings


def test_yaml() -> None:
    text = """\
---
# a comment
rounds: 50 # as in the paper
lr: 1e-3
name: "resnet18"  # quoted
colour: '#fff'
share: true
nothing:
model:
  _target_: package.Net
  hidden: [120, 84]
  deeper:
    - 1
    key: ${rounds}
after: no
"""
    assert read_settings(text, "base.yaml") == [
        (("rounds",), 50),
        (("lr",), 0.001),
        (("name",), "resnet18"),
        (("colour",), "#fff"),
        (("share",), True),
        (("model", "_target_"), "package.Net"),
        (("model", "hidden"), "[120, 84]"),
        (("model", "deeper", "key"), "${rounds}"),
        (("after",), False),
    ]


def test_json() -> None:
    text = '{"model": {"name": "vgg", "layers": [1, 2], "parts": [{}]}, "clients": 4, "none": null}'
    assert read_settings(text, "config.json") == [
        (("model", "name"), "vgg"),
        (("model", "layers"), "[1, 2]"),
        (("model", "parts"), "[...]"),
        (("clients",), 4),
        (("none",), None),
    ]


def test_what_is_neither() -> None:
    assert read_settings("{", "config.json") == []
    assert read_settings("just a text\n\tindented: with a tab\n", "notes.yml") == []
