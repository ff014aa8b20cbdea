"""Open Images' own files (V4 to V7, Challenge 2018 and 2019) and lists of images, to the tables and back.

Letters: B images, N boxes, V verified image labels, C classes.
Source: https://storage.googleapis.com/openimages/web/download_v7.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wildbox.annotations import Annotations, ImageLabels
from wildbox.boxes import count_empty
from wildbox.errors import HierarchyError, InputError, VocabularyError
from wildbox.formats.csv_rows import NUMBER, Check, filled_rows, write_table
from wildbox.formats.files import read_json, read_text, tell, whole_file, write_json
from wildbox.formats.labelled_rows import (
    CORNERS,
    LABELLED,
    LabelledRows,
    corners,
    number_images,
    read_labelled_rows,
    texts,
)
from wildbox.vocabulary import Hierarchy, Vocabulary

TOLERANCE = 1e-6
"""A relative coordinate this little outside [0, 1] is rounding, and clipped."""
ROOT = "/m/0bl9f"
"""Open Images' name of the root of its hierarchy, "Entity", which is no class."""


BARE = pl.all_horizontal(pl.col("LabelName", *CORNERS).is_null())
"""A row that names an image and nothing else."""


def _box_checks() -> Iterator[Check]:
    yield Check(LABELLED.bad & ~BARE, LABELLED.columns, LABELLED.expected)
    for name in CORNERS:
        inside = pl.col(name).is_between(-TOLERANCE, 1 + TOLERANCE) & pl.col(name).is_not_nan()
        yield Check(~inside.fill_null(False) & ~BARE, (name,), "a number in [0, 1]")
    for axis in "XY":
        low, high = f"{axis}Min", f"{axis}Max"
        yield Check(pl.col(low) > pl.col(high), (low, high), f"{low} <= {high}")
    flag = pl.col("IsGroupOf").is_in([0.0, 1.0, -1.0]).fill_null(False)
    yield Check(~flag & ~BARE, ("IsGroupOf",), "0, 1 or -1 (not known)")


BOX_CHECKS = tuple(_box_checks())


def read_classes(path: str | Path) -> Vocabulary:
    """Classes of a CSV file: id, display name; with or without the header LabelName,DisplayName.

    Or a table of ours, as an audit's classes.csv: its header begins with class_id,class_name; what follows is not read.

    Raises:
        InputError: a line without an id, or with other than two fields or those of the header.
        VocabularyError: an id twice.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "classes.csv"
    >>> _ = file.write_text("LabelName,DisplayName\\n/m/07dm6,Tiger\\n")
    >>> read_classes(file).names
    ('Tiger',)
    """
    ids: list[str] = []
    names: list[str] = []
    fields = 2
    for line, row in filled_rows(read_text(path), path=path):
        if not ids and (row[0] == "LabelName" or [field.lower() for field in row] == ["id", "name"]):
            continue
        if not ids and row[:2] == ["class_id", "class_name"]:
            fields = len(row)
            continue
        if len(row) != fields or not row[0]:
            raise InputError(f"{','.join(row)!r}, expected a class id and a name", path=path, line=line)
        if row[0] in ids:
            raise VocabularyError(f"class id {row[0]!r} stands twice", path=path, line=line)
        ids.append(row[0])
        names.append(row[1] or row[0])
    if not ids:
        raise InputError("no classes below the header", path=path)
    return Vocabulary(tuple(ids), tuple(names))


def read_hierarchy(path: str | Path, vocabulary: Vocabulary) -> Hierarchy:
    """Hierarchy of a nested JSON file: {"LabelName": id, "Subcategory": [...]}.

    As in Open Images' own expansion tool, only "Subcategory" makes ancestors; "Part" does not. A class that
    the vocabulary does not hold (the root "Entity" is one) is left out, and its children hang on its own
    parent; where there are such below the root, an `InputWarning` counts them.

    Raises:
        HierarchyError: a cycle (its classes are named), a node without a LabelName, or no class in common.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "hierarchy.json"
    >>> _ = file.write_text('{"LabelName": "pet", "Subcategory": [{"LabelName": "cat"}]}')
    >>> read_hierarchy(file, Vocabulary(("cat", "pet"))).edges
    ((0, 1),)
    """
    edges: set[tuple[int, int]] = set()
    known: set[int] = set()
    unknown: set[str] = set()
    waiting: list[tuple[object, int | None, str]] = [(read_json(path), None, "$")]
    while waiting:
        node, parent, place = waiting.pop()
        if not isinstance(node, dict) or not isinstance(node.get("LabelName"), str):
            raise HierarchyError(f"{place}: expected an object with a text 'LabelName'", path=path)
        children = node.get("Subcategory", [])
        if not isinstance(children, list):
            raise HierarchyError(f"{place}.Subcategory: expected a list", path=path)
        if node["LabelName"] in vocabulary:
            index = vocabulary.index(node["LabelName"])
            known.add(index)
            if parent is not None:
                edges.add((index, parent))
            parent = index
        elif place != "$":
            unknown.add(node["LabelName"])
        waiting += [(child, parent, f"{place}.Subcategory[{i}]") for i, child in enumerate(children)]
    if not known:
        raise HierarchyError("none of its classes is in the vocabulary", path=path)
    some = ", ".join(sorted(unknown)[:3])
    tell({f"{{n}} classes are not in the vocabulary and left out ({some})": len(unknown)}, path=path)
    return _acyclic(edges, vocabulary, path=path)


def _acyclic(edges: set[tuple[int, int]], vocabulary: Vocabulary, *, path: str | Path) -> Hierarchy:
    try:
        return Hierarchy(len(vocabulary), edges)
    except HierarchyError as error:
        named = " -> ".join(f"{vocabulary.names[i]} ({vocabulary.ids[i]})" for i in error.cycle)
        raise HierarchyError(f"the hierarchy has a cycle: {named}", path=path) from error


def read_open_images(
    boxes: str | Path,
    *,
    classes: str | Path | Vocabulary | None = None,
    image_labels: str | Path | None = None,
    image_ids: Sequence[str] | None = None,
) -> Annotations:
    """Boxes, and verified image labels, of Open Images CSV files, as they are or compressed (gzip, Zstandard).

    Coordinates are relative to the image, so `sizes` is (1, 1). Columns ImageID, LabelName, XMin, XMax,
    YMin, YMax are needed; IsGroupOf (1: a group, 0: none, -1: not known, taken as none) may be missing;
    others are not read. Rows may stand in any order; where those of an image stand together, as published, reading
    is fastest. Rows that repeat an earlier one are kept: the audit counts them.

    Args:
        classes: file or vocabulary; a class outside it is an error. A file of which no LabelName is a class id
            holds display names. Default: what occurs in the boxes' LabelName, sorted.
        image_labels: file with ImageID, LabelName, Confidence: 1 (there) or 0 (absent), as people verified it;
            what is between is a machine's guess and left out, and so are other classes (the files of all images
            have labels of 20,000), unless there are no others: that is an error.
        image_ids: the images, in order; another image is an error. Default: as they first appear, in the
            boxes and then in the image labels.
    Raises:
        InputError: with file and line: a missing column, a missing or unknown value, a display name of several
            classes, a turned box, a coordinate outside [0, 1] by more than 1e-6 (less is clipped), a row with
            more or fewer fields than the header; a file without rows of boxes.
    Warns:
        InputWarning: counts boxes without area and rows with nothing but an ImageID, which name an image without
            boxes, both kept; image labels that a machine generated or of other classes; says where image labels have
            no rows and where the last line of a file has no line break.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "boxes.csv"
    >>> _ = file.write_text("ImageID,LabelName,XMin,XMax,YMin,YMax\\na,cat,0,1,0,0.5\\n")
    >>> read_open_images(file).boxes.tolist()
    [[0.0, 0.0, 1.0, 0.5]]
    """
    known = read_classes(classes) if isinstance(classes, str | Path) else classes
    files = [_read_boxes(boxes, known)]
    vocabulary = Vocabulary(files[0].classes) if known is None else known
    if image_labels is not None:
        files.append(_read_image_labels(image_labels, vocabulary))
    images, image = number_images(files, image_ids)
    label = [file.labels(vocabulary) for file in files]
    box, is_group_of = files[0].values
    verified = ImageLabels()
    if image_labels is not None:
        verified = ImageLabels(image[1], label[1], files[1].values[0])
    del files
    return Annotations(
        vocabulary,
        images,
        image=image[0],
        boxes=box,
        label=label[0],
        is_group_of=is_group_of,
        image_labels=verified,
    )


def _read_boxes(path: str | Path, classes: Vocabulary | None) -> LabelledRows:
    columns = {**dict.fromkeys(CORNERS, NUMBER), "IsGroupOf": NUMBER}
    likely = None if classes is None else pl.Enum(classes.ids)
    rows = read_labelled_rows(path, columns, _boxes, optional=["IsGroupOf"], checks=BOX_CHECKS, likely=likely)
    if not len(rows.runs):
        raise InputError("no rows below the header", path=path)
    bare = "{n} rows hold nothing but an ImageID; they are taken as images without boxes"
    counts = {"{n} boxes have no area; they are kept": count_empty(rows.values[0]), bare: rows.without_label}
    tell(counts, path=path, stacklevel=4)
    return rows


def _boxes(table: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    boxes = corners(table)
    is_group_of = np.zeros(len(table), bool)
    if "IsGroupOf" in table.columns:
        is_group_of = (table["IsGroupOf"] == 1).to_numpy()
    return np.clip(boxes, 0.0, 1.0, out=boxes), is_group_of


def _read_image_labels(path: str | Path, vocabulary: Vocabulary) -> LabelledRows:
    confidence = pl.col("Confidence")
    known = confidence.is_between(0, 1) & confidence.is_not_nan()
    expected = "1 (there) or 0 (absent), or between the two for a machine's guess"
    rows = read_labelled_rows(
        path,
        {"Confidence": NUMBER},
        lambda table: ((table["Confidence"] == 1).to_numpy(),),
        checks=(LABELLED, Check(~known.fill_null(False), ("Confidence",), expected)),
        leave_out=(confidence > 0) & (confidence < 1),
    )
    guessed = "{n} image labels are a machine's (Confidence between 0 and 1), not verified; they are left out"
    other = "{n} image labels are of classes that are not those of the boxes; they are left out"
    kept = rows.of_classes(vocabulary)
    empty = not len(rows) and not rows.left_out
    counts = {guessed: rows.left_out, other: len(rows) - len(kept), "no rows below the header": int(empty)}
    tell(counts, path=path, stacklevel=4)
    return kept


def write_open_images(
    annotations: Annotations, folder: str | Path, *, prefix: str, hierarchy: Hierarchy | None = None
) -> None:
    """Write the files that `read_open_images`, `read_classes` and `read_hierarchy` read.

    `{prefix}-annotations-bbox.csv`, `{prefix}-annotations-human-imagelabels.csv`, `class-descriptions.csv`,
    and `hierarchy.json` where one is given: a class with several parents is repeated under each. An image
    without boxes and image labels is in none of them (`write_image_list` keeps it). What the table does not
    have is 0 (IsOccluded, IsTruncated, IsDepiction, IsInside), 1 (Confidence of a box) or "verification"
    (Source).
    """
    folder, vocabulary = Path(folder), annotations.vocabulary
    described = pl.DataFrame({"LabelName": vocabulary.ids, "DisplayName": vocabulary.names})
    for name, frame in (
        (f"{prefix}-annotations-bbox.csv", _box_rows(annotations)),
        (f"{prefix}-annotations-human-imagelabels.csv", _label_rows(annotations)),
        ("class-descriptions.csv", described),
    ):
        write_table(frame, folder / name)
    if hierarchy is not None:
        write_json(_nested(hierarchy, vocabulary), folder / "hierarchy.json")


def _box_rows(annotations: Annotations) -> pl.DataFrame:
    width, height = annotations.sizes[annotations.image].T
    x1, y1, x2, y2 = annotations.boxes.T
    return pl.DataFrame(
        {
            "ImageID": texts(annotations.image_ids, annotations.image),
            "Source": "verification",
            "LabelName": texts(annotations.vocabulary.ids, annotations.label),
            "Confidence": 1,
            "XMin": x1 / width,
            "XMax": x2 / width,
            "YMin": y1 / height,
            "YMax": y2 / height,
            "IsOccluded": 0,
            "IsTruncated": 0,
            "IsGroupOf": annotations.is_group_of.astype(np.int8),
            "IsDepiction": 0,
            "IsInside": 0,
        }
    )


def _label_rows(annotations: Annotations) -> pl.DataFrame:
    labels = annotations.image_labels
    return pl.DataFrame(
        {
            "ImageID": texts(annotations.image_ids, labels.image),
            "Source": "verification",
            "LabelName": texts(annotations.vocabulary.ids, labels.label),
            "Confidence": labels.is_positive.astype(np.int8),
        }
    )


def _nested(hierarchy: Hierarchy, vocabulary: Vocabulary) -> dict[str, object]:
    children: dict[int, list[int]] = {}
    for child, parent in hierarchy.edges:
        children.setdefault(parent, []).append(child)

    def node(index: int) -> dict[str, object]:
        below = [node(child) for child in children.get(index, [])]
        return {"LabelName": vocabulary.ids[index]} | ({"Subcategory": below} if below else {})

    has_parent = {child for child, _ in hierarchy.edges}
    tops = [node(i) for i in range(len(vocabulary)) if i not in has_parent]
    root = ROOT
    while root in vocabulary:
        root += "_"
    return {"LabelName": root, "Subcategory": tops}


def write_image_list(path: str | Path, ids: Iterable[str]) -> None:
    """Write image ids, one a line; `InputError` for one that is no line, or has blanks at its ends.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "minival.txt"
    >>> write_image_list(file, ["b", "a"])
    >>> read_image_list(file)
    ['b', 'a']
    """
    lines = list(ids)
    if odd := [id_ for id_ in lines if "\n" in id_ or id_ != id_.strip()]:
        raise InputError(f"image {odd[0]!r} cannot stand in a list of one image a line", path=path)
    with whole_file(path) as temporary:
        temporary.write_text("".join(f"{id_}\n" for id_ in lines), encoding="utf-8")


def read_image_list(path: str | Path) -> list[str]:
    """Image ids of a file with one a line; blank lines are left out, an id twice is an `InputError`."""
    line_of: dict[str, int] = {}
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        id_ = text.strip()
        if id_ in line_of:
            raise InputError(f"image {id_!r} stands in line {line_of[id_]} already", path=path, line=line)
        if id_:
            line_of[id_] = line
    return list(line_of)
