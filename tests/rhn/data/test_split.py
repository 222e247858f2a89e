"""The table describes Boulanger-Lewandowski's split, and holds no notes."""

from collections import Counter

from rhn.data.split import rows


def test_the_split_has_229_76_and_77_chorales_in_order_each_of_at_least_one_frame():
    assert all(row.segments and all(0 <= start < end for start, end in row.segments) for row in rows())
    assert Counter(row.split for row in rows()) == {"train": 229, "valid": 76, "test": 77}
    for split in ("train", "valid", "test"):
        indices = [row.index for row in rows() if row.split == split]
        assert indices == list(range(len(indices)))
    assert [row.split for row in rows()] == sorted((row.split for row in rows()), key=["train", "valid", "test"].index)


def test_eight_chorales_have_no_counterpart_and_take_no_catalogue_name():
    unmatched = [row for row in rows() if not row.matched]
    assert [row.label for row in unmatched] == [
        *("train-25", "train-28", "train-47", "train-115", "train-143", "train-145", "valid-26", "valid-52")
    ]
    assert all(row.name == row.label for row in unmatched)


def test_names_are_those_of_the_scores_and_only_bwv_414_occurs_twice():
    names = {row.score: row.name for row in rows() if row.matched}
    assert (names["bach/bwv69.6.xml"], names["bach/bwv281.krn"]) == ("bwv69.6", "bwv281")
    assert [name for name, count in Counter(row.name for row in rows()).items() if count > 1] == ["bwv414"]
