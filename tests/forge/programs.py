"""What programs of torch.export say of their graphs."""

from __future__ import annotations

SIGNATURE = {
    "input_specs": [
        {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}},
        {"buffer": {"arg": {"name": "b_b"}, "buffer_name": "b", "persistent": True}},
        {"user_input": {"arg": {"as_tensor": {"name": "x"}}}},
        {"user_input": {"arg": {"as_int": 3}}},
    ],
    "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "add"}}}}],
}
