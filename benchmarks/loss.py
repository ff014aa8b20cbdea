"""Loss and scores of concurrent softmax beside what they replace: time, and on a GPU memory.

    python benchmarks/loss.py [--threads 2] [--rounds 100]
    python benchmarks/loss.py --device cuda

In one process, one call of each after the other in an order that each round draws anew (what ran before leaves caches
as it likes); the best of the rounds, which others on the machine disturbed least, and the median beside it. Logits
(P, K) with K = 601 (--columns), rates above 0 for 2.3 of the classes of each on average, as in a sample of Open Images,
and two kinds of targets: `one`, the label of each proposal; `several`, multi-hot, where a quarter of the proposals is
foreground with one to five labels and the others are background.

Loss means forward and backward:
- ours, with rows checked (`ConcurrentSoftmax`), and on a GPU also with `check=False`;
- `F.cross_entropy`, always on one label a proposal, the peer of the ratio;
- `F.cross_entropy` against 1 / |Y| for each label, what softmax does with several;
- `F.binary_cross_entropy_with_logits`;
- the plain formula: cross-entropy over one row a pair (proposal, label), as one would write it.

Scores: ours, softmax (the peer of the ratio), sigmoid, one matrix product of logits and rates, the plain formula.

Appends to `benchmarks/results/loss.csv`. On a GPU, to `loss_gpu.csv`: float32 and bfloat16, P up to 65,536. There a
call has two times: until its result is there for a processor that waits for each (`milliseconds`), and what the GPU
works on it (`gpu_milliseconds`, of calls replayed from a CUDA graph; none where a call waits to look at its rows),
which is what it costs a training step whose processor runs ahead. Beside these the peak of what is allocated beyond
the inputs, and the share of the bandwidth that a copy of the logits reaches: the loss reads them and writes their
gradient, as much as a copy does.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from environment import append
from torch import Tensor

import wildbox.classification.concurrent_softmax_formula as formula
from wildbox.classification import ConcurrentSoftmax

COLUMNS = 601
RESULTS = Path(__file__).parent / "results"
UNCHECKED = "concurrent softmax, check=False"
CHECKED = "concurrent softmax"
PEERS = {"loss": "F.cross_entropy", "scores": "softmax"}


class Case(NamedTuple):
    """Logits (P, K), labels (P,), multi-hot labels (P, K) bool, rates (K, K)."""

    logits: Tensor
    label: Tensor
    members: Tensor
    rates: Tensor

    def to(self, device: str, dtype: torch.dtype) -> Case:
        logits, *others = (part.to(device) for part in self)
        return Case(logits.to(dtype).requires_grad_(), *others)


def draw(proposals: int, *, several: bool, columns: int = COLUMNS, seed: int = 0) -> Case:
    """Inputs on the CPU; where not `several`, the multi-hot labels are the one label."""
    source = torch.Generator().manual_seed(seed)
    classes = columns - 1
    logits = 3 * torch.randn(proposals, columns, generator=source)
    foreground = torch.rand(proposals, generator=source) < 0.25
    first = torch.randint(classes, (proposals,), generator=source)
    label = torch.where(foreground, first, classes)
    members = F.one_hot(label, columns).bool()
    if several:
        for more in range(1, 5):
            also = foreground & (torch.rand(proposals, generator=source) < 0.8 / more)
            members[also, torch.randint(classes, (proposals,), generator=source)[also]] = True
    rates = torch.rand(columns, columns, generator=source)
    rates *= torch.rand(columns, columns, generator=source) < 2.3 / columns
    rates[-1] = rates[:, -1] = 0
    return Case(logits, label, members, rates.fill_diagonal_(0))


def plain_loss(case: Case) -> Tensor:
    """As one would write it: a row with log(1 - r) added for each label, cross-entropy over these rows."""
    proposal, label = case.members.nonzero(as_tuple=True)
    bias = torch.log1p(-case.rates)[label].masked_fill(case.members[proposal], -torch.inf)
    bias[torch.arange(len(label), device=bias.device), label] = 0
    rows = case.logits.float()[proposal] + bias
    return F.cross_entropy(rows, label, reduction="sum") / len(case.logits)


def losses(case: Case, *, several: bool) -> dict[str, Callable[[], Tensor]]:
    """Name -> the loss; targets are made beforehand in the form that each takes."""
    rule, unchecked = (ConcurrentSoftmax(case.rates, check=check) for check in (True, False))
    targets = case.members if several else case.label
    hot = case.members.to(case.logits.dtype)
    share = hot / hot.sum(dim=1, keepdim=True)
    found: dict[str, Callable[[], Tensor]] = {
        CHECKED: lambda: rule(case.logits, targets),
        "F.cross_entropy": lambda: F.cross_entropy(case.logits, case.label),
        "F.cross_entropy, soft targets": lambda: F.cross_entropy(case.logits, share),
        "F.binary_cross_entropy_with_logits": lambda: F.binary_cross_entropy_with_logits(case.logits, hot),
        "plain formula": lambda: plain_loss(case),
    }
    if case.logits.is_cuda:
        found[UNCHECKED] = lambda: unchecked(case.logits, targets)
    return found


def with_gradient(logits: Tensor, loss: Callable[[], Tensor]) -> Tensor:
    return torch.autograd.grad(loss(), logits)[0]


def scorings(case: Case) -> dict[str, Callable[[], Tensor]]:
    """Name -> the scores."""
    z = case.logits.detach()
    rule, unchecked = (ConcurrentSoftmax(case.rates, check=check) for check in (True, False))
    wide = z.float()
    found: dict[str, Callable[[], Tensor]] = {
        CHECKED: lambda: rule.scores(z),
        "softmax": lambda: z.softmax(dim=1),
        "sigmoid": lambda: z.sigmoid(),
        "one matrix product": lambda: wide @ case.rates,
        "plain formula": lambda: formula.scores(wide, case.rates),
    }
    if z.is_cuda:
        found[UNCHECKED] = lambda: unchecked.scores(z)
    return found


def milliseconds(
    calls: dict[str, Callable[[], Tensor]], *, rounds: int, device: str
) -> dict[str, tuple[float, float]]:
    """Best and median time of each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffled = list(calls), random.Random(0)
    for number in range(rounds + 3):
        shuffled.shuffle(order)
        for name in order:
            _wait(device)
            began = perf_counter()
            calls[name]()
            _wait(device)
            if number >= 3:
                times[name].append(1e3 * (perf_counter() - began))
    return {name: (min(seen), statistics.median(seen)) for name, seen in times.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def gpu_milliseconds(call: Callable[[], Tensor], *, calls: int = 10, replays: int = 20) -> float:
    """Median time of the GPU for one call."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(calls):
            call()
    times = []
    for _ in range(replays):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / calls)
    return statistics.median(times)


def peak_megabytes(call: Callable[[], Tensor]) -> float:
    """The most that is allocated beyond what was before, on the GPU."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _gpu_times(calls: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """Of those that do not wait for the GPU."""
    waits = {CHECKED, "plain formula"}
    return {name: gpu_milliseconds(call) for name, call in calls.items() if name not in waits}


def measure(case: Case, *, several: bool, rounds: int, device: str) -> list[dict[str, object]]:
    """Rows of the results for one case."""
    calls = {
        "loss": {
            name: partial(with_gradient, case.logits, loss)
            for name, loss in losses(case, several=several).items()
        }
    }
    if not several:  # scores do not see targets
        calls["scores"] = scorings(case)
    rows: list[dict[str, object]] = []
    for what, each in calls.items():
        copy = torch.empty_like(case.logits, requires_grad=False)
        each["copy"] = lambda copy=copy: copy.copy_(case.logits.detach())
        times = milliseconds(each, rounds=rounds, device=device)
        peer, peer_median = times[PEERS[what]]
        gpu = _gpu_times(each) if device == "cuda" else {}
        for name, (time, median) in times.items():
            row: dict[str, object] = {
                "what": what, "targets": "several" if several else "one", "device": device,
                "dtype": str(case.logits.dtype).removeprefix("torch."), "proposals": len(case.logits),
                "name": name, "milliseconds": f"{time:.3f}", "ratio": f"{time / peer:.2f}",
                "median_milliseconds": f"{median:.3f}", "median_ratio": f"{median / peer_median:.2f}",
            }  # fmt: skip
            if device == "cuda":
                row |= {"bandwidth_share": "", "peak_megabytes": f"{peak_megabytes(each[name]):.1f}"}
                row |= {"gpu_milliseconds": "", "gpu_ratio": ""}
            else:
                row |= {"bandwidth_share": f"{times['copy'][0] / time:.2f}", "peak_megabytes": ""}
            if name in gpu:
                row["bandwidth_share"] = f"{gpu['copy'] / gpu[name]:.2f}"
                row["gpu_milliseconds"] = f"{gpu[name]:.4f}"
                row["gpu_ratio"] = f"{gpu[name] / gpu[PEERS[what]]:.2f}"
            rows.append(row)
    return rows


def main() -> None:
    """Measure and append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--proposals", type=int, nargs="+", help="P; 1024 8192, on a GPU also 65536")
    parser.add_argument("--columns", type=int, default=COLUMNS, help="K")
    parser.add_argument("--threads", type=int, default=2, help="of torch, on a CPU")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    on_gpu = options.device == "cuda"
    machine = torch.cuda.get_device_name() if on_gpu else f"{options.threads} threads"
    for dtype in (torch.float32, torch.bfloat16) if on_gpu else (torch.float32,):
        for proposals in options.proposals or ((1024, 8192, 65536) if on_gpu else (1024, 8192)):
            for several in (False, True):
                case = draw(proposals, several=several, columns=options.columns)
                case = case.to(options.device, dtype)
                for row in measure(case, several=several, rounds=options.rounds, device=options.device):
                    print(*(f"{name}={value}" for name, value in row.items() if value), flush=True)
                    if not options.no_save:
                        append(
                            RESULTS / ("loss_gpu.csv" if on_gpu else "loss.csv"),
                            row
                            | {"columns": options.columns, "machine": machine, "torch": torch.__version__},
                        )


if __name__ == "__main__":
    main()
