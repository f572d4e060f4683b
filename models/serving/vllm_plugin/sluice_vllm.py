"""vLLM platform plugin, run inside the engine's environment: the CPU engine core is forked, not spawned.

vLLM's CPU platform forces `spawn`, so that the core imports torch and vLLM a second time: 8 of 16 CPU seconds of a
start. With one compute thread and nothing initialised before, `fork` is safe (it is vLLM's default on other devices):
10 s instead of 22 to 37 s until ready on two busy cores, and most pages are shared.
"""

import os
from typing import Any

from vllm.platforms.cpu import CpuPlatform


def platform() -> str:
    """Entry point `vllm.platform_plugins`: the class that vLLM shall use."""
    return "sluice_vllm.ForkingCpuPlatform"


class ForkingCpuPlatform(CpuPlatform):  # type: ignore[misc]  # vLLM is not installed where types are checked
    """The CPU platform with another way to start the core."""

    @classmethod
    def check_and_update_config(cls, vllm_config: Any) -> None:
        """Let vLLM decide everything else, then choose fork."""
        super().check_and_update_config(vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
