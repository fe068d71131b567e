"""Running a module with other parameters than its own."""


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
    places = [place for part in module.modules() for place in _places(vars(part), new)]
    if {id(p) for _, _, p in places} < new.keys():
        raise ValueError("call: a parameter in a tuple cannot be replaced; keep it in a list")
    try:
        for box, key, p in places:
            box[key] = new[id(p)]
        return module(*inputs)
    finally:
        for box, key, p in places:
            box[key] = p


def _places(box, wanted):
    """(container, key, object) wherever a wanted object stands, also in lists and dicts within."""
    for key, value in list(box.items() if isinstance(box, dict) else enumerate(box)):
        if id(value) in wanted:
            yield box, key, value
        elif isinstance(value, (list, dict)):
            yield from _places(value, wanted)
