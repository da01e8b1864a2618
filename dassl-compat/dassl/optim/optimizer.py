import torch
from torch import nn

from dassl.optim.radam import RAdam
from dassl.utils.errors import SettingError
from dassl.utils.modules import unwrap
from dassl.utils.tools import check_availability

AVAI_OPTIMS = ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw")


def build_optimizer(model, optim_cfg, param_groups=None) -> torch.optim.Optimizer:
    """For a module (all its parameters, or staged learning rates), or for parameters or groups as they are."""
    check_availability(optim_cfg.NAME, AVAI_OPTIMS, "OPTIM.NAME")
    if param_groups is None:
        if optim_cfg.STAGED_LR:
            param_groups = staged(model, optim_cfg)
        else:
            param_groups = model.parameters() if isinstance(model, nn.Module) else model
    shared = dict(lr=optim_cfg.LR, weight_decay=optim_cfg.WEIGHT_DECAY)
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    name = optim_cfg.NAME
    if name == "sgd":
        momentum = dict(momentum=optim_cfg.MOMENTUM, dampening=optim_cfg.SGD_DAMPNING, nesterov=optim_cfg.SGD_NESTEROV)
        return torch.optim.SGD(param_groups, **shared, **momentum)
    if name == "rmsprop":
        more = dict(momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA)
        return torch.optim.RMSprop(param_groups, **shared, **more)
    if name in ("adam", "amsgrad"):
        return torch.optim.Adam(param_groups, **shared, betas=betas, amsgrad=name == "amsgrad")
    kind = RAdam if name == "radam" else torch.optim.AdamW
    return kind(param_groups, **shared, betas=betas)


def staged(model: nn.Module, optim_cfg) -> list[dict]:
    """NEW_LAYERS learn at LR, the other children at LR * BASE_LR_MULT."""
    if not isinstance(model, nn.Module):
        raise SettingError("OPTIM.STAGED_LR needs a module: it tells layers apart by their names")
    new = optim_cfg.NEW_LAYERS
    new = [new] if isinstance(new, str) else list(new)
    if not new:
        print("Warning: OPTIM.STAGED_LR is on and OPTIM.NEW_LAYERS is empty: every layer is a base layer")
    slow, fast = [], []
    for name, child in unwrap(model).named_children():
        (fast if name in new else slow).extend(child.parameters())
    return [{"params": slow, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": fast}]
