import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.table import Table
from deepfield.morphology.labels import read_votes, rename
from deepfield.morphology.trees import classes, tree

# Two rows of the challenge's training_solutions_rev1.csv, as published.
KAGGLE = {
    100008: [
        0.383147, 0.616853, 0, 0, 0.616853, 0.038452149, 0.578400851, 0.418397819, 0.198455181, 0, 0.104752126,
        0.512100874, 0, 0.054453, 0.945547, 0.201462524, 0.181684476, 0, 0, 0.0272265, 0, 0.0272265, 0, 0, 0, 0, 0,
        0, 0.279952491, 0.138445328, 0, 0, 0.092885571, 0, 0, 0, 0.325512248,
    ],
}  # fmt: skip


def kaggle_table(rows):
    sizes = tree("gz2").groups
    names = [f"Class{i + 1}.{k + 1}" for i, n in enumerate(sizes) for k in range(n)]
    return Table(np.array(rows), names=names)


def test_kaggle_probabilities_are_paths_down_the_tree():
    t, row = tree("gz2"), np.array(KAGGLE[100008])
    found = read_votes(kaggle_table([row]), t, voters=44)
    assert found.form == "kaggle" and found.reasons.tolist() == [""]
    # The challenge multiplies fractions down the tree, except that those of question 6 sum to one; nobody said
    # star or artifact here, so that all reach question 6 and the file's own numbers are the votes.
    assert np.allclose(found.votes[0], 44 * row, atol=2e-4)
    assert np.allclose(t.voters(found.votes[0])[[0, 5, 9]], 44 * np.array([1, 1, 0.418397819]), atol=1e-4)


def test_kaggle_question_six_is_brought_back_to_the_voters_who_reached_it():
    t, row = tree("gz2"), np.array(KAGGLE[100008])
    row[:3] = 0.2, 0.3, 0.5  # half of the voters saw a star: they were asked nothing more
    found = read_votes(kaggle_table([row]), t, voters=40)
    assert t.voters(found.votes[0])[t.index("something-odd")] == pytest.approx(20, abs=1e-3)


def hart_table(n=6, seed=0):
    rng = np.random.default_rng(seed)
    t, table = tree("gz2"), Table()
    for q in t.questions:
        counts = rng.integers(1, 20, size=(n, len(q.answers)))
        for k, a in enumerate(q.answers):
            table[f"{q.hart}_{a.hart}_count"] = counts[:, k]
            table[f"{q.hart}_{a.hart}_weight"] = 0.5 * counts[:, k]
            table[f"{q.hart}_{a.hart}_debiased"] = 1.1 * counts[:, k] / counts.sum(1)
    return table


def test_hart_counts_weights_and_debiased_fractions():
    t, table = tree("gz2"), hart_table()
    counts = read_votes(table, t)
    assert counts.form == "hart" and counts.kind == "count"
    assert np.array_equal(counts.votes[:, 3], table["t02_edgeon_a04_yes_count"])
    assert np.allclose(read_votes(table, t, kind="weight").votes, 0.5 * counts.votes)
    assert np.allclose(read_votes(table, t, kind="debiased").votes, counts.votes)


def test_zoobot_names_with_and_without_campaign():
    t = tree("decals5")
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 30, size=(5, len(t.columns)))
    plain = Table(counts, names=list(t.columns))
    suffixed = Table(counts, names=[c.replace("_", "-dr5_", 1) for c in t.columns])
    assert np.array_equal(read_votes(plain, t).votes, counts)
    assert np.array_equal(read_votes(suffixed, t).votes, counts)
    fractions = Table(np.nan_to_num(t.fractions(counts)), names=[f"{c}_fraction" for c in t.columns])
    for i, q in enumerate(t.questions):
        fractions[f"{q.name}_total-votes"] = t.voters(counts)[:, i]
    assert np.allclose(read_votes(fractions, t).votes, counts)


def test_fractions_without_totals_share_out_the_voters():
    t = tree("decals5")
    rng = np.random.default_rng(2)
    f = np.concatenate([rng.dirichlet(np.ones(k), size=4) for k in t.groups], 1)
    found = read_votes(Table(f, names=[f"{c}_debiased" for c in t.columns]), t, voters=30)
    assert np.allclose(found.votes, t.expected_votes(f, 30))


def test_broken_rows_are_flagged_and_the_rest_is_served():
    t = tree("decals5")
    counts = np.ones((4, len(t.columns)))
    counts[1] = 0
    counts[2, t.columns.index("bar_weak")] = -1
    counts[3, t.slice("bar")] = np.nan
    counts[3, t.columns.index("merging_none")] = np.inf
    found = read_votes(Table(counts, names=list(t.columns)), t)
    wrong = "votes for {} are negative or not finite"
    assert found.reasons.tolist() == ["", "nobody voted", wrong.format("bar"), wrong.format("merging")]
    assert found.usable.tolist() == [True, False, True, True]
    assert found.votes[2].sum() == counts.shape[1] - 3 and found.votes[3, t.slice("bar")].tolist() == [0, 0, 0]
    assert np.isfinite(found.votes).all()


def test_absent_and_unknown_questions():
    t = tree("gz2")
    table = hart_table()
    table.remove_column("t03_bar_a06_bar_count")
    found = read_votes(table, t, kind="count")
    assert found.notes == ("question bar is left out: no column 't03_bar_a06_bar_count'",)
    assert (found.votes[:, t.slice("bar")] == 0).all() and found.votes.sum() > 0
    with pytest.raises(TableError, match="no votes for bar: question bar is left out"):
        read_votes(table, t, kind="count", questions=["bar"])
    with pytest.raises(DeepfieldError, match="no question 'barr'; did you mean 'bar'"):
        read_votes(table, t, questions=["barr"])
    only = read_votes(table, t, questions=["disk-edge-on"])
    assert only.votes.sum(0).nonzero()[0].tolist() == [3, 4]
    with pytest.raises(TableError, match="no question of the tree 'gz2' is in the table: looked for smooth-or"):
        read_votes(Table({"ra": [1.0]}), t)
    with pytest.raises(TableError, match="not 'hart' and 'votes'"):
        read_votes(table, t, form="hart", kind="votes")
    with pytest.raises(TableError, match="holds text"):
        read_votes(Table({"class_a": ["x"], "class_b": ["y"]}), classes(["a", "b"]))


def test_questions_that_an_unknown_number_reached_are_left_out():
    t = tree("gz2")
    table = Table({f"{t.questions[0].hart}_{a.hart}_debiased": [0.3] for a in t.questions[0].answers})
    for a in t.questions[3].answers:
        table[f"{t.questions[3].hart}_{a.hart}_debiased"] = [0.5]
    found = read_votes(table, t, voters=30)
    assert found.notes[-1] == "question has-spiral-arms is left out where it is not known how many reached it"
    assert found.votes[0].sum() == pytest.approx(30)
    for a in t.questions[3].answers:
        table[f"{t.questions[3].hart}_{a.hart}_count"] = [4]
    found = read_votes(table, t, kind="debiased", voters=30)
    assert found.votes[0].sum() == pytest.approx(38) and len(found.notes) == len(t.questions) - 2


def test_every_catalogues_name_has_its_plain_one():
    t = tree("gz2")
    for form in (
        [f"{q.hart}_{a.hart}_debiased" for q in t.questions for a in q.answers],
        kaggle_table([KAGGLE[100008]]).colnames,
        [c.replace("_", "-gz2_", 1) + "_fraction" for c in t.columns],
    ):
        assert [rename(name, t) for name in form] == list(t.columns)
    assert rename("ra", t) == "ra"


def test_real_debiased_fractions_stray_from_one_and_are_brought_back():
    path = Path(os.environ.get("DEEPFIELD_DATA", "")) / "morphology" / "gz2_votes_3744_noimages.json.gz"
    if not path.is_file():
        pytest.skip("the data set is not at hand")
    rows = [row["metrics"] for row in json.loads(gzip.decompress(path.read_bytes()))]
    names = {
        "smooth_prob": "t01_smooth_or_features_a01_smooth_debiased",
        "features_prob": "t01_smooth_or_features_a02_features_or_disk_debiased",
        "artifact_prob": "t01_smooth_or_features_a03_star_or_artifact_debiased",
    }
    table = Table({new: [row[old] for row in rows] for old, new in names.items()})
    sums = sum(table.column(name) for name in names.values())
    assert sums.min() < 0.5 and sums.max() > 1.5
    found = read_votes(table, tree("gz2"), voters=40)
    assert np.allclose(found.votes[:, :3].sum(1), 40) and found.votes.sum() == pytest.approx(40 * len(rows))
