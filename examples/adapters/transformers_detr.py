"""A small DETR of transformers, built from a config without download, with concurrent softmax.

pip install transformers scipy
python examples/adapters/transformers_detr.py
"""

import torch
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

from wildbox.adapters.transformers import detections, use_rule
from wildbox.classification import ConcurrentSoftmax

rates = torch.zeros(4, 4)  # three classes and "no object"
rates[0, 1], rates[1, 0] = 1.0, 0.5

torch.manual_seed(0)
body = ResNetConfig(
    embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], out_features=["stage4"]
)
config = DetrConfig(
    use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=body,
    num_labels=3, num_queries=5, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
    decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, dropout=0.0,
)  # fmt: skip
model = DetrForObjectDetection(config)
use_rule(model, ConcurrentSoftmax(rates))

pixels = torch.rand(1, 3, 64, 64)
# one object with the labels 0 and 1, and another: center, width and height, relative to the image
boxes = torch.tensor([[0.3, 0.3, 0.4, 0.4], [0.3, 0.3, 0.4, 0.4], [0.7, 0.7, 0.3, 0.3]])
labels = [{"class_labels": torch.tensor([0, 1, 2]), "boxes": boxes}]
optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
for step in range(200):
    output = model(pixel_values=pixels, labels=labels)
    optimizer.zero_grad()
    output.loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: loss {output.loss.item():.3f}")
with torch.no_grad():
    output = model.eval()(pixel_values=pixels)
found = detections(model, output, threshold=0.3)[0]
for label, score, box in zip(found["labels"], found["scores"], found["boxes"], strict=True):
    print(f"class {label.item()}: score {score.item():.2f}, box {[round(x, 2) for x in box.tolist()]}")
