"""A linear classifier of several labels an image, trained by concurrent softmax with rates from the labels themselves.

python examples/adapters/image_classification.py
"""

import torch
from torch import nn

from wildbox.adapters.image_classification import ImageRule, image_rates, with_none
from wildbox.classification import ConcurrentSoftmax

torch.manual_seed(0)
features = torch.randn(512, 8)
leaf = features[:, :3] > 0.8
multi_hot = torch.cat([leaf, leaf[:, :2].any(dim=1, keepdim=True)], dim=1)  # class 3: parent of 0 and 1

rates = image_rates(multi_hot)
criterion = ImageRule(ConcurrentSoftmax(with_none(rates).float()))
model = nn.Linear(8, 4)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
for step in range(300):
    loss = criterion(model(features), multi_hot)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step}: loss {loss.item():.3f}")
scores = criterion.scores(model(features))
for label in range(4):
    present, absent = (scores[multi_hot[:, label] == value, label].mean().item() for value in (True, False))
    print(f"class {label}: mean score {present:.2f} where present, {absent:.2f} where absent")
