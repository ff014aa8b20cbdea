"""evaluate, errors and compare on small files."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numba
import numpy as np
import pytest
from evaluation.small_tables import draw
from evaluation.test_coco import as_results, drawn
from typer.testing import CliRunner

from wildbox.cli.app import app
from wildbox.cli.terminal import telling_of_compilation
from wildbox.errors import ConfigError, InputWarning, WildboxError
from wildbox.evaluation import EvaluationResult
from wildbox.formats.open_images import write_open_images
from wildbox.formats.storage import write_detections
from wildbox.labels import audit
from wildbox.labels.files import write_audit
from wildbox.vocabulary import Hierarchy

TRUTH = ("--truth", "truth/set-annotations-bbox.csv", "--classes", "truth/class-descriptions.csv")
TREE = ("--hierarchy", "truth/hierarchy.json")
LABELS = ("--image-labels", "truth/set-annotations-human-imagelabels.csv")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """truth/, audit/, few.csv and many.parquet: detections on a truth of three images with four classes."""
    found, truth = draw(np.random.default_rng(948), levels=50, group_of=0.2)
    write_open_images(truth, tmp_path / "truth", prefix="set", hierarchy=Hierarchy(4, [(0, 1), (1, 2)]))
    write_audit(audit(truth), tmp_path / "audit")
    write_detections(found, tmp_path / "many.parquet")
    write_detections(found, tmp_path / "all.csv")
    lines = (tmp_path / "all.csv").read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join([lines[0], *lines[1::2]]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> str:
    """What a command tells people."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    if done.exception is not None:
        raise done.exception
    return " ".join(done.output.split())


def header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as stream:
        return next(csv.reader(stream))


def ap_of(path: str) -> list[float]:
    ap: list[float] = EvaluationResult.read(path).ap.tolist()
    return ap


def test_evaluate(folder: Path) -> None:
    more = ("--matches", "run.npz", "--curves", "curves.csv", "--samples", "20", "--seed", "1")
    said = run("evaluate", "many.parquet", *TRUTH, *TREE, *LABELS, *more, "--out", "log.json")
    assert "in 95 % of 20 draws" in said
    document = json.loads((folder / "log.json").read_text())
    assert document["protocol"] == "open-images-challenge"
    assert f"mAP {document['summary']['mAP']:.4f}" in said
    assert header(folder / "curves.csv") == ["class_id", "score", "precision", "recall"]
    assert (folder / "run.npz").exists()
    run("evaluate", "all.csv", *TRUTH, *TREE, *LABELS, "--out", "log.csv")
    assert [row["ap"] for row in document["classes"]] == [
        None if np.isnan(ap) else ap for ap in ap_of("log.csv")
    ]


def test_numbers_go_to_standard_output(folder: Path) -> None:
    """And nothing else does, so that a shell can keep them."""

    def answer(*arguments: str) -> str:
        return CliRunner().invoke(app, arguments, catch_exceptions=False).stdout

    evaluated = answer("evaluate", "many.parquet", *TRUTH, "--matches", "a.npz", "--out", "a.csv")
    assert evaluated == f"mAP {np.nanmean(ap_of('a.csv')):.4f}\n"
    wrong = answer("errors", "many.parquet", *TRUTH, "--out", "errors")
    assert "poor box" in wrong
    assert "per class in" not in wrong
    gains = answer("compare", "a.npz", "a.npz", "--out", "gains.csv")
    assert "gain" in gains
    assert "gains.csv" not in gains
    assert answer("--version") == f"wildbox {version('wildbox')}\n"


def test_says_once_that_loops_are_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    @telling_of_compilation
    def command(*loops: Callable[[int], int]) -> None:
        for loop in loops:
            numba.njit()(loop)(1)

    command(lambda n: n + 1, lambda n: n + 2)
    assert capsys.readouterr().err.count("compiling loops") == 1
    command()
    assert not capsys.readouterr().err


def test_options_have_an_effect(folder: Path) -> None:
    plain = ("evaluate", "many.parquet", *TRUTH, *TREE)
    logs = {
        "challenge": LABELS,
        "unfiltered": ("--protocol", "open-images-v2", "--group-of-weight", "1"),
        "v2": ("--protocol", "open-images-v2", "--group-of-weight", "1", "--verified-only", *LABELS),
        "light": (*LABELS, "--group-of-weight", "0"),
        "upward": (*LABELS, "--expand-detections"),
        "voc": ("--protocol", "voc"),
        "eleven": ("--protocol", "voc-11-point"),
    }
    for name, options in logs.items():
        run(*plain, *options, "--out", f"{name}.csv")
    ap = {name: str(ap_of(f"{name}.csv")) for name in logs}
    assert ap["challenge"] == ap["v2"]  # with image labels and the same weight they are one
    assert len(set(ap.values())) == len(logs) - 1


def test_settings_that_do_not_fit(folder: Path) -> None:
    for options, said in (
        (("--protocol", "coco"), "--protocol coco takes only --truth and --out"),
        (("--protocol", "voc-11-point", "--samples", "9"), "no intervals for VOC's eleven points"),
        (("--protocol", "voc", "--group-of-weight", "1"), "takes no group_of_weight"),
        (("--protocol", "voc", *LABELS), "voc ignores image labels: leave out --image-labels"),
        (("--protocol", "open-images-v2", *LABELS), "ignores image labels: .*, or say --verified-only"),
        (("--all-detections", *LABELS), "open-images-challenge ignores image labels"),
        (("--protocol", "voc", "--verified-only"), "takes no verified_only"),
        (("--matches", "never.matches"), r"never.matches ends in '.matches', expected .npz"),
        (("--curves", "never.parquet"), r"--curves never.parquet ends in '.parquet', expected .csv"),
        (("--protocol", "nothing"), "unknown protocol 'nothing'"),
        (("--expand-detections",), "there is no hierarchy"),
    ):
        with pytest.raises(WildboxError, match=said):
            run("evaluate", "all.csv", *TRUTH, *options, "--out", "never.csv")
    with pytest.raises(ConfigError, match=r"from a \.json file"):
        run("evaluate", "all.csv", "--truth", "truth.csv", "--protocol", "lvis", "--out", "never.csv")
    for option in (("--expand-detections",), ("--samples", "9")):
        coco = ("--truth", "truth.json", "--protocol", "coco")
        with pytest.raises(ConfigError, match="takes only --truth and --out"):
            run("evaluate", "all.csv", *coco, *option, "--out", "never.csv")
    with pytest.raises(ConfigError, match=r"never.txt ends in '.txt'"):
        run("evaluate", "all.csv", *TRUTH, "--out", "never.txt")
    with pytest.raises(ConfigError, match=r"--out never.json ends in '.json', expected .csv"):
        run("compare", "a.csv", "b.csv", "--out", "never.json")
    assert not list(folder.glob("*never*"))


def test_a_model_that_found_nothing(folder: Path) -> None:
    (folder / "none.csv").write_text((folder / "all.csv").read_text().splitlines()[0] + "\n")
    for name in ("none", "all"):
        more = ("--matches", f"{name}.npz", "--curves", "curves.csv", "--samples", "9")
        said = run("evaluate", f"{name}.csv", *TRUTH, *LABELS, *more, "--out", f"{name}.log.csv")
        assert "in 95 % of 9 draws" in said
    run("compare", "none.npz", "all.npz", "--samples", "9", "--out", "gains.csv")
    rows = list(csv.DictReader((folder / "gains.csv").open(newline="")))
    assert {float(row["ap_none"]) for row in rows} == {0.0}
    assert all(float(row["gain"]) == float(row["ap_all"]) for row in rows)


def test_coco(folder: Path) -> None:
    document, rows = drawn(np.random.default_rng(1))
    (folder / "truth.json").write_text(json.dumps(document))
    (folder / "results.json").write_text(json.dumps(as_results(rows)))
    for protocol, name in (("coco", "AR100"), ("lvis", "APr")):
        said = run(
            "evaluate", "results.json", "--truth", "truth.json", "--protocol", protocol, "--out", "log.md"
        )
        assert f"{name} 0." in said
        assert "**AP75**" in (folder / "log.md").read_text()


def test_compare(folder: Path) -> None:
    for name in ("few.csv", "many.parquet"):
        stem = name.split(".")[0]
        run("evaluate", name, *TRUTH, *LABELS, "--matches", f"{stem}.npz", "--out", f"{stem}.log.csv")
    said = run("compare", "few.npz", "many.npz", "--out", "gains.csv", "--audit", "audit", "--samples", "20")
    for group in ("all", "head", "tail", "concurring"):
        assert group in said
    columns = ["class_id", "class_name", "ap_few", "ap_many", "gain", "gain_low", "gain_high"]
    assert header(folder / "gains.csv") == [*columns, "frequency", "concurrence"]
    run("compare", "few.log.csv", "many.log.csv", "--out", "gains.csv")
    assert header(folder / "gains.csv") == ["class_id", "class_name", "ap_few.log", "ap_many.log", "gain"]
    with pytest.raises(ConfigError, match="at least two"):
        run("compare", "few.npz", "--out", "gains.csv")


def test_errors(folder: Path) -> None:
    rates = ("--rates", "audit/concurrent_rates.csv")
    more = (*TRUTH, *TREE, "--protocol", "open-images-v2", "--min-score", "0", *rates)
    said = run("errors", "many.parquet", *more, "--out", "errors")
    assert "wrong class" in said
    assert "concur in the truth" not in said  # there is no wrong class here
    assert header(folder / "errors" / "errors.csv")[-1] == "missed"
    assert header(folder / "errors" / "confused.csv")[-2:] == ["rate", "rate_back"]
    assert "nan" not in run("errors", "many.parquet", *TRUTH, "--min-score", "1", *rates, "--out", "good")
    run("errors", "many.parquet", *TRUTH, "--min-score", "0.5", "--out", "plain")
    assert header(folder / "plain" / "confused.csv")[-1] == "errors"


def test_a_class_that_always_takes_the_place_of_another_is_seen(folder: Path) -> None:
    """It has no best F1, as nothing of it is right."""
    (folder / "t.csv").write_text(
        "ImageID,LabelName,XMin,XMax,YMin,YMax\na,torch,0,0.5,0,0.5\nb,torch,0,0.5,0,0.5\nb,flashlight,0.6,0.9,0.6,0.9\n"
    )
    (folder / "d.csv").write_text(
        "ImageID,LabelName,Score,XMin,XMax,YMin,YMax\na,flashlight,0.9,0,0.5,0,0.5\nb,flashlight,0.9,0,0.5,0,0.5\n"
    )
    run("audit", "t.csv", "--out", "known")
    rates = ("--rates", "known/concurrent_rates.csv")
    said = run("errors", "d.csv", "--truth", "t.csv", "--protocol", "voc", *rates, "--out", "errors")
    assert "0.0% are between classes that concur in the truth" in said
    with (folder / "errors" / "confused.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["detected"], row["truth"], row["errors"]) == ("flashlight", "torch", "2")


def test_version_2_of_files_and_of_a_converted_folder(folder: Path) -> None:
    """Its evaluation, its errors, and with image labels or without: each has the same numbers of both."""
    files = (*TRUTH[1:], *TREE)
    run("convert", *files, *LABELS, "--out", "converted")
    rules = ("--protocol", "open-images-v2")
    told = {}
    for name, truth in {
        "every": (*TRUTH, *TREE),
        "every of a folder": ("--truth", "converted"),
        "verified": (*TRUTH, *TREE, *LABELS, "--verified-only"),
        "verified of a folder": ("--truth", "converted", "--verified-only"),
    }.items():
        run("evaluate", "many.parquet", *truth, *rules, "--out", "log.json")
        told[name] = json.loads((folder / "log.json").read_text())["summary"]["mAP"]
        said = run("errors", "many.parquet", *truth, *rules, "--min-score", "0", "--out", "errors")
        assert f"mAP {told[name]:.4f} at these scores" in said
    assert told["every"] == told["every of a folder"] < told["verified"] == told["verified of a folder"]
