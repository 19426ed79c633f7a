import base64
import math
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from satseg.visualization.report import write_report

NAMES = ("water", "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>')
SCORES = {"miou": 0.71234567, "micro_iou": 0.5, "f1": 0.25, "accuracy": 0.875} | {
    f"{kind}/{name}": value
    for kind in ("iou", "f1", "precision", "recall")
    for name, value in zip(NAMES, (0.1234, math.nan, None))
}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.ids, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "srcset", "action", "data")]
        self.ids += [value for key, value in attrs if key == "id"]
        assert not [key for key, _ in attrs if key.startswith("on")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (31, 17), (1, 2, 3)).save(path)
    return path


@pytest.fixture
def html(tmp_path, picture):
    path = tmp_path / "run, a=1 (ü)" / "report.html"
    write_report(
        path,
        title="run <b>one</b> & \udcff",
        scores={"val": SCORES, "test": SCORES | {"miou": 0.6, "iou/water": 0.4321}},
        class_names=NAMES,
        figures=[("Curves <i>", "of 'training'", picture)],
        facts={"Configuration": "lr: 0.001\nurl: https://example.com/<script src=y>", "Long": "line\n" * 50},
        warnings=["<script>warned</script>"],
        protocol={"miou": "mean over <classes>"},
        palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)),
    )
    return path.read_text(encoding="utf-8")


def test_the_page_holds_the_numbers_and_texts(html):
    page = Page(html)
    for text in ("0.7123", "0.6000", "0.8750", "0.1234", "0.4321", "–", "lr: 0.001", "mean over <classes>"):
        assert text in page.text
    assert "0.71234567" in html
    assert "Scores (val)" in page.text
    assert "of 'training'" in page.text


def test_the_page_is_self_contained(html, picture):
    page = Page(html)
    assert page.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not {"link", "script", "iframe", "object", "base"} & set(page.tags)
    assert not re.search(r"url\(|@import", html)
    encoded = next(link for link in page.links if link.startswith("data:")).partition(",")[2]
    assert base64.b64decode(encoded) == picture.read_bytes()
    assert 'width="31" height="17"' in html


def test_hostile_names_are_shown_as_text(html):
    page = Page(html)
    assert page.tags.count("img") == 1
    assert "b" not in page.tags[: page.tags.index("nav")]
    for text in (*NAMES, "<script>warned</script>", "run <b>one</b> & ?"):
        assert text in page.text


def test_a_page_needs_neither_pictures_nor_options(tmp_path):
    write_report(tmp_path / "r.html", title="t", scores={}, class_names=(), figures=(), facts={})
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "h1" in page.tags
    assert "Before you read" not in page.text


def test_a_missing_picture_leaves_the_older_page(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("older")
    with pytest.raises(FileNotFoundError):
        write_report(path, title="t", scores={}, class_names=(), figures=[("a", "b", tmp_path / "no.png")], facts={})
    assert path.read_text() == "older"
