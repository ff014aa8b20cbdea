"""A Triton kernel as it is compiled for a GPU, run on the CPU in place of the launch.

Triton's interpreter runs what a kernel says. This runs what the compiler made of it, and sees what the interpreter
cannot: a layout that does not fit, an address outside its tensor or not aligned, and threads that race: that write, or
read and write, one number of a tensor without a barrier between them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compiled.memory import Memory
from compiled.ptx import WARP, Block, parse

POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.uint8: "*u8",
}


class Compiled:
    """A kernel in place of the one that Triton launches: `kernel[(programs,)](*arguments, **constants)`.

    Args:
        kernel: what `triton.jit` made.
        architecture: of the GPU to compile for; 90 is an H100's.
    """

    def __init__(self, kernel: Any, *, architecture: int = 90) -> None:
        self.kernel, self.architecture = kernel, architecture

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def launch(*arguments: Any, **constants: Any) -> None:
            ptx = self.compile(arguments, constants)
            program = parse(ptx)
            memory = Memory([value for value in arguments if isinstance(value, Tensor)])
            values = [value.data_ptr() if isinstance(value, Tensor) else value for value in arguments]
            for number in range(grid[0]):
                memory.forget()
                Block(program, memory, number, grid[0]).run(values)

        return launch

    def compile(self, arguments: tuple[Any, ...], constants: dict[str, Any]) -> str:
        """The PTX, of which there is machine code too, for arguments and constants of a launch."""
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        options = {name: constants.pop(name) for name in ("num_warps", "maxnreg") if name in constants}
        names = [name for name in self.kernel.arg_names if name not in constants]
        signature = dict(zip(names, map(_type, arguments), strict=True)) | dict.fromkeys(
            constants, "constexpr"
        )
        ordered = {name: signature[name] for name in self.kernel.arg_names}
        aligned = {
            (self.kernel.arg_names.index(name),): [["tt.divisibility", 16]]
            for name, value in zip(names, arguments, strict=True)
            if _divisible(value)
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = ASTSource(self.kernel, signature=ordered, constexprs=constants, attrs=aligned)
            built = triton.compile(source, target=GPUTarget("cuda", self.architecture, WARP), options=options)
        assert "cubin" in built.asm
        return str(built.asm["ptx"])


def _type(value: Any) -> str:
    if isinstance(value, Tensor):
        return POINTERS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def _divisible(value: Any) -> bool:
    """As Triton specialises a launch."""
    number = value.data_ptr() if isinstance(value, Tensor) else value
    return isinstance(number, int) and number % 16 == 0
