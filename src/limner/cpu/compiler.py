"""Options of torch.compile for regions on a CPU."""

from typing import Any

ON_A_CPU: dict[str, Any] = {
    "cpp_wrapper": True,
    "cpp.use_decompose_tanh": True,
    "size_asserts": False,
    "alignment_asserts": False,
}
"""Operators are called from C++, tanh is computed from exp, and the shapes and alignment of
intermediate tensors are not checked. See README.md."""
