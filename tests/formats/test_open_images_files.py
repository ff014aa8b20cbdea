from __future__ import annotations

import gzip
import json
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formats.drawn_tables import assert_same, table, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from wildbox.annotations import Annotations
from wildbox.errors import HierarchyError, InputError, InputWarning, VocabularyError
from wildbox.formats import csv_rows
from wildbox.formats.open_images import (
    read_classes,
    read_hierarchy,
    read_image_list,
    read_open_images,
    write_image_list,
    write_open_images,
)
from wildbox.vocabulary import Hierarchy, Vocabulary

HEADER = "ImageID,LabelName,XMin,XMax,YMin,YMax\n"
PETS = Vocabulary(("cat", "dog", "pet"))


def boxes_file(folder: Path, rows: str, *, header: str = HEADER) -> Path:
    path = folder / "boxes.csv"
    path.write_text(header + rows)
    return path


def labels_file(folder: Path, rows: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("ImageID,Source,LabelName,Confidence\n" + rows)
    return path


def test_boxes_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = boxes_file(
        tmp_path,
        "b,xclick,dog,1,.1,.2,.3,.4,0\na,xclick,cat,1,0,1,0,1,1\nb,xclick,cat,1,0,.5,.25,1,-1\n",
        header="ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n",
    )
    truth = read_open_images(path)
    assert truth.image_ids == ("b", "a")
    assert truth.vocabulary.ids == ("cat", "dog")
    assert truth.image.tolist() == [0, 0, 1]
    assert truth.label.tolist() == [1, 0, 0]
    assert truth.boxes.tolist() == [[0.1, 0.3, 0.2, 0.4], [0, 0.25, 0.5, 1], [0, 0, 1, 1]]
    assert truth.is_group_of.tolist() == [False, False, True]
    assert truth.sizes.tolist() == [[1, 1], [1, 1]]


def test_image_labels_add_images(tmp_path: Path) -> None:
    path = boxes_file(tmp_path, "b,dog,0,1,0,1\nb,cat,0,1,0,1\n")
    truth = read_open_images(path, image_labels=labels_file(tmp_path, "c,v,cat,0\nb,v,dog,1\nc,v,dog,1.0\n"))
    assert truth.image_ids == ("b", "c")
    assert truth.vocabulary.ids == ("cat", "dog")
    labels = truth.image_labels
    assert labels.image.tolist() == [1, 0, 1]
    assert labels.label.tolist() == [0, 1, 1]
    assert labels.is_positive.tolist() == [False, True, True]


def test_given_images_and_classes_set_the_order(tmp_path: Path) -> None:
    classes = tmp_path / "classes.csv"
    classes.write_text("LabelName,DisplayName\ndog,Dog\ncat,Cat\n")
    path = boxes_file(tmp_path, "b,cat,0,1,0,1\n")
    truth = read_open_images(path, classes=classes, image_ids=["a", "b"])
    assert truth.image_ids == ("a", "b")
    assert truth.image.tolist() == [1]
    assert truth.vocabulary.names == ("Dog", "Cat")
    with pytest.raises(InputError, match=r"boxes.csv:2: ImageID is 'b', expected one of 1 images"):
        read_open_images(path, image_ids=["a"])
    with pytest.raises(InputError, match="twice"):
        read_open_images(path, image_ids=["b", "b"])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (",cat,0,1,0,1", "ImageID is empty, expected the id of an image"),
        ("a,,0,1,0,1", "LabelName is empty, expected the id of a class"),
        ('"","cat",0,1,0,1', "ImageID is empty, expected the id of an image"),
        ('"a","",0,1,0,1', "LabelName is empty, expected the id of a class"),
        ("a,cat, 0, 1.5,0,1", "XMax is 1.5, expected a number in [0, 1]"),
        ("a,cow,0,1,0,1", "LabelName is 'cow', expected one of 3 classes, such as cat, dog, pet"),
        ("a,cat,,1,0,1", "XMin is empty, expected a number in [0, 1]"),
        ("a,cat,0,1,0,", "YMax is empty, expected a number in [0, 1]"),
        ("a,cat,0,1,0", "5 fields, expected 6"),
        ("a,cat,0,1,0,1,0", "7 fields, expected 6"),
        ("a,cat,0,broad,0,1", "XMax is 'broad', expected a number"),
        ("a,cat,0,1,nan,1", "YMin is nan, expected a number in [0, 1]"),
        ("a,cat,0,inf,0,1", "XMax is inf, expected a number in [0, 1]"),
        ("a,cat,-0.1,1,0,1", "XMin is -0.1, expected a number in [0, 1]"),
        ("a,cat,0,1,0,1.00001", "YMax is 1.00001, expected a number in [0, 1]"),
        ("a,cat,0,320,0,240", "XMax is 320.0, expected a number in [0, 1]"),
        ("a,cat,0.75,0.5,0,1", "XMin is 0.75 and XMax 0.5, expected XMin <= XMax"),
        ("a,cat,0,1,0.75,0.5", "YMin is 0.75 and YMax 0.5, expected YMin <= YMax"),
    ],
)
def test_a_bad_row_names_file_line_and_value(tmp_path: Path, row: str, told: str) -> None:
    path = boxes_file(tmp_path, f"a,cat,0,1,0,1\n\n{row}\na,dog,0,1,0,1\n")
    with pytest.raises(InputError) as caught:
        read_open_images(path, classes=PETS)
    assert str(caught.value) == f"{path}:4: {told}"


def test_group_of_is_a_flag(tmp_path: Path) -> None:
    path = boxes_file(tmp_path, "a,cat,0,1,0,1,2\n", header=HEADER.replace("\n", ",IsGroupOf\n"))
    with pytest.raises(InputError, match=r":2: IsGroupOf is 2.0, expected 0, 1 or -1"):
        read_open_images(path)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            "a,v,cat,1.7",
            "Confidence is 1.7, expected 1 (there) or 0 (absent), or between the two for a machine",
        ),
        ("a,v,cat,", "Confidence is empty"),
        (",v,cat,1", "ImageID is empty"),
        ("a,v,,1", "LabelName is empty"),
    ],
)
def test_a_bad_image_label(tmp_path: Path, row: str, told: str) -> None:
    path = boxes_file(tmp_path, "a,cat,0,1,0,1\n")
    labels = labels_file(tmp_path, f"a,v,cat,1\n{row}\n")
    with pytest.raises(InputError) as caught:
        read_open_images(path, classes=PETS, image_labels=labels)
    assert str(caught.value).startswith(f"{labels}:3: {told}")


def test_image_labels_of_other_classes_are_left_out_and_counted(tmp_path: Path) -> None:
    path = boxes_file(tmp_path, "a,cat,0,1,0,1\n")
    rows = "a,v,cow,1\na,v,cat,0\nb,v,cow,0\nb,v,cow,1\nc,v,cow,1\nc,v,cat,1\n"
    for classes in (PETS, None):
        with pytest.warns(InputWarning, match=r"labels.csv: 4 image labels are of classes that are not"):
            truth = read_open_images(path, classes=classes, image_labels=labels_file(tmp_path, rows))
        assert truth.image_ids == ("a", "b", "c")
        labels = truth.image_labels
        assert (labels.image.tolist(), labels.is_positive.tolist()) == ([0, 2], [False, True])
        assert {truth.vocabulary.ids[label] for label in labels.label} == {"cat"}
    with pytest.raises(InputError, match=r"labels.csv:2: LabelName is 'cow', expected one of 3 classes"):
        read_open_images(path, classes=PETS, image_labels=labels_file(tmp_path, "a,v,cow,1\n"))


def test_no_rows_of_boxes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"boxes.csv: no rows below the header"):
        read_open_images(boxes_file(tmp_path, ""))


def test_rounding_is_clipped(tmp_path: Path) -> None:
    truth = read_open_images(boxes_file(tmp_path, "a,cat,-0.0000001,1.0000001,0,1\n"))
    assert truth.boxes.tolist() == [[0, 0, 1, 1]]


def test_what_real_data_has_is_counted_and_kept(tmp_path: Path) -> None:
    rows = "a,cat,0,1,0,1\na,cat,0,1,0,1\nb,,,,,\na,dog,0,1,0,1\na,cat,.5,.5,0,1\n"
    path = boxes_file(tmp_path, rows)
    with pytest.warns(InputWarning) as caught:
        truth = read_open_images(path, image_labels=labels_file(tmp_path, ""))
    assert [str(warning.message).partition(": ")[2] for warning in caught] == [
        "1 boxes have no area; they are kept",
        "1 rows hold nothing but an ImageID; they are taken as images without boxes",
        "no rows below the header",
    ]
    assert truth.image_ids == ("a", "b")
    assert len(truth) == 4


def test_classes_with_and_without_header(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    for header in ("", "LabelName,DisplayName\n", "id,name\n", "ID,Name\n"):
        path.write_text(header + '/m/1,Mouse\n/m/2,"Mouse, computer"\n\n')
        assert read_classes(path) == Vocabulary(("/m/1", "/m/2"), ("Mouse", "Mouse, computer"))
    path.write_text("/m/1,Mouse\n/m/2\n")
    with pytest.raises(InputError, match=r"classes.csv:2: '/m/2', expected a class id and a name"):
        read_classes(path)
    path.write_text("/m/1,Mouse\n/m/1,Rat\n")
    with pytest.raises(VocabularyError, match=r"classes.csv:2: class id '/m/1' stands twice"):
        read_classes(path)
    path.write_text("LabelName,DisplayName\n")
    with pytest.raises(InputError, match="no classes"):
        read_classes(path)
    path.write_text("class_id,class_name,boxes\n/m/2,Rat,7\n/m/1,Mouse,\n")
    assert read_classes(path) == Vocabulary(("/m/2", "/m/1"), ("Rat", "Mouse"))
    path.write_text("class_id,class_name,boxes\n/m/2,Rat\n")
    with pytest.raises(InputError, match=r"classes.csv:2: '/m/2,Rat', expected"):
        read_classes(path)


def hierarchy_file(folder: Path, root: object) -> Path:
    path = folder / "hierarchy.json"
    path.write_text(json.dumps(root))
    return path


def node(name: str, *children: object, **more: object) -> dict[str, object]:
    return {"LabelName": name, "Subcategory": list(children), **more}


def test_only_subcategories_are_ancestry_and_unknown_nodes_pass_it_on(tmp_path: Path) -> None:
    tree = node("root", node("pet", node("feline", node("cat")), Part=[node("dog")]))
    with pytest.warns(InputWarning, match=r"1 classes are not in the vocabulary and left out \(feline\)"):
        hierarchy = read_hierarchy(hierarchy_file(tmp_path, tree), PETS)
    assert hierarchy.edges == ((0, 2),)


def test_several_parents(tmp_path: Path) -> None:
    tree = node("root", node("pet", node("cat")), node("dog", node("cat")))
    assert read_hierarchy(hierarchy_file(tmp_path, tree), PETS).edges == ((0, 1), (0, 2))


def test_a_cycle_is_named(tmp_path: Path) -> None:
    names = Vocabulary(("cat", "dog", "pet"), ("Cat", "Dog", "Pet"))
    tree = node("root", node("pet", node("dog", node("pet"), node("cat"))))
    with pytest.raises(HierarchyError) as caught:
        read_hierarchy(path := hierarchy_file(tmp_path, tree), names)
    assert str(caught.value) == f"{path}: the hierarchy has a cycle: Dog (dog) -> Pet (pet) -> Dog (dog)"
    with pytest.raises(HierarchyError, match=r"Cat \(cat\) -> Cat \(cat\)$"):
        read_hierarchy(hierarchy_file(tmp_path, node("cat", node("cat", node("dog")))), names)


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ([], r"\$: expected an object"),
        ({"Subcategory": []}, r"\$: expected an object with a text 'LabelName'"),
        (node("pet", node("cat"), {"LabelName": 3}), r"\$\.Subcategory\[1\]: expected an object"),
        ({"LabelName": "pet", "Subcategory": {}}, r"\$\.Subcategory: expected a list"),
        (node("root", node("cow")), "none of its classes is in the vocabulary"),
    ],
)
def test_a_bad_hierarchy(tmp_path: Path, tree: object, told: str) -> None:
    with pytest.raises(HierarchyError, match=told):
        read_hierarchy(hierarchy_file(tmp_path, tree), PETS)


def test_image_lists(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    write_image_list(path, ["b", "a"])
    assert path.read_text() == "b\na\n"
    write_image_list(path, ["b\x85\u2028c"])
    assert read_image_list(path) == ["b\x85\u2028c"]
    for odd in ("a\nb", " a"):
        with pytest.raises(InputError, match="cannot stand in a list of one image a line"):
            write_image_list(path, ["b", odd])
    path.write_text("b \r\n\na\n")
    assert read_image_list(path) == ["b", "a"]
    path.write_text("b\na\nb\n")
    with pytest.raises(InputError, match=r"list.txt:3: image 'b' stands in line 1 already"):
        read_image_list(path)


@given(truth=st.sampled_from([1.0, 64.0]).flatmap(lambda scale: tables(scale=scale)))
@settings(max_examples=60, deadline=None)
def test_written_is_read_again(truth: Annotations) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        write_open_images(truth, folder, prefix="set")
        read = read_open_images(
            Path(folder, "set-annotations-bbox.csv"),
            classes=Path(folder, "class-descriptions.csv"),
            image_labels=Path(folder, "set-annotations-human-imagelabels.csv"),
            image_ids=truth.image_ids,
        )
    scale = truth.sizes[0, 0]  # a power of two: to divide by it is exact
    assert_same(read, replace(truth, boxes=truth.boxes / scale, sizes=truth.sizes / scale))


@given(edges=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda e: e[0] < e[1])))
@settings(max_examples=50, deadline=None)
def test_a_hierarchy_written_is_read_again(edges: set[tuple[int, int]]) -> None:
    truth = table("x", "abcdef", [(0, 0, [0, 0, 1, 1])])
    with tempfile.TemporaryDirectory() as folder:
        write_open_images(truth, folder, prefix="set", hierarchy=Hierarchy(6, edges))
        assert set(read_hierarchy(Path(folder, "hierarchy.json"), truth.vocabulary).edges) == edges


def test_written_columns_are_open_images(tmp_path: Path) -> None:
    truth = replace(table("a", PETS.ids, [(0, 1, [0, 0.25, 0.5, 1])]), is_group_of=np.array([True]))
    write_open_images(truth, tmp_path, prefix="val")
    assert (tmp_path / "val-annotations-bbox.csv").read_text() == (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
        "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
        "a,verification,dog,1,0.0,0.5,0.25,1.0,0,0,1,0,0\n"
    )
    labels = (tmp_path / "val-annotations-human-imagelabels.csv").read_text()
    assert labels == "ImageID,Source,LabelName,Confidence\n"
    assert not (tmp_path / "hierarchy.json").exists()


def ancestors_by_position(tree: dict[str, object]) -> dict[str, set[str]]:
    """As Open Images' own tool: a class's ancestors are the nodes above any of its places."""
    found: dict[str, set[str]] = {}

    def walk(place: dict[str, object], above: frozenset[str]) -> None:
        name = str(place["LabelName"])
        found.setdefault(name, set()).update(above)
        children = place.get("Subcategory", [])
        assert isinstance(children, list)
        for child in children:
            walk(child, above | {name})

    walk(tree, frozenset())
    return found


@pytest.mark.parametrize("classes", [500, 600])
def test_the_official_hierarchies(shared_data: Path, classes: int) -> None:
    folder = shared_data / "open-images-sample"
    vocabulary = read_classes(folder / f"classes-{500 if classes == 500 else 601}.csv")
    path = folder / f"hierarchy-{classes}.json"
    hierarchy = read_hierarchy(path, vocabulary)
    for name, above in ancestors_by_position(json.loads(path.read_text())).items():
        if name in vocabulary:
            ours = {vocabulary.ids[a] for a in hierarchy.ancestors(vocabulary.index(name))}
            assert ours == {a for a in above if a in vocabulary}, name
    parents = np.bincount([child for child, _ in hierarchy.edges])
    assert parents.max() > 1


def test_the_real_sample(shared_data: Path) -> None:
    with pytest.warns(InputWarning) as caught:
        truth = read_open_images(shared_data / "open-images-sample" / "boxes.csv")
    assert [str(warning.message).partition(": ")[2].split(" ")[0] for warning in caught] == ["1"]
    # Of the 36,192 rows one names an image and nothing else.
    assert (len(truth.image_ids), len(truth), len(truth.vocabulary)) == (3520, 36_191, 497)


@pytest.mark.parametrize("name", ["boxes.csv", "boxes.csv.gz"])
def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # classes come one by one, images go over the edges of chunks, some lines are read carefully
    rows = [f'"{i // 7}",/m/{min(i // 20, 30 - i % 9)},0.1,0.{i:03},0,1' for i in range(100, 900)]
    rows[300] = "\n" + rows[300]
    text = "\n".join(["ImageID,LabelName,XMin,XMax,YMin,YMax", *rows, ""]).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    whole = read_open_images(tmp_path / name)
    monkeypatch.setattr(csv_rows, "CHUNK", 500)
    assert_same(read_open_images(tmp_path / name), whole)
    assert len(whole) == 800
