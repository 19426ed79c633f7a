"""The HTML report of a run."""

import base64
import hashlib
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from satseg.visualization.examples import Example
from satseg.visualization.palette import default_palette
from satseg.visualization.report import Notice, SplitPage, write_report

NAMES = ("water", "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>')
PALETTE = ((1, 2, 3), (240, 228, 66), (213, 94, 0))
SCORES = {"miou": 0.71234567, "micro_iou": 0.5, "f1": 0.25, "accuracy": 0.875} | {
    f"{kind}/{name}": value
    for kind in ("iou", "f1", "precision", "recall")
    for name, value in zip(NAMES, (0.1234, math.nan, None))
}
MATRIX = np.array([[70, 30, 0], [0, 0, 0], [25, 0, 75]])
BINS = [(0.5, 50, 0.4, 0.3), (1.0, 150, 0.9, 0.8)]
ROWS = [
    {"epoch": float(i), "lr": 0.1, "train/loss": 1 / (i + 1), "val/miou": miou, "val/iou/water": miou / 2}
    | {f"val/iou/{NAMES[2]}": 0.5, f"val/iou/{NAMES[1]}": None}
    for i, miou in enumerate((0.2, 0.6, 0.4))
]
ERROR = Notice("error", "<script>warned</script>", "Repair it.", tuple(f"file {i}" for i in range(150)))


class Page(HTMLParser):
    """The elements of a page in order, as (tag, attributes), and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.links, self.ids, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.links += [value for key, value in attrs if key in ("src", "href", "srcset", "action", "data")]
        self.ids += [value for key, value in attrs if key == "id"]
        assert not [key for key, _ in attrs if key.startswith("on")]

    def handle_data(self, data):
        self.text += data

    @property
    def tags(self):
        return [tag for tag, _ in self.elements]

    def pictures(self):
        files = [base64.b64decode(a["src"].partition(",")[2]) for tag, a in self.elements if tag == "img"]
        return [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]


def examples(prefix, number, size=(40, 60), classes=3):
    random = np.random.default_rng(len(prefix))
    made = []
    for i in range(number):
        truth, predicted = random.integers(0, classes, (2, *size))
        rgb = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        made.append(Example.of(f"{prefix} {i} <b>", rgb, truth, predicted, classes))
    return made


def split(**changes):
    return SplitPage(
        **{"num_images": 9, "matrix": MATRIX, "scores": SCORES, "bins": BINS, "calibration_error": 0.1} | changes
    )


@pytest.fixture
def html(tmp_path):
    path = tmp_path / "run, a=1 (ü)" / "report.html"
    write_report(
        path,
        title="run <b>one</b> & \udcff",
        subtitle="runs/1",
        facts={"Backbone": "resnet18 <i>"},
        notices=[ERROR, Notice("warning", "small")],
        class_names=NAMES,
        palette=PALETTE,
        splits={
            "test": split(worst=examples("worst", 2), samples=examples("others", 2)),
            "validation": split(scores=SCORES | {"miou": 0.6, "iou/water": 0.4321}, samples=examples("one", 1)),
        },
        rows=ROWS,
        protocol={"miou": "mean over <classes>"},
        texts={"Configuration": "lr: 0.001\nurl: https://example.com/<script src=y>", "Long": "line\n" * 50},
    )
    return path.read_text(encoding="utf-8")


def test_the_page_contains_scores_and_texts(html):
    page = Page(html)
    for text in ("0.712", "0.600", "0.875", "0.123", "0.432", "–", "lr: 0.001", "mean over <classes>", "resnet18 <i>"):
        assert text in page.text, text
    assert "0.71234567" in html
    assert "70.0 %" in page.text and "30.0 %" in page.text and "75.0 %" in page.text  # as shares of the true class
    assert "no pixel is labelled <script>" in page.text
    confidence, accuracy = (50 * 0.4 + 150 * 0.9) / 200, (50 * 0.3 + 150 * 0.8) / 200
    assert f"its mean confidence is {100 * confidence:.1f} %, and its accuracy {100 * accuracy:.1f} %." in page.text


def test_findings_come_before_scores_and_test_scores_before_validation_scores(html):
    places = [
        html.index(text)
        for text in ("finding error", "finding warning", "Scores (test)</h2>", "Scores (validation)</h2>")
    ]
    assert places == sorted(places)
    page = Page(html)
    assert "file 99" in page.text and "file 100" not in page.text and "and 50 more" in page.text


def test_the_page_is_self_contained(html):
    page = Page(html)
    assert page.links
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not {"link", "script", "iframe", "object", "base"} & set(page.tags)
    assert not re.search(r"url\(|@import", html)


def test_each_picture_occurs_once_with_exact_class_colours(html):
    page = Page(html)
    pictures = page.pictures()
    assert len(pictures) == 5 * 4
    assert len({hashlib.sha256(p.tobytes()).digest() for p in pictures}) == len(pictures)
    for place, example in enumerate([*examples("worst", 2), *examples("others", 2), *examples("one", 1)]):
        _, truth, predicted, _ = pictures[4 * place : 4 * place + 4]
        assert (truth == np.array(PALETTE)[example.truth]).all()
        assert (predicted == np.array(PALETTE)[example.predicted]).all()
        assert example.caption in page.text


def test_a_class_has_the_same_colour_everywhere(html):
    page, colours = Page(html), ["#010203", "#f0e442", "#d55e00"]
    lines = {a["data-class"]: a["stroke"] for tag, a in page.elements if tag == "g" and "data-class" in a}
    assert lines == {NAMES[0]: colours[0], NAMES[2]: colours[2]}  # the other class has no values
    swatches = [a["style"].removeprefix("background: ") for tag, a in page.elements if a.get("class") == "swatch"]
    legend = [*colours, "#808080", "#d61428"]  # classes, ignored, error
    of_a_split = [*colours, *colours, *colours]  # table, and columns and rows of the confusion matrix
    assert swatches == of_a_split + 2 * legend + of_a_split + legend + [colours[0], colours[2]]


def test_curves_are_drawn_at_their_values(html):
    elements = Page(html).elements
    group = next(i for i, (_, a) in enumerate(elements) if a.get("data-class") == NAMES[0])
    path = next(a["d"] for tag, a in elements[group:] if tag == "path" and "class" not in a)
    places = [tuple(map(float, pair.split())) for pair in path.removeprefix("M").split("L")]
    assert places == [pytest.approx(place) for place in ((0, 90), (50, 70), (100, 80))]  # IoU 0.1, 0.3, 0.2
    assert '<path class="best" d="M50.0 0V100"/>' in html  # the second epoch is the best


def test_hostile_names_are_shown_as_text(html):
    page = Page(html)
    assert page.tags.count("img") == 5 * 4
    assert "b" not in page.tags[: page.tags.index("nav")]
    for text in (*NAMES, "<script>warned</script>", "run <b>one</b> & ?", "worst 0 <b>"):
        assert text in page.text


def test_a_page_without_pictures_and_options_is_valid(tmp_path):
    write_report(tmp_path / "r.html", title="t", class_names=(), palette=(), splits={})
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "h1" in page.tags
    assert "Notices" not in page.text


def test_the_largest_page_has_at_most_3_megabytes(tmp_path):
    """The maximum number of classes with the longest names, incompressible pictures, and a long training."""
    random, number = np.random.default_rng(0), 255
    names = [f"{i} {'n' * 190}" for i in range(number)]
    scores = {f"{kind}/{name}": random.random() for kind in ("iou", "f1", "precision", "recall") for name in names}
    noise = examples("noise", 4, (700, 500), number)
    full = split(matrix=random.integers(0, 10**9, (number, number)), scores=SCORES | scores, worst=noise, samples=noise)
    rows = [
        {"epoch": float(i), "lr": random.random(), "val/miou": random.random(), "train/loss": random.random()}
        | {f"val/iou/{name}": random.random() for name in names}
        for i in range(1000)
    ]
    notices = [Notice("warning", "w" * 500, "", ("f" * 200,) * 10_000) for _ in range(10)]
    write_report(
        tmp_path / "r.html",
        title="t",
        class_names=names,
        palette=default_palette(number),
        splits={"test": full, "validation": full},
        rows=rows,
        notices=notices,
        texts={"Configuration": "c" * 60_000},
    )
    assert (tmp_path / "r.html").stat().st_size <= 3_000_000


CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = css => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, base) => base.map((value, i) => i < 3 ? top[i] * top[3] / 255 + value * (1 - top[3] / 255) : 255);
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  return [...document.querySelectorAll('main *')].filter(e => own(e) && e.checkVisibility()).map(e => {
    const parents = []; for (let p = e; p; p = p.parentElement) parents.unshift(p);
    const backs = parents.map(p => rgba(getComputedStyle(p).backgroundColor));
    const back = backs.reduce((base, top) => over(top, base), [255, 255, 255, 255]);
    const [a, b] = [light(over(rgba(getComputedStyle(e).color), back)), light(back)].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), e.textContent.trim().slice(0, 40)];
  });
}"""
OVERFLOWING = """() => [...document.querySelectorAll('.wide')].map(
  e => [e.scrollWidth > e.clientWidth + 1, getComputedStyle(e, '::before').visibility])"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_on_a_phone(html, tmp_path, browser, scheme):
    path = tmp_path / "page.html"
    path.write_text(html)
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    tables = page.evaluate(OVERFLOWING)
    assert sum(overflows for overflows, _ in tables) >= 2  # scores and confusion matrix
    assert all(
        (visibility == "visible") == overflows for overflows, visibility in tables
    )  # visibility of the scroll hint
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 50
    assert [found for found in contrasts if found[0] < 4.5] == []
    colour = page.evaluate("getComputedStyle(document.querySelector('.finding.error p')).color")
    red, green, blue = map(int, re.findall(r"\d+", colour))
    assert red > 1.5 * max(green, blue)
    assert page.locator(".finding.error").bounding_box()["y"] < page.locator(".scores").first.bounding_box()["y"]
    context.close()
