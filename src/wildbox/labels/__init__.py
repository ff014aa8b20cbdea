"""Statistics of annotations; all are sums over images, so the parts of a split set add up."""

from wildbox.labels.audit import LabelAudit, audit
from wildbox.labels.concurrency import ConcurrentRates

__all__ = ["ConcurrentRates", "LabelAudit", "audit"]
