"""Learning rates against torch's own schedulers, the average against its formula, and layers that do not learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from wildbox.errors import ConfigError
from wildbox.training.config import ScheduleConfig
from wildbox.training.optimization import averaged_weights, build_optimizer, freeze, learning_rate_share


def test_steps_down_are_those_of_torch() -> None:
    schedule = ScheduleConfig(steps=20, warmup_steps=0, decay="step", decay_at=(5, 15), decay_factor=0.3)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = MultiStepLR(optimizer, milestones=[5, 15], gamma=0.3)
    for step in range(20):
        assert learning_rate_share(step, schedule) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-12
        )
        optimizer.step()
        peer.step()


def test_the_cosine_is_that_of_torch_after_a_linear_warm_up() -> None:
    schedule = ScheduleConfig(steps=50, warmup_steps=10, final_rate=0.1)
    assert [learning_rate_share(step, schedule) for step in range(10)] == [(n + 1) / 10 for n in range(10)]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = CosineAnnealingLR(optimizer, T_max=40, eta_min=0.1)
    for step in range(10, 50):
        optimizer.step()
        peer.step()
        assert learning_rate_share(step, schedule) == pytest.approx(peer.get_last_lr()[0], rel=1e-6)


def test_the_average_is_exponential_with_a_quick_start() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    averaged = averaged_weights(model, 0.9)
    literal = torch.zeros(2, 2)
    for n in range(200):
        state = model.state_dict()  # shares its memory with the model
        state["0.weight"].fill_(float(n % 7))
        state["1.running_mean"].fill_(float(n))
        averaged.update_parameters(model)
        decay = 0.0 if n == 0 else min(0.9, (1 + n) / (10 + n))
        literal = decay * literal + (1 - decay) * (n % 7)
    found = averaged.module.state_dict()
    torch.testing.assert_close(found["0.weight"], literal)
    assert found["1.running_mean"].tolist() == [199, 199]


def test_what_is_frozen_does_not_change() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    norms = freeze(model, ["0.*", "1.*"])
    assert norms == [model[1]]
    model.train()
    for norm in norms:
        norm.eval()
    optimizer = build_optimizer(model, ScheduleConfig(weight_decay=0.5, learning_rate=0.1))
    model(torch.rand(2, 1, 3, 3)).sum().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"2.weight", "2.bias"}


def test_a_norm_that_partly_learns_keeps_learning() -> None:
    assert freeze(nn.Sequential(nn.BatchNorm2d(2)), ["*.bias"]) == []


def test_patterns_that_cannot_be_meant_are_told() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"'0.wieght' matches no parameter; there is '0.weight'"):
        freeze(model, ["0.wieght"])
    with pytest.raises(ConfigError, match="leaves nothing to learn"):
        freeze(model, ["*"])


def test_the_average_forgets_the_first_weights_as_it_says() -> None:
    model = nn.Linear(1, 1, bias=False)
    expected = 0.0
    with torch.no_grad():
        average = averaged_weights(model, 0.9)
        for n in range(120):
            model.weight.fill_(float(n + 1))
            average.update_parameters(model)
            decay = min(0.9, (1 + n) / (10 + n)) if n else 0.0  # the first is a copy
            expected = decay * expected + (1 - decay) * (n + 1)
    (weight,) = average.module.parameters()
    assert weight.item() == pytest.approx(expected, rel=1e-5)
