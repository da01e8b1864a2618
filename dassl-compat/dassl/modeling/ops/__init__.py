from dassl.modeling.ops.efdmix import (  # noqa: F401
    EFDMix,
    activate_efdmix,
    crossdomain_efdmix,
    deactivate_efdmix,
    random_efdmix,
    run_with_efdmix,
    run_without_efdmix,
)
from dassl.modeling.ops.mixstyle import (  # noqa: F401
    MixStyle,
    activate_mixstyle,
    crossdomain_mixstyle,
    deactivate_mixstyle,
    random_mixstyle,
    run_with_mixstyle,
    run_without_mixstyle,
)
from dassl.modeling.ops.mixup import mixup  # noqa: F401
from dassl.modeling.ops.reverse_grad import ReverseGrad  # noqa: F401
