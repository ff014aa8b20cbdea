"""The report of a study: summary and gain tables, Figures 1 and 2, and the page that shows all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Ints
from wildbox.detections import Detections
from wildbox.detectors.dataset import image_path, load_image
from wildbox.evaluation.result import Gain, gains, known_mean, write_gains
from wildbox.formats.files import whole_file, write_csv
from wildbox.formats.storage import read_detections
from wildbox.labels.audit import LabelAudit
from wildbox.reports.charts import gain_dots, imbalance_curve, rates_matrix
from wildbox.reports.figures import choose_images, figure_from_tables
from wildbox.reports.page import Picture, Section, write_page
from wildbox.reports.tables import (
    LIMIT,
    Cell,
    Table,
    combinations_table,
    csv_table,
    gains_markdown,
    gains_table,
)
from wildbox.study import CONCURRENT, OWN, SOFTMAX, Progress, StudyResult, StudyRun, four_logs

SUMMARY = ("run", "rule", "balance", "hybrid_start", "scored", "map", "map_concurring", "map_look_alike",
           "map_head", "map_middle", "map_tail")  # fmt: skip
SCORED = {SOFTMAX: "softmax", CONCURRENT: "concurrent softmax", OWN: "its own rule"}


@dataclass(frozen=True)
class ConcurringClasses:
    """Class indices that share objects with other classes."""

    every: Ints
    """With a rate above 0 in their row or column."""
    look_alike: Ints
    """Where neither the hierarchy nor a third label explains it: implicit multi-labels."""


def concurring_classes(audit: LabelAudit) -> ConcurringClasses:
    """Which classes concur, by the audit's rates."""
    linked = (audit.rates.values > 0) | (audit.rates.values.T > 0)
    implicit = linked & (audit.unexplained > 0)
    return ConcurringClasses(np.flatnonzero(linked.any(axis=1)), np.flatnonzero(implicit.any(axis=1)))


def write_report(study: StudyResult, out: str | Path, *, progress: Progress) -> Path:
    """Leave `summary.csv`, `gains.csv`, `gains.md`, `figures/` and `report.html` in the study's folder.

    Returns:
        the page's path.
    """
    out = Path(out)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    concurring = concurring_classes(study.audit)
    _write_summary(study, concurring, out / "summary.csv")
    steps = (_audit_section, _four_section, _gains_section, _baseline_section, _sampling_section)
    sections = []
    for done, make in enumerate((*steps, _classes_section)):
        progress("report", done, len(steps) + 1)
        section = make(study, concurring, out)
        if section is not None:
            sections.append(section)
    page = out / "report.html"
    write_page(page, title=study.config.title, lead=_lead(study, concurring), sections=sections)
    progress("report", len(steps) + 1, len(steps) + 1)
    return page


def _write_summary(study: StudyResult, concurring: ConcurringClasses, path: Path) -> None:
    """One row a log: means of AP over groups of classes; empty where a group has no class with truth."""
    groups = study.audit.counts.groups()
    members = (slice(None), concurring.every, concurring.look_alike,
               *(groups == name for name in ("head", "middle", "tail")))  # fmt: skip
    rows = []
    for run in study.config.runs:
        sampling = study.config.run_config(run).sampling
        for scoring in run.scorings:
            means = [known_mean(study.results[run.log_name(scoring)].ap[some]) for some in members]
            shown = [None if np.isnan(mean) else mean for mean in means]  # written as nothing
            rows.append(
                [run.name, run.rule, sampling.balance, sampling.hybrid_start, SCORED[scoring], *shown]
            )
    write_csv(path, SUMMARY, rows)


def _lead(study: StudyResult, concurring: ConcurringClasses) -> str:
    total = study.audit.summary()
    text = (
        f"{total['images']:,} training images with {total['boxes']:,} boxes (ancestors included) of "
        f"{total['classes']} classes, evaluated on {len(study.validation.annotations.image_ids):,} images by the "
        f"protocol {study.config.protocol}. Seed {study.config.seed}."
    )
    pair = _gain_of_the_paper(study, concurring)
    if pair:
        both = [g for g in pair if not np.isnan(g.gain)]
        without, with_ = (float(np.mean([getattr(g, k) for g in both])) for k in ("without", "with_"))
        text += (
            f" Mean AP of the {len(both)} classes that concur with another: {without:.3f} with softmax, "
            f"{with_:.3f} with concurrent softmax in training and scoring."
        )
    return text


def _audit_section(study: StudyResult, concurring: ConcurringClasses, out: Path) -> Section:
    audit, figures = study.audit, out / "figures"
    names = audit.vocabulary.names
    imbalance_curve(audit.counts.boxes, figures / "imbalance.png", images=audit.counts.images, names=names)
    pictures = [Picture(figures / "imbalance.png", "Boxes and images of each class, most frequent first")]
    if len(concurring.every):
        rates_matrix(audit.rates.values, figures / "rates.png", names=names)
        caption = "Row: a class; column: the share of its boxes that also carry the other label."
        model = study.config.model
        if (model.rate_bound, model.rate_gamma) != ("rate", 1):
            caption += (
                f" The runs changed these rates: rate_bound = {model.rate_bound}, "
                f"rate_gamma = {model.rate_gamma:g}."
            )
        pictures.append(Picture(figures / "rates.png", "Matrix of concurrent rates", caption))
    total = audit.summary()
    pairs = csv_table(
        out / "audit" / "confusion_pairs.csv",
        columns=("source_name", "confusion_name", "source_boxes", "confusion_boxes", "ratio", "related"),
        limit=LIMIT,
        note="Pairs of classes on one object (IoU > 0.9); related: one is an ancestor of the other.",
    )
    text = (
        f"The most frequent class has {total['imbalance']:,.0f} times the boxes of the rarest. "
        f"{total['multi_label_boxes']:,} of {total['boxes']:,} boxes mark an object with several labels. "
        f"Of {total['overlapping_pairs']:,} overlapping pairs of boxes of different classes "
        f"{total['overlapping_pairs_of_kin']:,} are a class and its ancestor; "
        f"{total['overlapping_pairs_unexplained']:,} "
        "are explained neither by the hierarchy nor by a more specific label: look-alikes."
    )
    numbers = Table(("of the training set", "value"), [[k.replace("_", " "), v] for k, v in total.items()])
    return Section("What is in the labels", text, (numbers, pairs), pictures)


def _four_section(study: StudyResult, concurring: ConcurringClasses, out: Path) -> Section | None:
    combinations = four_logs(study.config.runs)
    if not combinations:
        return None
    tables = []
    known = ~np.isnan(study.results[combinations[0][2]].ap)  # classes without truth are in no mean
    for note, members in (
        ("mAP over all classes.", slice(None)),
        (
            f"Mean AP of the {known[concurring.every].sum()} classes that concur with another.",
            concurring.every,
        ),
        (f"Mean AP of the {known[concurring.look_alike].sum()} look-alike classes.", concurring.look_alike),
    ):
        values = {(t, s): known_mean(study.results[log].ap[members]) for t, s, log in combinations}
        if not all(np.isnan(v) for v in values.values()):
            tables.append(combinations_table(values, note=note))
    # a panel is too narrow for both names in full
    columns = {f"{t} / {s}".replace("concurrent softmax", "concurrent"): log for t, s, log in combinations}
    path = out / "figures" / "figure1.png"
    _figure(study, columns, concurring.every, out, path)
    caption = "Columns: trained with / scored with softmax or concurrent softmax. Scores of at least 0.5."
    return Section(
        "Trained with, scored with",
        "Softmax makes the true labels of one object compete; concurrent softmax removes that competition "
        "as far as labels concur.",
        tables,
        [Picture(path, "Ground truth beside the four combinations of training and scoring rule", caption)],
    )


def _gain_of_the_paper(study: StudyResult, concurring: ConcurringClasses) -> list[Gain]:
    logs = {(t, s): log for t, s, log in four_logs(study.config.runs)}
    without = logs.get(("softmax", "softmax"))
    with_ = logs.get(("concurrent softmax", "concurrent softmax"))
    if without is None or with_ is None:
        return []
    ids = [study.audit.vocabulary.ids[i] for i in concurring.every]
    return gains(study.results[without], study.results[with_], classes=ids)


def _gains_section(study: StudyResult, concurring: ConcurringClasses, out: Path) -> Section | None:
    rows = _gain_of_the_paper(study, concurring)
    if not rows:
        return None
    write_gains(rows, out / "gains.csv")
    with whole_file(out / "gains.md") as temporary:
        temporary.write_text(gains_markdown(rows), encoding="utf-8")
    path = out / "figures" / "gains.png"
    gain_dots(rows, path, without="softmax", with_="concurrent softmax")
    return Section(
        "Gain per concurring class",
        "Without: softmax in training and scoring. With: concurrent softmax in both.",
        [gains_table(rows)],
        [Picture(path, "AP of each concurring class without and with concurrent softmax")],
    )


def _baseline_section(study: StudyResult, concurring: ConcurringClasses, out: Path) -> Section:
    return Section(
        "All runs",
        "Mean AP over all classes, those that concur with another, look-alikes (concurring, not by the hierarchy), "
        "and thirds of the classes by training images (head, middle, tail). balance is lambda of soft-balance; "
        "hybrid_start the share of the steps that run non-balanced before.",
        [csv_table(out / "summary.csv")],
    )


def _sampling_section(study: StudyResult, concurring: ConcurringClasses, out: Path) -> Section | None:
    """Figure 2, where the study has the three samplings."""
    runs = {run.name: run for run in study.config.runs}
    wanted = {
        "non-balance": runs.get("non-balance"),
        "class-aware": runs.get("class-aware"),
        "soft-balance": runs.get("soft-balance"),
    }
    if any(run is None for run in wanted.values()):
        return None
    columns = {name: _best_log(run) for name, run in wanted.items() if run is not None}
    path = out / "figures" / "figure2.png"
    rare = np.flatnonzero(study.audit.counts.groups() != "head")
    _figure(study, columns, rare, out, path)
    table = csv_table(out / "summary.csv")
    kept = [row for row in table.rows if row[1] == "concurrent-softmax" and row[4] == SCORED[CONCURRENT]]
    return Section(
        "Sampling",
        "Which images a step sees. Every run here is trained and scored with concurrent softmax; the run "
        "\"concurrent\" is soft-balance after a non-balanced first part (hybrid training).",
        [Table(table.header, kept)],
        [Picture(path, "Ground truth beside non-balance, class-aware and soft-balance sampling",
                 "Detections with a score of at least 0.5.")],
    )  # fmt: skip


def _best_log(run: StudyRun) -> str:
    """The log of a run scored by the rule it was trained with."""
    return run.log_name({"concurrent-softmax": CONCURRENT, "softmax": SOFTMAX, "softmax-multihot": SOFTMAX}.get(
        run.rule, OWN))  # fmt: skip


def _classes_section(study: StudyResult, concurring: ConcurringClasses, out: Path) -> Section:
    groups, counts = study.audit.counts.groups(), study.audit.counts
    logs = list(study.results)
    truth = next(iter(study.results.values())).truth_boxes
    rows: list[list[Cell]] = [
        [
            name,
            str(groups[i]),
            int(counts.boxes[i]),
            int(truth[i]),
            *(float(study.results[log].ap[i]) for log in logs),
        ]
        for i, name in enumerate(study.audit.vocabulary.names)
    ]
    note = "AP of every class in every log; boxes are those of training, truth those of evaluation."
    return Section(
        "Every class",
        tables=[
            Table(
                ("class", "group", "boxes", "truth", *(log.replace("balance_", "") for log in logs)),
                rows,
                note,
            )
        ],
    )


def _figure(
    study: StudyResult, columns: Mapping[str, str], classes: Sequence[int] | Ints, out: Path, path: Path
) -> None:
    """Side by side: the truth and the detections of some logs, on images that tell them apart."""
    truth, folder = study.validation.expanded, study.validation.folder
    found: dict[str, Detections] = {
        title: read_detections(
            out / "detections" / f"{log}.csv", vocabulary=truth.vocabulary, image_ids=truth.image_ids
        )
        for title, log in columns.items()
    }
    images = choose_images(
        truth,
        found,
        count=study.config.figure_images,
        classes=[int(c) for c in classes],
        seed=study.config.seed,
    )

    def pixels(index: int) -> NDArray[np.uint8]:
        return load_image(image_path(truth, index, folder)).permute(1, 2, 0).numpy()

    figure_from_tables(truth, found, images, pixels, path)
