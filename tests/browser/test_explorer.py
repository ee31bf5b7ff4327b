"""The explorer page in a real browser, from the file system, without network."""

import pytest

from scripts import spurious_eval, spurious_task
from src.io import read_json
from src.pages import write_page
from tests.planted_matrix import make_run, write_planted

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page of six tasks without images; the models are in a folder with a hostile name."""
    folder = tmp_path_factory.mktemp("explorer") / "eval"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spurious_eval, "plot_matrix", lambda *_: None)
        write_planted(folder, run=HOSTILE)
        call = ["--json_dir", str(folder), "--out_dir", str(folder.parent / "svd")]
        call += ["--k", "3", "--resamples", "2"]
        spurious_eval.main(call)
    return folder / "index.html"


@pytest.fixture
def page(page_file, open_page):
    return open_page(page_file)


def cell(page, task: str, attribute: str):
    name = f"{task}:{attribute}".replace(" ", "_")
    return page.locator(f'#matrix [data-name="{name}"]')


def test_the_matrix_has_a_cell_for_every_task_and_attribute(page):
    assert page.locator("#matrix [data-name]").count() == 6 * 40
    assert page.locator("#matrix .self").count() == 6
    assert "6 tasks × 40 attributes on 800 images of the val split" in page.inner_text("#facts")
    assert "undefined" in cell(page, "Smiling", "Bald").get_attribute("class")


def test_hovering_shows_the_four_group_accuracies_with_n(page, page_file):
    cell(page, "Blond Hair", "Male").hover()
    text = page.inner_text("#tip")
    groups = read_json(page_file.parent / "Blond_Hair" / "Male.json", dict)["groups"]
    assert text.startswith("Blond Hair : Male\ndelta ")
    for group in groups:
        values = f"y={group['id'] >> 1} a={group['id'] & 1}"
        assert f"{values}  {100 * group['acc']:5.1f} %   n = {group['total']}" in text
    page.mouse.move(2, 2)
    assert page.locator("#tip").is_hidden()


def test_a_click_opens_the_pair_with_bars_and_intervals_and_escape_closes_it(page):
    cell(page, "Smiling", "High Cheekbones").click()
    assert page.inner_text("#pair h2") == "Smiling : High Cheekbones"
    assert page.locator("#pair progress").count() == 4
    assert page.locator("#pair img").count() == 0  # no faces were asked for
    assert page.url.endswith("#Smiling:High_Cheekbones")
    page.keyboard.press("Escape")
    assert page.inner_text("#pair") == ""


def test_a_link_opens_its_pair(page_file, browser):
    page = browser.new_page()
    page.goto(page_file.as_uri() + "#Blond_Hair:Male")
    assert page.inner_text("#pair h2") == "Blond Hair : Male"
    page.click("text=reverse")
    assert page.inner_text("#pair h2") == "Male : Blond Hair"
    page.close()


def test_the_strongest_pairs_are_listed_and_those_not_tested_come_last(page):
    names = page.locator("#list button").all_inner_texts()
    assert {name.split("\n")[0] for name in names[:5]} == {
        "Attractive : Young",
        "Blond Hair : Male",
        "Heavy Makeup : Male",
        "Smiling : High Cheekbones",
        "Wearing Hat : Eyeglasses",
    }
    page.fill("#search", "mustache")
    assert all(" *" in name for name in page.locator("#list button").all_inner_texts())


def test_filters_by_q_group_size_and_search_fade_the_other_cells(page):
    page.select_option("#q", "0.001")
    assert page.inner_text("#count").startswith("5 of ")
    assert page.locator("#matrix td[aria-label]:not(.out)").count() == 5
    page.fill("#search", "male blond")
    assert page.locator("#list button").count() == 1
    page.click("#reset")
    page.locator("#matrix .out").first.wait_for(state="detached")
    page.fill("#size", "150")
    counted = int(page.inner_text("#count").split()[0])
    assert 0 < counted < 6 * 39


def test_the_order_by_delta_puts_the_strongest_row_first(page):
    def rows():
        return page.locator("#matrix th[scope=row]").all_inner_texts()

    assert rows()[0] == "5 o Clock Shadow"
    page.select_option("#order", label="mean delta")
    assert rows()[0] == "Male"
    for order in ("biclusters of T", "SVD clusters"):
        page.select_option("#order", label=order)
        assert len(set(rows())) == 40


def test_keys_move_and_open(page):
    page.focus("#matrix")
    page.keyboard.press("ArrowDown")  # the first key shows the cursor in the first cell
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#tip").startswith("Blond Hair : Arched Eyebrows")
    page.keyboard.press("Enter")
    assert page.inner_text("#pair h2") == "Blond Hair : Arched Eyebrows"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    assert (
        page.locator("#matrix .cursor").get_attribute("data-name") == "Blond_Hair:Arched_Eyebrows"
    )


def background(page, selector: str = "body") -> str:
    script = "element => getComputedStyle(element).backgroundColor"
    return page.locator(selector).first.evaluate(script)


def test_signed_values_and_phi_are_coloured_from_both_sides(page):
    assert page.locator("#matrix .minus").count() == 0
    page.select_option("#measure", "signed")
    assert page.locator("#matrix .minus").count() > 0
    assert background(page, "#matrix .minus") != background(page, "#matrix .plus")
    assert "−" in page.inner_text("#legend")
    page.select_option("#measure", "phi")
    assert page.inner_text("#legend").startswith("−1")


def test_a_hostile_name_is_shown_as_text_and_runs_nothing(page):
    cell(page, "Blond Hair", "Male").click()
    assert HOSTILE in page.locator("#pair p[title]").get_attribute("title")
    assert "onerror" in page.inner_text("#pair")
    assert "null" not in page.inner_text("#pair")
    assert page.locator("#pair img").count() == 0
    assert page.title() == "Spurious correlations"


def test_untested_pairs_are_hatched_and_a_full_scale_is_marked(page, page_file):
    of_mustache = page_file.parent.glob("*/Mustache.json")  # there are three
    defined = [path for path in of_mustache if read_json(path, dict)["delta"] is not None]
    assert page.locator("#matrix .untested").count() == len(defined) > 0
    cell(page, "Smiling", "Mustache").hover()
    assert "not tested" in page.inner_text("#tip")
    page.fill("#search", "blond male")
    largest = float(page.inner_text("#list .number"))
    page.fill("#search", "mustache")
    exceeding = float(page.locator("#list .number").first.inner_text()) > largest
    assert ("≥" in page.inner_text("#legend")) == exceeding
    assert "significant or not" in page.inner_text("#facts")


def test_faces_of_each_group_are_shown_and_wrong_ones_are_framed(tmp_path, tiny_celeba, open_page):
    folder = tmp_path / "eval"
    make_run(tmp_path / "run", tiny_celeba, ["Male"])
    spurious_task.main(["--log_dir", str(tmp_path / "run"), "--json_dir", str(folder)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spurious_eval, "plot_matrix", lambda *_: None)
        call = ["--json_dir", str(folder), "--out_dir", str(tmp_path / "svd"), "--thumbnails", "2"]
        spurious_eval.main([*call, "--k", "1", "--resamples", "1"])
    page = open_page(folder / "index.html")
    page.select_option("#measure", "delta")
    cell(page, "Male", "Young").click()
    pair = read_json(folder / "Male" / "Young.json", dict)
    shown = page.locator("#pair .faces img").count()
    assert shown == sum(min(2, group["total"]) for group in pair["groups"])
    mistakes = sum(group["total"] - group["correct"] for group in pair["groups"])
    assert page.locator("#pair .faces img.wrong").count() <= mistakes
    decoded = "Promise.all([...document.querySelectorAll('.faces img')].map((i) => i.decode()))"
    page.evaluate(f"{decoded}.then((all) => all.length)")


def test_a_page_without_its_own_policy_hash_would_not_run(tmp_path, browser):
    write_page(tmp_path / "page.html", "<b>", ["common", "explorer"], {"x": 1})
    text = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;" in text
    (tmp_path / "page.html").write_text(text.replace('"use strict";', '"use strict"; '))
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto((tmp_path / "page.html").as_uri())
    assert any("Content Security Policy" in message for message in refused)
    page.close()
