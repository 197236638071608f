import numpy as np
import pytest
import torch

from deepfield.core.batches import Batches
from deepfield.core.errors import DeepfieldError, ModelError, TableError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.model import Model
from deepfield.core.nets.stretch import Stretch
from deepfield.core.table import Table
from deepfield.core.votes import DirichletMultinomial, Votes
from deepfield.data.images.collection import Frame, Images, overlap
from deepfield.data.images.read import read
from deepfield.data.images.sources import Arrays, BrokenImage, Source
from deepfield.morphology.labels import read_votes
from deepfield.morphology.simulate import simulate


class Counting(Source):
    """Row i is an image of i; some are broken; it counts what is asked of it."""

    def __init__(self, n, broken=(), dtype=np.uint8, blocks=None):
        self.n, self.broken, self.dtype, self.blocks = n, set(broken), dtype, blocks
        self.asked = []

    def __len__(self):
        return self.n

    def load(self, row):
        self.asked.append(row)
        if row in self.broken:
            raise BrokenImage(f"row {row} is broken")
        return np.full((2, 4, 4), row, self.dtype)


def images(n=20, broken=(), dtype=np.uint8, blocks=None, **options):
    source = Counting(n, broken, dtype, blocks)
    return Images(source, Table({"id": np.arange(n)}), bands=("a", "b"), frame=Frame(2, 4), **options), source


def test_broken_rows_are_flagged_and_the_rest_is_served():
    for dtype in (np.uint8, np.float32):
        some, _ = images(6, broken=(1, 4), dtype=dtype)
        x, reasons = some.load()
        assert reasons.tolist() == ["", "row 1 is broken", "", "", "row 4 is broken", ""]
        assert x[5].unique().tolist() == [5] and x.shape == (6, 2, 4, 4)
        assert bool(torch.isnan(x[1]).all()) if dtype == np.float32 else bool((x[1] == 0).all())
        assert len(some.usable()) == 4 and some.usable().table["id"].tolist() == [0, 2, 3, 5]
        assert some.reasons().tolist() == reasons.tolist()


def test_what_is_decoded_is_kept_where_there_is_room():
    some, source = images(10)
    some.load()
    some[3:].load([0, 1])
    assert sorted(source.asked) == list(range(10))
    tight, source = images(10, cache=319)  # ten images have 320 bytes
    tight.load()
    tight.load([2])
    assert len(source.asked) == 11


def test_subsets_keep_their_rows():
    some, _ = images(10)
    part = some[[7, 3]]
    assert len(part) == 2 and part.load()[0][:, 0, 0, 0].tolist() == [7, 3]
    assert part[1:].table["id"].tolist() == [3] and len(some[np.arange(10) > 6]) == 3
    first, second = some.split(0.7, seed=1)
    expected = Table({"id": np.arange(10)}).split(0.7, seed=1)
    assert first.table["id"].tolist() == expected[0]["id"].tolist() and len(second) == 3


@pytest.mark.parametrize("options", [{}, {"cache": 0}, {"workers": 2}, {"workers": 2, "cache": 0}])
def test_batches_go_over_every_image_once_with_its_own_target(options):
    some, _ = images(22, broken=(5, 6), **options)
    batches = some.batches(torch.arange(22), size=4, seed=3)
    assert len(batches) == 5
    epochs = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        seen = []
        for x, y in batches:
            assert x[:, 0, 0, 0].tolist() == y.tolist() and x.dtype == torch.uint8
            seen += y.tolist()
        assert len(set(seen)) == len(seen) and not {5, 6} & set(seen) and len(seen) >= 18
        epochs.append(seen)
    assert epochs[0] == epochs[2] != epochs[1]
    ordered = [y.tolist() for _, y in some.batches(torch.arange(22), size=10, seed=None)]
    assert [i for part in ordered for i in part] == [i for i in range(22) if i not in (5, 6)]
    some.close()


def test_processes_decode_too():
    some = Images(
        Arrays(np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(4, 2).repeat(4, 3)),
        Table({"id": np.arange(12)}), bands=("a", "b"), frame=Frame(2, 4), workers=1, processes=True, cache=0,
    )  # fmt: skip
    try:
        found = [x[:, 0, 0, 0].tolist() for (x,) in some.batches(size=5, seed=None)]
        assert found == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    finally:
        some.close()


def test_processes_of_a_distributed_fit_share_the_epoch():
    some, _ = images(21)
    seen = []
    for rank in (0, 1):
        batches = some.batches(torch.arange(21), size=5, seed=0)
        batches.set_epoch(2, rank, 2)
        seen.append([i for _, y in batches for i in y.tolist()])
    assert len(seen[0]) == len(seen[1]) == 10 and not set(seen[0]) & set(seen[1])


def test_large_files_are_read_block_by_block():
    blocks = tuple((i, i + 10) for i in range(0, 100, 10))
    some, _ = images(100, blocks=blocks, cache=0)
    batches = some.batches(torch.arange(100), size=10, seed=0)
    seen = [i for _, y in batches for i in y.tolist()]
    assert sorted(seen) == list(range(100)) and seen != sorted(seen)
    for window in (seen[:40], seen[40:80], seen[80:]):
        assert len({i // 10 for i in window}) == len(window) // 10  # never more than four blocks at a time
    batches.set_epoch(1)
    assert [i for _, y in batches for i in y.tolist()] != seen


def test_augmentation_has_its_own_generator():
    some, _ = images(8)

    def flip(x, y, generator):
        return x + torch.rand(1, generator=generator), y

    runs = []
    for _ in range(2):
        batches = some.batches(torch.arange(8), size=4, seed=1, augment=flip)
        runs.append(torch.cat([x for x, _ in batches]))
    assert torch.equal(*runs) and runs[0].dtype == torch.float32


def test_frames_crop_resample_and_keep_the_flux():
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(2, 12, 12)).astype(np.float32)
    for size in (6, 5, 4):
        assert Frame(2, size).fit(flux).sum() == pytest.approx(flux.sum(), abs=1e-3)
    assert np.array_equal(Frame(2, 4, crop=4).fit(flux), flux[:, 4:8, 4:8])
    assert np.allclose(overlap(5, 2), [[1, 1, 0.5, 0, 0], [0, 0, 0.5, 1, 1]])
    flat = np.full((2, 12, 12), 200, np.uint8)
    for size in (6, 5, 24):
        out = Frame(2, size).fit(flat)
        assert out.dtype == np.uint8 and (out == 200).all() and out.shape == (2, size, size)
    wide = np.arange(2 * 4 * 8, dtype=np.float32).reshape(2, 4, 8)
    assert np.array_equal(Frame(2, 4).fit(wide), wide[:, :, 2:6])


@pytest.mark.parametrize(
    ("frame", "pixels", "said"),
    [
        (Frame(3, 4), np.zeros((2, 4, 4)), "the image has 2 bands, not 3"),
        (Frame(2, 4, crop=6), np.zeros((2, 4, 4)), "4 x 4 pixels, less than the 6 to be kept"),
        (Frame(2, 4, resample=False), np.zeros((2, 5, 5)), "5 x 5 pixels, not 4 x 4"),
        (Frame(1, 2), np.array([[[0, np.nan], [np.inf, 0]]]), "2 of 4 pixels are not finite"),
    ],
)
def test_images_that_do_not_fit(frame, pixels, said):
    with pytest.raises(BrokenImage, match=said):
        frame.fit(pixels)


def test_bytes_among_floats_are_flagged():
    rows = [np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.uint8)]

    class Mixed(Counting):
        def load(self, row):
            return rows[row]

    some = Images(Mixed(2), Table({"id": [0, 1]}), bands=("a",), frame=Frame(1, 4))
    assert some.load()[1].tolist() == ["", "the pixels are uint8, those of other images float32"]


def test_a_net_learns_votes_from_raw_pixels_that_stream():
    s = simulate(500, seed=0, size=32)
    images = read(s.images, catalog=s.table, bands=s.survey.bands, pixel_scale=s.survey.pixel)
    votes = read_votes(images.table, s.tree)
    assert np.array_equal(votes.votes, s.votes)
    first, second = images[:400], images[400:]
    y = torch.from_numpy(votes.votes).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = Votes(s.tree.groups)
        net = torch.nn.Sequential(
            Stretch(3, "asinh").fit(first.load()[0], pixel_scale=images.meta["pixel_scale"]),
            torch.nn.Conv2d(3, 12, 5, stride=2), torch.nn.SiLU(), torch.nn.Conv2d(12, 16, 5, stride=2),
            torch.nn.SiLU(), torch.nn.AdaptiveAvgPool2d(3), torch.nn.Flatten(),
            torch.nn.Linear(144, head.n_features),
        )  # fmt: skip
        head.fit_target(y[:400])
        model = Model(net, head)
    recipe = FitConfig(epochs=12, learning_rate=1e-2, average=0.9, device="cpu")
    held_out = second.batches(y[400:], size=100, seed=None)
    learnt = fit(model, first.batches(y[:400], size=40, seed=1), held_out, recipe, progress=False)
    blind = Model(torch.nn.Linear(1, head.n_features), Votes(s.tree.groups).fit_target(y[:400]))
    zero = torch.zeros(500, 1)
    seen, unseen = Batches(zero[:400], y[:400], size=40, seed=1), Batches(zero[400:], y[400:], size=100, seed=None)
    constant = fit(blind, seen, unseen, recipe, progress=False)
    truth = DirichletMultinomial(torch.from_numpy(s.concentrations[400:]), s.tree.groups)
    best = -float(truth.log_prob(y[400:].double()).mean())
    assert best < min(learnt.validation) < min(constant.validation) - 1  # nats per galaxy


def test_settings_that_make_no_sense():
    with pytest.raises(TableError, match="20 images and 3 "):
        Images(Counting(20), Table({"id": [1, 2, 3]}), bands=("a", "b"), frame=Frame(2, 4))
    with pytest.raises(TableError, match=r"1 names of bands \(a\) for images of 2 bands"):
        Images(Counting(1), Table({"id": [1]}), bands=("a",), frame=Frame(2, 4))
    some, _ = images(4)
    with pytest.raises(DeepfieldError, match="4 images need as many targets, not 3"):
        some.batches(torch.zeros(3), size=2, seed=0)
    with pytest.raises(ModelError, match="at least one row"):
        some.batches(size=0, seed=0)
