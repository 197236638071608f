import torch

from deepfield.lensing.defects import KINDS, spoil


def test_each_defect_does_what_it_says():
    g = torch.Generator().manual_seed(0)
    image = 1 + torch.rand(KINDS + 1, 3, 32, 32, generator=g)
    u = torch.tensor([*((torch.arange(KINDS) + 0.5) / KINDS).tolist(), torch.nan])
    before = image.clone()
    out = spoil(image, u, torch.full((KINDS + 1,), 0.4))
    assert torch.equal(image, before) and torch.equal(out[-1], image[-1])
    changed = (out != image).float()
    empty = (out[0] == 0).all(0)
    assert 0.15 < float(empty.float().mean()) < 0.85 and torch.equal((out[0] == 0).any(0), empty)
    assert not out[1, 1].any() and not changed[1, [0, 2]].any()
    columns = changed[2].amin((0, 1))
    assert 1 <= int(columns.sum()) <= 5 and float(out[2].amax()) > float(image[2].amax())
    assert 5 < int(changed[3].sum()) < 80 and (out[3] >= image[3]).all()
    assert torch.equal(out[4, 1].flatten().sort()[0], image[4, 1].flatten().sort()[0]) and changed[4, 1].any()
    assert torch.isfinite(out).all()
