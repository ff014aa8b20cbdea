"""torchvision's Faster R-CNN with concurrent softmax on two drawn squares: a red one has two labels.

python examples/adapters/torchvision_faster_rcnn.py
"""

import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from wildbox.adapters.torchvision import use_rule
from wildbox.classification import ConcurrentSoftmax

RED, SQUARE, BLUE = 1, 2, 3  # torchvision's labels; 0 is the background
rates = torch.zeros(4, 4)  # classes 0..2, then the background
rates[RED - 1, SQUARE - 1], rates[SQUARE - 1, RED - 1] = 1.0, 0.5

torch.manual_seed(0)
image = torch.full((3, 96, 96), 0.5)
image[:, 10:50, 10:50] = torch.tensor([1.0, 0, 0])[:, None, None]
image[:, 50:90, 45:90] = torch.tensor([0.0, 0, 1])[:, None, None]
boxes = torch.tensor([[10.0, 10, 50, 50], [10, 10, 50, 50], [45, 50, 90, 90]])
target = {"boxes": boxes, "labels": torch.tensor([RED, SQUARE, BLUE])}

model = fasterrcnn_mobilenet_v3_large_320_fpn(
    weights=None, weights_backbone=None, num_classes=4, min_size=96, max_size=96
)
use_rule(model, ConcurrentSoftmax(rates))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
for step in range(8):
    losses = model([image], [target])
    total = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    if step % 2 == 0:
        print(f"step {step}: " + ", ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items()))
with torch.no_grad():
    found = model.eval()([image])[0]
print(f"{len(found['labels'])} detections, labels {sorted(set(found['labels'].tolist()))}")
