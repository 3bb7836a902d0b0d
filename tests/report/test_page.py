"""The page: self-contained, escaped, deterministic, complete."""

import copy
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib
import pytest

from helpers.receipts import changed, receipt_of
from ssmith.core.errors import ArtefactError, OutputExistsError
from ssmith.core.receipt import Receipt
from ssmith.report import write_index, write_report

VOID = {"meta", "br", "hr", "img", "input", "link"}
SECTIONS = ["why", "curves", "quality", "layers", "scores", "speed", "parity", "saving"]
EVERY = ["accepted", "refused", "grid", "empty"]
HOSTILE = '</style></svg><script>alert("x")</script><img src=x onerror=1>$\\frac{1}{2}$ \x00\ud800'


class Page(HTMLParser):
    """Collects what the tests ask about, and insists on balanced tags."""

    def __init__(self, source):
        super().__init__()
        self.stack, self.tags, self.ids, self.words = [], [], [], []
        self.feed(source)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id"]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(params=EVERY)
def receipt(request):
    return request.getfixturevalue(request.param)


def written(receipt, directory):
    return write_report(receipt, directory).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source_of(tmp_path_factory):
    """The page of a receipt, drawn once for all tests that do no more than read it."""
    known = {}

    def source(receipt):
        key = json.dumps(receipt.as_dict(), sort_keys=True)
        if key not in known:
            known[key] = written(receipt, tmp_path_factory.mktemp("page"))
        return known[key]

    return source


def test_nothing_is_loaded_from_elsewhere(receipt, source_of):
    source = source_of(receipt)
    assert not re.search(r"https?://|//\w+\.\w+|@import|@font-face|url\((?!#)", source)
    loads = [
        (tag, value)
        for tag, attributes in Page(source).tags
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "data", "action") and not value.startswith("#")
    ]
    assert loads == []
    assert "<script" not in source


def test_tags_balance_and_ids_are_unique(receipt, source_of):
    source = source_of(receipt)
    page = Page(source)
    assert len(page.ids) == len(set(page.ids))
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', source))
    assert references <= set(page.ids)
    assert sum(tag == "h1" for tag, _ in page.tags) == 1


def test_every_section_is_there(receipt, source_of):
    page = Page(source_of(receipt))
    assert [name for name in SECTIONS if name not in page.ids] == []
    assert {"findings", "provenance"} <= set(page.ids)


def test_every_plot_says_what_it_shows(accepted, source_of):
    plots = [attributes for tag, attributes in Page(source_of(accepted)).tags if tag == "svg"]
    assert len(plots) == 3 + 4 + 1 + 1
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 20 for plot in plots)


def test_the_first_screen(accepted, source_of):
    said = Page(source_of(accepted)).text.replace("\u00a0", " ")
    for words in (
        "✓ Accepted",
        "33.2 % 256 → 171",
        "98.3 % → 98.1 % −0.3 points (−1.1 to +0.6)",
        "312 KB → 214 KB 31.3 % smaller",
        "2.14 ms → 1.53 ms 1.4× faster",
    ):
        assert words in said


def test_a_refusal_is_as_plain(refused, source_of):
    said = Page(source_of(refused)).text.replace("\u00a0", " ")
    assert "✕ Refused" in said
    assert "not available: bidirectional" in said
    assert "1.2 % smaller, no gain" in said
    assert "missed floods (own metric) 3 7 +4 (+1 to +8)" in said
    assert "Lower is better." in said


def test_what_was_not_measured_is_named(empty, tmp_path):
    said = Page(written(empty, tmp_path)).text
    assert "Not judged" in said
    assert "To have a cut accepted or refused, run ssmith pilot with --max-loss." in said
    assert "No gate was applied." in said
    assert said.count("not measured") + said.count("Not measured") >= 15
    assert list(tmp_path.glob("plots/*")) == []


@pytest.mark.parametrize(
    "section",
    [
        "data",
        "removed",
        "quality",
        "speed",
        "memory",
        "size",
        "parity",
        "saving",
        "verdict",
        "details",
    ],
)
def test_any_section_may_be_missing(accepted, tmp_path, section):
    Page(written(changed(accepted, **{section: {}}), tmp_path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("quality.before", "x"),
        ("quality.before.value", "0.98"),
        ("quality.difference.low", True),
        ("quality.higher_is_better", 1),
        ("quality.metric", {"accuracy": 1}),
        ("removed.states.before", [256]),
        ("speed.per_batch", 3),
        ("size.bytes.after", "big"),
        ("parity.passed", "yes"),
        ("saving.assumptions", "none"),
        ("verdict.reasons", {"gate": "x"}),
        ("verdict.accepted", 0),
        ("details.curve.tolerance", "x"),
        ("details.layers", 3),
        ("data.counts.train", "many"),
    ],
)
def test_a_value_of_another_type_is_refused_by_file_and_key(accepted, tmp_path, path, value):
    content = copy.deepcopy(accepted.as_dict())
    *above, last = path.split(".")
    section = content
    for key in above:
        section = section[key]
    section[last] = value
    (tmp_path / "receipt.json").write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=rf"/receipt\.json: {path} is ") as caught:
        Receipt.load(tmp_path / "receipt.json")
    assert caught.value.allowed and "restore it" in str(caught.value)


def test_a_hostile_receipt_is_only_text(accepted, tmp_path):
    curve = accepted.as_dict()["details"]["curve"]
    methods = {HOSTILE if name == "LAST" else name: p for name, p in curve["methods"].items()}
    layers = [
        row | {"name": f"{index}{HOSTILE}"}
        for index, row in enumerate(accepted.as_dict()["details"]["layers"])
    ]
    hostile = changed(
        accepted,
        model=dict.fromkeys(("name", "family", "task", "digest_before"), HOSTILE),
        method={"command": [HOSTILE], "settings": {HOSTILE: HOSTILE}},
        verdict={"headline": HOSTILE, "reasons": [{"gate": HOSTILE, "text": HOSTILE}]},
        findings=[{"layer": HOSTILE, "kind": HOSTILE, "message": HOSTILE, "units": [3]}],
        details={
            "curve": curve
            | {
                "methods": methods,
                "metric": HOSTILE,
                "chosen": HOSTILE,
            },
            "layers": layers,
        },
    )
    source = written(hostile, tmp_path)
    page = Page(source)
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert sum(tag == "style" for tag, _ in page.tags) == 1
    assert "<script>" in page.text
    for path in tmp_path.glob("plots/*.svg"):
        ElementTree.fromstring(path.read_bytes())


def test_letters_that_the_layout_font_lacks_are_no_warning(accepted, tmp_path):
    layers = [
        row | {"name": f"层.{index}"}
        for index, row in enumerate(accepted.as_dict()["details"]["layers"])
    ]
    source = written(
        changed(accepted, details=accepted.as_dict()["details"] | {"layers": layers}), tmp_path
    )
    assert "层.3" in source


def test_the_same_receipt_gives_the_same_bytes(accepted, tmp_path):
    again = Receipt.from_json(accepted.as_dict())
    write_report(accepted, tmp_path / "a")
    write_report(again, tmp_path / "b")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 1 + 2 * 9
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_users_matplotlib_settings_change_nothing_and_stay(accepted, source_of, tmp_path):
    plain = source_of(accepted)
    with matplotlib.rc_context({"font.size": 31, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert written(accepted, tmp_path) == plain
        assert matplotlib.rcParams["font.size"] == 31


def test_outdated_plots_leave_and_foreign_files_stay(accepted, refused, tmp_path):
    write_report(refused, tmp_path)
    (tmp_path / "plots" / "scores-mine.svg").write_text("mine")
    write_report(accepted, tmp_path)
    left = {path.name for path in tmp_path.glob("plots/scores-*.svg")}
    assert left == {"scores-mine.svg", *(f"scores-{index}.svg" for index in range(1, 5))}


def test_the_list_of_pilots(accepted, refused, empty, tmp_path):
    report = write_report(accepted, tmp_path / "one & two")
    rows = [
        ("one", report, accepted),
        (HOSTILE, tmp_path / "javascript:x", refused),
        ("three", tmp_path / "three", empty),
    ]
    path = write_index(rows, tmp_path / "out")
    page = Page(path.read_text(encoding="utf-8"))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [
        "../one%20%26%20two/report.html",
        "../javascript%3Ax/report.html",
        "../three/report.html",
        "../javascript%3Ax/report.html",
    ]
    assert "1 of 3 accepted" in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_an_empty_list_of_pilots(tmp_path):
    assert "No pilot yet" in Page(write_index([], tmp_path).read_text(encoding="utf-8")).text


def tuned(after, low, high):
    estimate = {"value": 1.2, "low": 1.1, "high": 1.3}
    return receipt_of(
        action="tune",
        model={"name": "base"},
        method={"methods": ["state-offset-h"]},
        seed=0,
        versions={"machine": "a machine"},
        data={"name": "prose"},
        quality={
            "count": 8,
            "loss": {
                "before": estimate,
                "after": {**estimate, "value": after},
                "difference": {"value": after - 1.2, "low": low, "high": high},
            },
        },
        speed={"training_seconds": 2.5},
        size={"trained_parameters": 64, "share": 0.001},
    )


def test_the_list_shows_tunings_comparisons_and_what_did_not_go_well(accepted, refused, tmp_path):
    compared = changed(accepted, action="compare", verdict={}, details={})
    rows = [
        ("cut", tmp_path / "cut", refused),
        ("learned", tmp_path / "learned", tuned(1.0, -0.3, -0.1)),
        ("forgot", tmp_path / "forgot", tuned(1.3, -0.1, 0.3)),
        ("whole way", tmp_path / "whole", compared),
    ]
    page = Page(write_index(rows, tmp_path, title="All").read_text(encoding="utf-8"))
    assert "loss: 1.2 → 1 (difference −0.3 to −0.1)" in page.text
    assert "64 (0.1\u00a0%)".replace("\u00a0", " ") in page.text
    assert "From the first model to the last" in page.text
    losing = page.text[page.text.index("What did not go well") :]
    assert "cut : Refused." in losing
    assert "forgot : Tuning did not lower loss: 1.2 → 1.3" in losing
    assert "learned" not in losing
    assert "a machine" in losing


def test_a_tuning_has_a_page_of_its_own(tmp_path):
    receipt = changed(
        tuned(1.0, -0.3, -0.1),
        details={
            "best_step": 4,
            "steps": 6,
            "looks": [
                {"step": step, "train_loss": 1.1, "validation": {"loss": loss}, "score": [-loss]}
                for step, loss in ((0, 1.2), (2, 1.1), (4, 1.0), (6, 1.05))
            ],
        },
    )
    page = Page(written(receipt, tmp_path))
    said = page.text.replace("\u00a0", " ")
    for words in (
        "– Tuned", "loss 1.2 (1.1 to 1.3) 1 (1.1 to 1.3) −0.2 (−0.3 to −0.1)", "What was learned",
        "Trained parameters 64 0.1 % of all", "Best step 4 of 6", "2.5 s",
    ):  # fmt: skip
        assert words in said, words
    assert "ot measured" not in said
    for section in ("Scores per layer", "Saving", "Is it still the same model?", "Why"):
        assert section not in said
    assert (tmp_path / "plots" / "training.csv").read_text().splitlines()[1:] == [
        "0,1.1,1.2", "2,1.1,1.1", "4,1.1,1.0", "6,1.1,1.05",
    ]  # fmt: skip


@pytest.mark.parametrize("action", ["prune", "compare"])
def test_a_section_that_a_receipt_can_never_fill_is_left_out(accepted, tmp_path, action):
    details = accepted.as_dict()["details"] if action == "prune" else {}
    receipt = changed(accepted, action=action, verdict={}, details=details)
    said = Page(written(receipt, tmp_path)).text
    for section in ("Why", "Saving", "Quality against the share removed"):
        assert section not in said
    assert ("Quality, before and after" in said) == (action == "compare")
    assert ("Kept states per layer" in said) == (action == "prune")


@pytest.mark.parametrize("names", [["report.html"], ["plots/layers.csv"]])
def test_a_report_replaces_no_file_of_anybody_else(accepted, tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputExistsError, match=names[0]):
        write_report(accepted, tmp_path)
    assert all((tmp_path / name).read_text() == "mine" for name in names)


def test_tasks_of_lm_eval_stand_in_the_quality_table(accepted, tmp_path):
    row = {"task": "piqa", "metric": "acc", "count": 100, "before": 0.5, "after": 0.4}
    row["difference"] = {"value": -0.1, "low": -0.2, "high": 0.0}
    receipt = changed(accepted, quality={**accepted.as_dict()["quality"], "lm_eval": [row]})
    assert "piqa, acc (lm-eval, 100 documents)" in Page(written(receipt, tmp_path)).text
