"""Random numbers: one seed is one sequence, names are independent, states continue exactly, threads share nothing."""

import json
import threading

import numpy as np
import pytest

import tinygan
from tinygan import models
from tinygan.randomness import Randomness, current, rng, seed
from tinygan.train import GAN, fit, wgan_gp


@pytest.fixture(autouse=True)
def fresh_seed():
    """Every test here starts with seed 0 and leaves it so."""
    seed(0)
    yield
    seed(0)


def test_one_seed_is_one_sequence_and_another_seed_another():
    first = rng("batch").random(5)
    seed(0)
    np.testing.assert_array_equal(rng("batch").random(5), first)
    seed(1)
    assert not np.any(rng("batch").random(5) == first)


def test_generators_of_different_names_differ_and_do_not_disturb_each_other():
    latent = rng("latent").random(6)
    seed(0)
    rng("dropout").random(1000)                 # made first, and drawn from in between
    again = [rng("latent").random() for _ in range(3)]
    rng("dropout").random(7)
    again += [rng("latent").random() for _ in range(3)]
    np.testing.assert_array_equal(again, latent)
    seed(0)
    assert not np.any(rng("dropout").random(6) == latent)


def test_generators_of_different_names_are_uncorrelated():
    a, b = (rng(name).standard_normal(20_000) for name in ("a", "b"))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03      # 4 standard deviations of 1 / sqrt(20000)


def test_saved_states_continue_exactly_also_through_json():
    seed(7)
    for name in ("batch", "latent"):
        rng(name).standard_normal(3, dtype=np.float32)      # leaves half a draw buffered
    state = json.loads(json.dumps(current().state_dict()))
    expected = {name: rng(name).standard_normal(5, dtype=np.float32) for name in ("batch", "latent", "new")}
    seed(99)
    current().load_state_dict(state)
    for name, values in expected.items():
        np.testing.assert_array_equal(rng(name).standard_normal(5, dtype=np.float32), values)


@pytest.mark.parametrize("state", [None, {}, {"seed": 0}, {"seed": -1, "generators": {}}, {"seed": 0, "generators": []},
                                   {"seed": 0, "generators": {"batch": {"state": 1}}}, {"seed": 0, "generators": {"batch": None}}])
def test_a_state_that_is_none_is_refused_and_changes_nothing(state):
    mine = Randomness(3)
    mine.rng("batch").random(2)
    before = mine.state_dict()
    with pytest.raises(ValueError, match="not the state of random generators"):
        mine.load_state_dict(state)
    assert mine.state_dict() == before


@pytest.mark.parametrize("bad", [-1, 1.5, "0", None, True])
def test_a_seed_is_a_natural_number(bad):
    with pytest.raises(ValueError, match="seed: expected an integer >= 0"):
        seed(bad)


def test_a_block_draws_from_its_own_generators_and_the_outer_ones_go_on():
    outer = rng("latent").random(4)
    seed(0)
    a = rng("latent").random(2)
    with Randomness(0):
        np.testing.assert_array_equal(rng("latent").random(4), outer)
        seed(5)                                 # within the block only
        with pytest.raises(RuntimeError), Randomness(1):
            raise RuntimeError
    np.testing.assert_array_equal(np.concatenate([a, rng("latent").random(2)]), outer)


def in_thread(f):
    """What f returns when it runs in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(f()))
    thread.start()
    thread.join()
    return found[0]


def test_a_new_thread_is_like_a_new_program_and_disturbs_nobody():
    seed(3)
    mine = rng("latent").random(4)
    seed(3)
    first = rng("latent").random(2)
    theirs = in_thread(lambda: rng("latent").random(4))
    np.testing.assert_array_equal(np.concatenate([first, rng("latent").random(2)]), mine)
    seed(0)
    np.testing.assert_array_equal(theirs, rng("latent").random(4))


def test_gans_in_several_threads_train_as_they_do_alone():
    """Made in one thread or in their own, one after the other or at once: the same bits."""
    x = Randomness(1).rng("data").normal(size=(64, 2)).astype(np.float32)

    def make(value):
        seed(value)
        g, d = models.mlp_generator(4, hidden=(8,)), models.mlp_discriminator(hidden=(8,))
        return GAN(g, d, 4, loss="wasserstein", penalty=wgan_gp())

    def weights(gan):
        fit(gan, x, 12, batch_size=16)
        return np.concatenate([p.data.ravel() for p in gan.g.parameters() + gan.d.parameters()])

    alone = [weights(make(value)) for value in range(4)]
    for made in ([make(value) for value in range(4)], [None] * 4):
        found = [None] * 4

        def work(i, made=made, found=found):
            found[i] = weights(made[i] or make(i))
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for a, b in zip(alone, found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_package_offers_seed_and_rng():
    tinygan.seed(4)
    a = tinygan.rng("latent").random()
    with tinygan.Randomness(4):
        assert tinygan.rng("latent").random() == a
