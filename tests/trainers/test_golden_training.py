"""Parity with the reference implementations over several steps: TCP's optimiser, PromptSRC's average over epochs."""

import pytest
import torch
from reference import build, load, named, read

from cilmp.averaging import GaussianAverage
from cilmp.trainers.engine.config import default_cfg
from dassl.optim import build_optimizer


def optimiser(model, said: dict) -> torch.optim.Optimizer:
    cfg = default_cfg().OPTIM
    cfg.NAME, cfg.WEIGHT_DECAY = said["name"], said["weight_decay"]
    return build_optimizer([p for p in model.parameters() if p.requires_grad], cfg)


def steps(model, optim, golden):
    """One step at each rate of the schedule, yielding after each."""
    model.train()
    for rate in golden["schedule.lr"].tolist():
        for group in optim.param_groups:
            group["lr"] = rate
        optim.zero_grad()
        sum(model.losses(golden["images"], golden["labels"])[0].values()).backward()
        optim.step()
        yield


@pytest.mark.parametrize("name", ["tcp_block1", "tcp_block8of12"])
def test_three_steps_of_tcp(name):
    kind, model, golden, options = build(name)
    load(model, named("param", golden, model))
    optim = optimiser(model, read(name)[1]["optim"])
    for group in optim.param_groups:
        group["eps"] = options.EPS  # as its trainer does: test_the_epsilon_of_tcp_reaches_its_optimiser
    for _ in steps(model, optim, golden):
        pass
    for key, value in named("after3", golden, model).items():
        assert (model.state_dict()[key] - value).norm() <= 1e-4 * value.norm(), key


def test_epochs_of_promptsrc_and_their_average():
    kind, model, golden, options = build("promptsrc_gpa")
    load(model, named("param", golden, model))
    optim = optimiser(model, read("promptsrc_gpa")[1]["optim"])
    ends = named("epochs", golden, model)
    average = GaussianAverage(model.averaged(), options.GPA_MEAN, options.GPA_STD, 5)
    for epoch, _ in enumerate(steps(model, optim, golden)):
        for key, value in ends.items():
            assert (model.state_dict()[key] - value[epoch]).norm() <= 1e-4 * value[epoch].norm(), (epoch, key)
        average.add(model.averaged(), epoch + 1)
    average.load_into(model.averaged())
    for key, value in named("average", golden, model).items():
        assert (model.state_dict()[key] - value).norm() <= 1e-4 * value.norm(), key
    model.eval()
    assert (model.infer(golden["images"]) - golden["logits_after"]).abs().max() < 1e-4


@pytest.mark.parametrize(
    "epochs, mean, std", [(5, 3, 1), (5, 15, 1), (20, 15, 1), (20, 6, 10), (50, 30, 30), (50, 45, 5)]
)
def test_weights_of_the_average(epochs, mean, std):
    expected = read("promptsrc_gpa")[0][f"gpa.weights_epochs{epochs}_mean{mean}_std{std}"]
    ours = GaussianAverage({}, mean, std, epochs).weights
    torch.testing.assert_close(torch.tensor(ours, dtype=expected.dtype), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["biomedcoop_p8", "biomedcoop_p9_tau1"])
def test_sentences_that_biomedcoop_keeps(name):
    _, model, golden, _ = build(name)
    said = torch.nn.functional.normalize(model.teacher, dim=-1)
    kept = model.kept(model.image(golden["images"]), said)
    assert torch.equal(kept.float(), golden["selection.kept"].float()) and not kept.all()
    same = said[:, :1].expand_as(said)
    assert model.kept(model.image(golden["images"]), same).all()  # equal scores: where the reference gives NaN


@pytest.mark.parametrize("tau, kept", [(1.75, [1, 1, 1, 1, 0]), (1.9, [1, 1, 1, 1, 1])])
def test_the_deviation_of_the_scores_is_unbiased(tau, kept):
    """Cosines 0, 0, 0, 0, 1: the last lies 1.79 unbiased standard deviations off, and 2 biased ones."""
    _, model, _, _ = build("biomedcoop_p8")
    model.tau = tau
    axes = torch.eye(model.clip.embed)
    said = torch.stack([axes[1]] * 4 + [axes[0]])[None]
    assert model.kept(axes[:1], said).int().tolist() == kept
