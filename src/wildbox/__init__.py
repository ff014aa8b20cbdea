"""wildbox: find, measure and beat label imbalance and multi-labels in object detection."""
