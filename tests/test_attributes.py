"""What attributes of a Module mean, and what is refused because it would silently not be trained."""

import collections
import functools
import types

import numpy as np
import pytest

from tinygan import Tensor, nn
from tinygan.optim import SGD


class Net(nn.Module):
    """One attribute, given from outside."""

    def __init__(self, value):
        self.value = value


class Holder:
    def __init__(self, value):
        self.inside = value


def layer():
    return nn.Linear(2, 2)


HIDDEN = {
    "set": lambda: {layer()}, "frozenset": lambda: frozenset([layer()]), "set of Parameters": lambda: set(layer().parameters()),
    "generator": lambda: (layer() for _ in range(2)), "map": lambda: map(nn.Linear, [2], [2]), "zip": lambda: zip([layer()]),
    "deque": lambda: collections.deque([layer()]), "values of a dict": lambda: {"a": layer()}.values(),
    "items of a dict": lambda: {"a": layer()}.items(), "keys": lambda: {layer(): 1},
    "object": lambda: Holder(layer()), "object within an object": lambda: Holder(Holder([layer()])),
    "namespace": lambda: types.SimpleNamespace(a=[layer()]), "user dict": lambda: collections.UserDict(a=layer()),
    "array of objects": lambda: np.array([layer(), None], dtype=object), "set in a list": lambda: [1, {layer()}],
    "generator in a dict": lambda: {"a": (layer() for _ in range(2))}, "object in a list": lambda: [Holder(layer())],
    "method": lambda: layer().forward, "partial": lambda: functools.partial(layer().forward),
    "optimiser of others": lambda: SGD(layer().parameters(), lr=1.0),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_modules_where_they_are_not_found_are_refused_at_assignment(kind):
    with pytest.raises(TypeError, match=r"Net.value: .* would not be trained"):
        Net(HIDDEN[kind]())
    net = Net(None)
    with pytest.raises(TypeError, match=r"Net.value: .* would not be trained"):
        net.value = HIDDEN[kind]()
    assert net.value is None


FOUND = {
    "dict": lambda: {"a": layer()}, "ordered dict": lambda: collections.OrderedDict(a=layer()),
    "default dict": lambda: collections.defaultdict(list, a=[layer()]), "tuple": lambda: (layer(),),
    "named tuple": lambda: collections.namedtuple("Pair", "a b")(layer(), 1), "nested": lambda: [({"a": [layer()]},)],
}


@pytest.mark.parametrize("kind", FOUND)
def test_modules_in_lists_tuples_and_dicts_are_found(kind):
    assert len(Net(FOUND[kind]()).parameters()) == 2


@pytest.mark.parametrize("value", [
    None, 3, "text", {1, 2}, {"a": {1, 2}}, [1, [2]], np.float32(1), print, np.tanh, nn.Linear, lambda x: x, np,
    iter([1, 2]), Holder(3), np.array(["a"]), np.array([None, "a"]), functools.partial(max, 1), np.float32, range(3)])
def test_settings_are_accepted_and_no_state(value):
    net = Net(value)
    assert net.value is value and net.entries() == [] and net.to("cpu") is net


@pytest.mark.parametrize("value", [np.zeros(2), np.zeros(2, np.int64), np.array(True), np.zeros((0, 3)), np.zeros(1, complex)])
def test_arrays_of_numbers_are_state(value):
    net = Net(value)
    assert list(net.state_dict()) == ["value"] and net.parameters() == [] and net.buffers()[0] is value
    net.load_state_dict(net.state_dict())
    assert net.value is not value and net.value.dtype == value.dtype


def test_what_holds_parts_that_are_found_elsewhere_is_accepted():
    """Such as an optimiser of the module's own parameters, or an object that knows the module."""
    net = Net([layer(), layer()])
    net.optimiser = SGD(net.parameters(), lr=0.1)
    net.trainer = Holder(net)
    net.action = net.value[0].forward
    assert len(net.parameters()) == 4


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: [t], lambda t: {"a": (t,)}])
def test_a_bare_tensor_in_init_is_refused(wrap):
    with pytest.raises(TypeError, match=r"Net.value: a bare Tensor is neither trained nor saved; make it a Parameter"):
        Net(wrap(Tensor(np.zeros(2, np.float32))))
    net = Net(None)
    net.value = wrap(Tensor(np.zeros(2, np.float32)))               # later on: for somebody's own use
    assert net.entries() == []


def test_a_layer_as_a_class_attribute_is_refused():
    with pytest.raises(TypeError, match=r"Shared.layers: a class attribute would not be trained; assign it in __init__"):
        class Shared(nn.Module):
            layers = [layer()]


def test_a_large_or_circular_setting_is_looked_through_once():
    holder = Holder(list(range(100_000)))
    holder.itself, holder.twice = holder, [holder] * 1000
    assert Net(holder).value is holder
