from dataclasses import asdict

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.morphology.trees import Answer, Question, Tree, classes, from_dict, tree, trees

# Zoobot's names of the published catalogues (github mwalmsley/galaxy-datasets @0782b8f, shared/label_metadata.py).
ZOOBOT = {
    "decals12": {
        "smooth-or-featured": "smooth featured-or-disk artifact", "disk-edge-on": "yes no",
        "has-spiral-arms": "yes no", "bar": "yes no", "bulge-size": "dominant obvious none",
        "how-rounded": "completely in-between cigar-shaped", "edge-on-bulge": "boxy none rounded",
        "spiral-winding": "tight medium loose", "spiral-arm-count": "1 2 3 4 more-than-4",
        "merging": "neither tidal-debris both merger",
    },
    "decals5": {
        "smooth-or-featured": "smooth featured-or-disk artifact", "disk-edge-on": "yes no",
        "has-spiral-arms": "yes no", "bar": "strong weak no", "bulge-size": "dominant large moderate small none",
        "how-rounded": "round in-between cigar-shaped", "edge-on-bulge": "boxy none rounded",
        "spiral-winding": "tight medium loose", "spiral-arm-count": "1 2 3 4 more-than-4 cant-tell",
        "merging": "none minor-disturbance major-disturbance merger",
    },
}  # fmt: skip
ZOOBOT_GZ2 = {
    "smooth-or-featured": "smooth featured-or-disk artifact", "disk-edge-on": "yes no",
    "has-spiral-arms": "yes no", "bar": "yes no", "bulge-size": "dominant obvious just-noticeable no",
    "something-odd": "yes no",
    "how-rounded": "round in-between cigar", "bulge-shape": "round boxy no-bulge",
    "spiral-winding": "tight medium loose", "spiral-arm-count": "1 2 3 4 more-than-4 cant-tell",
}  # fmt: skip


def answers(t, question):
    return " ".join(a.name for a in t.questions[t.index(question)].answers)


@pytest.mark.parametrize("name", ["decals12", "decals5"])
def test_decals_trees_have_the_published_names(name):
    t = tree(name)
    assert {q.name: answers(t, q.name) for q in t.questions} == ZOOBOT[name]


def test_desi_asks_what_decals_five_asked():
    assert tree("desi").questions == tree("decals5").questions
    assert tree("desi").campaign == "dr8" and tree("decals5").campaign == "dr5"


def test_galaxy_zoo_2_has_the_published_names():
    t = tree("gz2")
    assert t.groups == (3, 2, 2, 2, 4, 2, 3, 7, 3, 3, 6) and len(t.columns) == 37
    for question, names in ZOOBOT_GZ2.items():
        assert set(answers(t, question).split()) == set(names.split())
    assert [q.hart for q in t.questions] == [
        "t01_smooth_or_features", "t02_edgeon", "t03_bar", "t04_spiral", "t05_bulge_prominence", "t06_odd",
        "t07_rounded", "t08_odd_feature", "t09_bulge_shape", "t10_arms_winding", "t11_arms_number",
    ]  # fmt: skip
    numbers = [a.hart[1:3] for q in t.questions for a in q.answers]
    # Willett et al. (2013), table 2: responses 1 to 37 without 35, and 38, the dust lane, which came later.
    assert sorted(int(n) for n in numbers) == [*range(1, 35), 36, 37, 38]


def test_paths_of_galaxy_zoo_2_are_those_of_the_paper():
    t = tree("gz2")
    f = t.fractions(np.zeros(37))
    f[t.slice("smooth-or-featured")] = 0.2, 0.7, 0.1
    f[t.slice("disk-edge-on")] = 0.25, 0.75
    f[t.slice("bar")] = 0.4, 0.6
    f[t.slice("has-spiral-arms")] = 0.8, 0.2
    f[t.slice("spiral-winding")] = 0.5, 0.5, 0
    f[t.slice("spiral-arm-count")] = 0, 1, 0, 0, 0, 0
    f[t.slice("bulge-size")] = 0, 0.5, 0.5, 0
    f[t.slice("something-odd")] = 0.1, 0.9
    f[t.slice("how-rounded")] = 1, 0, 0
    f[t.slice("bulge-shape")] = 1, 0, 0
    f[t.slice("odd-feature")] = 1, 0, 0, 0, 0, 0, 0
    reached = dict(zip([q.name for q in t.questions], t.reached(f)))
    face_on = 0.7 * 0.75
    assert reached == pytest.approx({
        "smooth-or-featured": 1, "disk-edge-on": 0.7, "bar": face_on, "has-spiral-arms": face_on,
        "spiral-winding": face_on * 0.8, "spiral-arm-count": face_on * 0.8, "bulge-size": face_on,
        "bulge-shape": 0.7 * 0.25, "how-rounded": 0.2, "something-odd": 0.9, "odd-feature": 0.09,
    })  # fmt: skip
    assert t.path(f)[t.slice("spiral-winding")] == pytest.approx([face_on * 0.4, face_on * 0.4, 0])
    assert t.expected_votes(f, 40)[t.slice("something-odd")] == pytest.approx([40 * 0.09, 40 * 0.81])


@pytest.mark.parametrize("name", trees())
def test_the_ends_of_all_paths_share_out_every_voter(name):
    t = tree(name)
    rng = np.random.default_rng(0)
    f = np.concatenate([rng.dirichlet(np.ones(k), size=50) for k in t.groups], 1)
    assert np.allclose(t.path(f)[:, list(t.leaves)].sum(1), 1)
    assert np.allclose(t.voters(t.path(f)), t.reached(f))


def test_a_walk_of_voters_down_the_tree_meets_the_probabilities():
    t = tree("decals5")
    rng = np.random.default_rng(1)
    f = np.concatenate([rng.dirichlet(np.ones(k)) for k in t.groups])
    n, counts = 20_000, np.zeros(len(t.columns))
    for _ in range(n):
        question = t.questions[0].name
        while question is not None:
            part = t.slice(question)
            k = rng.choice(part.stop - part.start, p=f[part])
            counts[part.start + k] += 1
            question = t.questions[t.index(question)].answers[k].next
    p = t.path(f)
    assert (np.abs(counts / n - p) <= 5 * np.sqrt(p * (1 - p) / n) + 1e-12).all()


def test_fractions_and_questions_that_count():
    t = classes(["a", "b", "c"])
    assert t.fractions([[1, 2, 1], [0, 0, 0]]).tolist()[0] == [0.25, 0.5, 0.25]
    assert np.isnan(t.fractions([0, 0, 0])).all()
    assert t.counted([[1, 2, 1], [0, 0, 0.5]]).tolist() == [[True], [False]]
    with pytest.raises(DeepfieldError, match="one column for each of its 3 answers, not shape"):
        t.voters(np.zeros((5, 4)))


def test_hard_labels_are_one_vote():
    t = tree("gz2")
    votes = t.one_vote("bar", ["yes", "no", ""])
    assert votes.sum(1).tolist() == [1, 1, 0] and votes[0, t.columns.index("bar_yes")] == 1
    assert np.array_equal(t.one_vote("bar", [0, 1, -1]), votes)
    for wrong in (["maybe"], [2], [-3], [0.5], [[0]]):
        with pytest.raises(DeepfieldError, match="is no answer to 'bar', whose answers are yes, no"):
            t.one_vote("bar", wrong)
    with pytest.raises(DeepfieldError, match="no question 'barr'; did you mean 'bar'"):
        t.one_vote("barr", [0])


def test_trees_go_to_json_and_back():
    for name in trees():
        assert from_dict(asdict(tree(name))) == tree(name)
    with pytest.raises(DeepfieldError, match="no tree 'gz3'; trees: gz2"):
        tree("gz3")
    with pytest.raises(DeepfieldError, match="described by its name"):
        from_dict({"name": "x"})


def question(name, *answers):
    return Question(name, "", tuple(Answer(*a.split(">")) for a in answers))


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        ((), "no question"),
        ((question("a", "x", "x"),), "twice"),
        ((question("a", "x"),), "less than two answers"),
        ((question("a", "x>b", "y"),), "'b' is led to"),
        ((question("a", "x", "y"), question("b", "x", "y")), "no path from 'a' leads to b"),
        ((question("a", "x>b", "y"), question("b", "x>b", "y")), "no path from 'a' leads to b"),
    ],
)
def test_trees_that_are_none(questions, said):
    with pytest.raises(DeepfieldError, match=said):
        Tree("t", "", "", "", questions)
