"""Modules: parameters and state by name, saving, copying, modes, Sequential, tables."""

import abc
import collections
import contextlib
import copy
import pickle
import threading

import numpy as np
import pytest
from layers import LAYERS, every_layer, points, run

from tinygan import Tensor, nn
from tinygan.autograd import grad, no_grad
from tinygan.optim import SGD


class Twice(nn.Module):
    """A network that uses one layer in two places, and parts within parts."""

    def __init__(self):
        self.first = nn.Linear(3, 3)
        self.inner = nn.Sequential(nn.BatchNorm(3), nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3)))
        self.again = self.first
        self.scale = nn.Parameter(np.ones(1, np.float32))

    def forward(self, x):
        return self.scale * self.again(self.inner(self.first(x)))


def test_parameters_have_dotted_names_in_order_and_a_shared_one_counts_once():
    net = Twice()
    assert " ".join(net.named_parameters()) == (
        "first.weight first.bias inner.0.weight inner.0.bias inner.1.1.weight inner.1.1.bias scale")
    assert len(net.parameters()) == 7 and all(isinstance(p, nn.Parameter) for p in net.parameters())
    SGD(net.parameters(), lr=0.1)           # takes no parameter twice


def test_train_and_eval_reach_every_part():
    net = Twice()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules()) and not net.inner[1][0].training
    net.train()
    assert all(m.training for m in net.modules())
    assert nn.Linear(1, 1).training, "a switch of one network is no switch of others"


def test_state_dict_round_trip(device):
    a, b = Twice().to(device), Twice().to(device)
    run(a, points(5, 3), device)            # moves the running averages
    state = a.state_dict()
    assert {"inner.0.running_mean", "inner.0.running_var"} < state.keys()
    assert all(type(v) is np.ndarray for v in state.values())
    b.load_state_dict(state)
    for k, v in b.state_dict().items():
        np.testing.assert_array_equal(v, state[k])
    x = points(5, 3)
    np.testing.assert_array_equal(run(a.eval(), x, device), run(b.eval(), x, device))


def test_a_state_dict_is_a_copy_on_both_ways():
    net = nn.Linear(2, 2)
    state = net.state_dict()
    net.weight.data += 1
    assert not np.array_equal(state["weight"], net.weight.data)
    net.load_state_dict(state)
    state["weight"][:] = 9
    assert not (net.weight.data == 9).any()


@pytest.mark.parametrize("spoil, message", [
    (lambda s: s.pop("1.bias"), r"missing \['1.bias'\], unexpected \[\]"),
    (lambda s: s.update(extra=np.zeros(1)), r"missing \[\], unexpected \['extra'\]"),
    (lambda s: s.update({"1.weight": np.zeros((3, 2))}), r"1.weight has shape \(3, 2\), expected \(3, 3\)"),
    (lambda s: s.update({"1.weight": np.array("text")}), r"1.weight holds <U4, expected numbers that fit float32"),
])
def test_load_state_dict_is_strict_and_all_or_nothing(spoil, message):
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
    before = net.state_dict()
    state = {k: v + 1 for k, v in before.items()}
    spoil(state)
    with pytest.raises(ValueError, match=message):
        net.load_state_dict(state)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_loading_weights_outdates_a_loss_computed_before():
    net = nn.Linear(2, 1)
    loss = net(Tensor(np.ones((3, 2), np.float32))).sum()
    net.load_state_dict(net.state_dict())
    with pytest.raises(ValueError, match="grad: .*(was changed after|does not depend on)"):
        grad(loss, net.parameters())


def test_numpy_numbers_and_types_among_the_attributes_are_no_state():
    net = nn.LeakyReLU(np.float32(0.2))
    net.dtype = np.float32
    assert net.state_dict() == {} and net.to("cpu") is net


def test_repr_shows_the_tree():
    net = nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=2, padding=1), nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2)), nn.MaxPool2d(2)
    )
    assert repr(net) == ("Sequential(\n"
                         "  (0): Conv2d(1, 8, kernel_size 4x4, stride 2x2, padding 1x1, dilation 1x1)\n"
                         "  (1): Sequential(\n"
                         "    (0): Linear(3, 4)\n"
                         "    (1): LeakyReLU(0.2)\n"
                         "  )\n"
                         "  (2): MaxPool2d(kernel_size 2x2, stride 2x2, padding 0x0)\n"
                         ")")


@every_layer
def test_every_layer_has_a_repr_with_its_name(name):
    layer = LAYERS[name][0]()
    assert repr(layer).startswith(f"{type(layer).__name__}(") and repr(layer).endswith(")")


def test_summary_shows_output_shapes_and_counts_and_changes_nothing(device):
    net = nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=2, padding=1), nn.BatchNorm(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10)
    )
    net.to(device)
    net[1].eval()
    before = net.state_dict()
    lines = nn.summary(net, (28, 28, 1)).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [repr(m) for m in net] + ["total"]
    expected = [("(N, 14, 14, 8)", "136"), ("(N, 14, 14, 8)", "16"), ("(N, 14, 14, 8)", "0"), ("(N, 1568)", "0"),
                ("(N, 10)", "15,690"), ("", "15,842")]
    for line, (shape, count) in zip(lines[1:], expected, strict=True):
        assert shape in line and line.split()[-1] == count
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    assert net.training and not net[1].training
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_summary_after_an_error_leaves_no_trace():
    net = nn.Linear(3, 2)
    with pytest.raises(ValueError):
        nn.summary(net, (4,))
    assert net.training
    nn.summary(nn.Linear(4, 2), (4,))


def test_a_module_of_ones_own_needs_a_forward_and_nothing_else():
    class Square(nn.Module):
        def __init__(self):
            self.gain = nn.Parameter(np.float32([2.0]), "gain")

        def forward(self, x):
            return self.gain * x * x

    net = Square()
    assert net(Tensor(np.float32([3.0]))).item() == 18
    (g,) = grad(net(Tensor(np.float32([3.0]))).sum(), net.parameters())
    assert g.tolist() == [9.0]


# ---- names ------------------------------------------------------------------------------------------------

class Blocks(nn.Module):
    """Layers and Parameters in every kind of container."""

    def __init__(self):
        self.blocks = {"a": nn.Linear(3, 3, bias=False), "b": nn.BatchNorm(3)}
        self.layers = [[nn.Tanh(), nn.Linear(3, 3)], (nn.Dropout(0.5),)]
        self.scales = [nn.Parameter(np.ones(3, np.float32)), 3.0, {"deep": nn.Parameter(np.zeros(3, np.float32))}]
        self.offset = nn.Parameter(np.zeros(3, np.float32))

    def forward(self, x):
        x = self.blocks["b"](self.blocks["a"](x))
        for row in self.layers:
            for layer in row:
                x = layer(x)
        return x * self.scales[0] + self.scales[2]["deep"] + self.offset


BLOCKS = ["blocks.a.weight", "blocks.b.weight", "blocks.b.bias", "blocks.b.running_mean", "blocks.b.running_var",
          "layers.0.1.weight", "layers.0.1.bias", "scales.0", "scales.2.deep", "offset"]


def test_layers_and_parameters_in_containers_have_dotted_names():
    net = Blocks()
    assert list(net.state_dict()) == BLOCKS
    assert [n for n in BLOCKS if "running" not in n] == list(net.named_parameters())
    for name, owner, attribute in net.entries():
        value = getattr(owner, attribute)
        assert isinstance(value, nn.Parameter) == ("running" not in name)
        assert value.shape == net.state_dict()[name].shape


def test_layers_in_containers_are_trained_saved_and_switched():
    net, other, x = Blocks(), Blocks(), points(6, 3)
    optimiser = SGD(net.parameters(), lr=0.1)
    before = net.state_dict()
    optimiser.step(grad((net(Tensor(x.astype(np.float32))) ** 2).sum(), net.parameters()))
    moved = {k for k, v in net.state_dict().items() if not np.array_equal(v, before[k])}
    assert moved == set(BLOCKS)
    net.eval()
    assert not any(m.training for m in (net.blocks["b"], net.layers[1][0]))
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(run(net, x, "cpu"), run(other.eval(), x, "cpu"))


def test_a_layer_added_to_a_list_later_is_found():
    net = Blocks()
    net.layers.append(nn.Linear(2, 2))
    net.blocks["c"] = nn.Tanh()
    assert {"layers.2.weight", "layers.2.bias"} < net.state_dict().keys()
    assert net.blocks["c"] in net.modules()


def test_a_module_that_holds_itself_is_no_endless_loop():
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].parent = net
    net[0].friends = [net]
    assert list(net.state_dict()) == ["0.weight", "0.bias"] and len(net.modules()) == 2
    assert "..." in repr(net) and net.eval() is net
    again = copy.deepcopy(net)
    assert again[0].parent is again and again[0].friends[0] is again


def test_parameters_can_be_given_names_that_say_where_they_are():
    net = Blocks().name_parameters("generator.")
    assert [p.name for p in net.parameters()] == ["generator." + n for n in net.named_parameters()]
    loss = net(Tensor(np.ones((4, 3), np.float32))).sum()
    net.offset.data = net.offset.data + 1
    with pytest.raises(ValueError, match="generator.offset"):
        grad(loss, net.scales[0])


# ---- copies -----------------------------------------------------------------------------------------------

COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_module_is_a_working_one_of_its_own(how):
    net = Twice().eval()
    new = COPIES[how](net)
    assert list(new.state_dict()) == list(net.state_dict()) and new.again is new.first
    assert not any(p is q for p in new.parameters() for q in net.parameters())
    assert not any(m.training for m in new.modules())
    for _, owner, name in new.entries():
        for _, other, its in net.entries():
            assert not np.shares_memory(*(v.data if isinstance(v, Tensor) else v
                                          for v in (getattr(owner, name), getattr(other, its))))
    before = net.state_dict()
    new.train()
    optimiser = SGD(new.parameters(), lr=0.1)
    optimiser.step(grad(new(Tensor(points(5, 3).astype(np.float32))).sum(), new.parameters()))
    assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items())
    assert not all(np.array_equal(v, before[k]) for k, v in new.state_dict().items())


# ---- what forward assigns ---------------------------------------------------------------------------------

class Keeps(nn.Module):
    """Keeps what it computes on the way, as feature matching does, and counts its calls as state."""

    def __init__(self):
        self.body = nn.Linear(3, 2)
        self.calls = np.zeros(1)
        self.last = None

    def forward(self, x):
        self.features = self.body(x)
        self.last = self.features.data
        self.body.seen = self.features.data.copy()
        self.many = [self.features, self.last]
        self.calls = self.calls + 1
        return self.features.sum(axis=1)


@pytest.mark.parametrize("context", [no_grad, contextlib.nullcontext])
def test_what_forward_assigns_is_a_result_and_no_state(context):
    net = Keeps()
    names = ["body.weight", "body.bias", "calls"]
    with context():
        net(np.ones((4, 3), np.float32))
    assert list(net.state_dict()) == names and net.state_dict()["calls"] == 1
    Keeps().load_state_dict(net.state_dict())
    net.load_state_dict(Keeps().state_dict())
    assert net.last.shape == (4, 2) and net.calls == 0


def test_an_array_that_is_assigned_outside_of_forward_is_state():
    net = Keeps()
    net(np.ones((4, 3), np.float32))
    net.last = np.zeros(2)
    assert "last" in net.state_dict()
    net(np.ones((4, 3), np.float32))
    assert "last" in net.state_dict()               # it stays state when forward assigns it again


def test_a_layer_that_is_made_within_forward_has_its_state():
    class Lazy(nn.Module):
        norm = None

        def forward(self, x):
            if self.norm is None:
                self.norm = nn.BatchNorm(x.shape[1])
            return self.norm(x)
    net = Lazy()
    net(points(4, 3))
    assert list(net.state_dict()) == ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]


class Net(nn.Module):
    """One attribute, given from outside."""

    def __init__(self, value):
        self.value = value


def layer():
    return nn.Linear(2, 2)


HIDDEN = {
    "set": lambda: {layer()}, "frozenset": lambda: frozenset([layer()]), "set of Parameters": lambda: set(layer().parameters()),
    "deque": lambda: collections.deque([layer()]), "values of a dict": lambda: {"a": layer()}.values(),
    "items of a dict": lambda: {"a": layer()}.items(), "set in a list": lambda: [1, {layer()}],
    "set in a dict": lambda: {"a": {layer()}},
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
    iter([1, 2]), np.array(["a"]), np.array([None, "a"]), np.float32, range(3)])
def test_settings_are_accepted_and_no_state(value):
    net = Net(value)
    assert net.value is value and net.entries() == [] and net.to("cpu") is net


@pytest.mark.parametrize("value", [np.zeros(2), np.zeros(2, np.int64), np.array(True), np.zeros((0, 3)), np.zeros(1, complex)])
def test_arrays_of_numbers_are_state(value):
    net = Net(value)
    assert list(net.state_dict()) == ["value"] and net.parameters() == [] and net.buffers()[0] is value
    net.load_state_dict(net.state_dict())
    assert net.value is not value and net.value.dtype == value.dtype


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: 2 * t, lambda t: [t], lambda t: {"a": (t,)}])
def test_a_bare_tensor_outside_of_forward_is_refused(wrap):
    with pytest.raises(TypeError, match=r"Net.value: a bare Tensor is neither trained nor saved; make it a Parameter"):
        Net(wrap(Tensor(np.zeros(2, np.float32))))
    with pytest.raises(TypeError, match=r"Net.value: a bare Tensor"):
        Net(None).value = nn.Parameter(np.ones(2)) * 0.02


# ---- modes ------------------------------------------------------------------------------------------------

def test_evaluating_gives_every_part_its_own_mode_back_also_after_an_error():
    net = Blocks()
    net.blocks["b"].eval()
    modes = [m.training for m in net.modules()]
    with pytest.raises(KeyError), net.evaluating() as inside:
        assert inside is net and not any(m.training for m in net.modules())
        raise KeyError
    assert [m.training for m in net.modules()] == modes and True in modes and False in modes
    with net.evaluating(), net.evaluating():
        pass
    assert [m.training for m in net.modules()] == modes


def test_a_summary_sees_the_modules_of_its_own_thread_only():
    net, other, seen = nn.Linear(3, 2), nn.Linear(3, 4), []

    def elsewhere():
        other(np.ones((1, 3), np.float32))
    with nn.watching(lambda module, out: seen.append(module)):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        net(np.ones((1, 3), np.float32))
    assert len(seen) == 1 and seen[0] is net


# ---- calling, Sequential ----------------------------------------------------------------------------------

def test_keywords_reach_forward():
    class Conditional(nn.Module):
        def forward(self, x, y=None, *, scale=1):
            return (x, y, scale)
    assert Conditional()(1, y=2, scale=3) == (1, 2, 3) and Conditional()(1) == (1, None, 1)


def test_an_empty_sequential_runs_its_forward_like_any_other():
    """A Module of length 0 is false, and is running all the same."""
    class Remembers(nn.Sequential):
        def forward(self, x):
            self.last, self.tensor = x, Tensor(x)
            return x
    net = Remembers()
    net(np.ones(2))
    assert net.state_dict() == {}


def test_a_module_can_be_an_abstract_base_class():
    class Base(nn.Module, abc.ABC):
        @abc.abstractmethod
        def forward(self, x): ...
    with pytest.raises(TypeError, match="abstract"):
        Base()


@pytest.mark.parametrize("cut", [slice(None, -1), slice(2, None), slice(None, None, 2), slice(-2, None), slice(9, None),
                                 slice(None, None, -1)])
def test_a_slice_of_a_sequential_is_one_and_shares_the_layers(cut):
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Sigmoid()).eval()
    part = net[cut]
    assert type(part) is nn.Sequential and not part.training
    assert len(part) == len(list(net)[cut]) and all(a is b for a, b in zip(part, list(net)[cut], strict=True))
    x = points(2, 3)
    for layer in part:
        x = layer(x)
    expected, got = (v.data if isinstance(v, Tensor) else v for v in (x, part(points(2, 3))))
    np.testing.assert_array_equal(got, expected)


def test_a_sequential_is_indexed_and_appended_to_like_a_list():
    a, b = nn.Linear(2, 2), nn.Tanh()
    net = nn.Sequential(a)
    assert net.append(b) is net and net[-1] is b and net[np.int64(0)] is a and len(net) == 2
    with pytest.raises(IndexError):
        net[2]
    with pytest.raises(TypeError, match="Sequential: layer 2 must be a Module, got 3"):
        net.append(3)
    twice = nn.Sequential(b, b)
    np.testing.assert_array_equal(twice(np.ones(2)), np.tanh(np.tanh(np.ones(2))))


# ---- loading, moving --------------------------------------------------------------------------------------

@pytest.mark.parametrize("value, message", [
    (np.array(["a", "b", "c"]), "bias holds <U1, expected numbers that fit float32"),
    (np.zeros(3, complex), "bias holds complex128, expected numbers that fit float32"),
    (np.array([None] * 3), "bias holds object, expected numbers that fit float32"),
    (None, "bias holds object"), (np.zeros((3, 1)), "bias has shape"),
    (np.zeros(3, "M8[s]"), "bias holds datetime64"), (b"xyz", "bias holds .S3"),
])
def test_loading_checks_types_and_is_all_or_nothing(value, message):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm(3))
    before = net.state_dict()
    with pytest.raises(ValueError, match=r"Sequential.load_state_dict: 0." + message):
        net.load_state_dict({**{k: v + 1 for k, v in before.items()}, "0.bias": value})
    assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("state", [None, [], [("weight", 1)], "weight"])
def test_loading_something_that_is_no_dict(state):
    with pytest.raises(ValueError, match="Linear.load_state_dict: expected a dict of arrays"):
        nn.Linear(2, 2).load_state_dict(state)


@pytest.mark.parametrize("convert", [lambda v: v.astype(np.float64), lambda v: v.astype(np.int64), lambda v: v.tolist(),
                                     lambda v: Tensor(v.astype(np.float32))])
def test_loaded_numbers_are_converted_to_the_parameters_type(convert):
    net = nn.Linear(2, 3)
    state = {k: np.round(10 * v) for k, v in net.state_dict().items()}
    net.load_state_dict({k: convert(v) for k, v in state.items()})
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v, state[k])
        assert v.dtype == np.float32


@pytest.mark.parametrize("device", ["tpu", "cuda", None, 0])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(ValueError, match="device: expected 'auto', 'cpu' or 'gpu'"):
        nn.Linear(2, 2).to(device)


def test_moving_to_where_it_is_already_leaves_recorded_graphs_valid():
    net = nn.Linear(2, 2)
    loss = net(np.ones((1, 2), np.float32)).sum()
    net.to("cpu")
    np.testing.assert_array_equal(grad(loss, net.bias), [1, 1])


# ---- showing ----------------------------------------------------------------------------------------------

@every_layer
def test_every_repr_and_summary_is_ascii(name):
    make, shape = LAYERS[name]
    assert repr(make()).isascii() and nn.summary(make(), shape[1:]).isascii()


def test_a_summary_shows_all_outputs():
    assert "(N, 5, 4) (N, 4)" in nn.summary(nn.GRU(3, 4), (5, 3))
