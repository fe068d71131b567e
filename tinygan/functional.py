"""Running a module otherwise than usual. Afterwards all is as it was, also after an error."""

from contextlib import contextmanager


@contextmanager
def evaluating(*modules):
    """Within this block the modules are in evaluation mode; then each part is in its own again."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, training in modes:
            part.training = training


def call(module, parameters, *inputs):
    """module(*inputs), computed with other parameters: {dotted name: Tensor}, of the same shapes.

    Names are those of `module.named_parameters()`; what is not mentioned is used as it is. The
    gradient flows into the given Tensors, so they may come from an update that is on the tape:

        new = {name: p - lr * g for (name, p), g in zip(net.named_parameters().items(), slopes)}
        call(net, new, x)
    """
    own = module.named_parameters()
    for name, value in parameters.items():
        if name not in own or value.shape != own[name].shape:
            raise ValueError(f"call: the module has no parameter {name} of shape {value.shape}, "
                             f"but { {k: p.shape for k, p in own.items()} }")
    new = {id(own[name]): value for name, value in parameters.items()}
    places = [(vars(part), key, p) for part in module.modules() for key, p in vars(part).items()
              if id(p) in new]          # one parameter may stand in several places
    try:
        for attributes, key, p in places:
            attributes[key] = new[id(p)]
        return module(*inputs)
    finally:
        for attributes, key, p in places:
            attributes[key] = p
