"""Networks on several GPUs or processes."""

from typing import Any

import torch
from torch import nn


class DeviceMethods:
    """A method that replaces that of ``BaseModel`` with the same name."""

    opt: dict[str, Any]
    device: torch.device

    # In distributed training, BasicSR queries the current GPU, which fails without a GPU.
    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to the model's device, and wrap it for several GPUs or processes."""
        net = net.to(self.device)
        if self.opt["dist"]:
            devices = [torch.cuda.current_device()] if self.device.type == "cuda" else None
            unused = self.opt.get("find_unused_parameters", False)
            return nn.parallel.DistributedDataParallel(net, device_ids=devices, find_unused_parameters=unused)
        return nn.DataParallel(net) if self.opt["num_gpu"] > 1 else net
