import torch.nn as nn


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside a DataParallel or DistributedDataParallel."""
    return model.module if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) else model


def count_num_param(model=None, params=None) -> int:
    """Values in a module, or in parameters or parameter groups."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("count_num_param() wants a model or parameters")
    return sum(sum(q.numel() for q in p["params"]) if isinstance(p, dict) else p.numel() for p in params)


def set_bn_to_eval(module: nn.Module) -> None:
    """For model.apply(): batch normalisation keeps its running statistics; its scale and shift still learn."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.eval()


def open_all_layers(model: nn.Module) -> None:
    """Train every layer."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers) -> None:
    """Train the named children, freeze the others."""
    model, names = unwrap(model), [open_layers] if isinstance(open_layers, str) else list(open_layers)
    for name in names:
        if not hasattr(model, name):
            raise ValueError(f"'{name}' is not a layer of the model")
    for name, module in model.named_children():
        module.train(name in names)
        module.requires_grad_(name in names)


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Fresh weights for convolutions and linear layers; norms become the identity."""
    inits = dict(
        normal=lambda w: nn.init.normal_(w, 0.0, gain),
        xavier=lambda w: nn.init.xavier_normal_(w, gain=gain),
        kaiming=lambda w: nn.init.kaiming_normal_(w, a=0, mode="fan_in"),
        orthogonal=lambda w: nn.init.orthogonal_(w, gain=gain),
    )
    if init_type not in inits:
        raise NotImplementedError(f"initialisation '{init_type}' is not one of {list(inits)}")
    for module in model.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.InstanceNorm2d) and weight is not None:
            nn.init.constant_(weight, 1.0)
        elif isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            inits[init_type](weight)
        else:
            continue
        if bias is not None:
            nn.init.constant_(bias, 0.0)
