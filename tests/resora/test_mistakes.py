"""What ReSoRA says to mistakes."""

from __future__ import annotations

import inspect
import math

import pytest
from torch import nn

from resora import ReSoRA
from resora.petl import make_method
from tests.resora.networks import (
    Adapted,
    own,
    value_of,
)


@pytest.fixture
def model():
    return own()


def test_errors_say_what_was_looked_for():
    with pytest.raises(ValueError, match="no low-rank layer"):
        ReSoRA(nn.Linear(2, 2), weight=1.0)
    with pytest.raises(ValueError, match=r"unknown method 'lorra-r8'; did you mean 'lora'"):
        make_method("lorra-r8")
    with pytest.raises(ValueError, match="cannot be built"):
        make_method("lora")
    with pytest.raises(ValueError, match="has no backbone that is known here"):
        make_method("lora-r2").adapt(nn.Sequential(nn.Linear(2, 2)), "0")


MISTAKES = {
    "penalty": (
        {"penalty": "liner"},
        ValueError,
        r"unknown penalty 'liner'; did you mean 'linear'\?",
    ),
    "no penalty": ({"penalty": 3}, TypeError, "a name or a function of .z, b.; got 3"),
    "space": (
        {"space": "weights"},
        ValueError,
        r"unknown space 'weights'; did you mean 'weight'\?",
    ),
    "sample": (
        {"sample": "tokens"},
        ValueError,
        r"did you mean 'token'\? \(known: token, image, cla",
    ),
    "pairs": ({"pairs": "avg"}, ValueError, r"unknown pairs 'avg' \(known: sum, mean\)"),
    "matrices": ({"matrices": "men"}, ValueError, "did you mean 'mean'"),
    "weight": ({"weight": math.nan}, ValueError, "the weight is a finite number"),
    "warm-up": ({"warmup_steps": -3}, ValueError, "warmup_steps is a number of steps"),
    "option": (
        {"orientaton": "joint"},
        TypeError,
        r"penalty 'linear' has no option 'orientaton'; did you mean 'orientation'\? \(options: or",
    ),
    "argument": ({"warmup": 3}, TypeError, r"no option 'warmup'; did you mean 'warmup_steps'\?"),
    "other's option": (
        {"penalty": "cosine", "beta": 1.0},
        TypeError,
        r"penalty 'cosine' has no option 'beta'.*options: variant",
    ),
    "value of an option": ({"orientation": "rows"}, ValueError, "unknown orientation 'rows'"),
    "mask": ({"mask": 1}, TypeError, r"give it to the call, regularizer\(mask=...\)"),
    "exclude": ({"exclude": ["block"]}, ValueError, "'block'.*matches no low-rank layer"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_caught_when_it_is_made(model, mistake):
    settings, kind, message = MISTAKES[mistake]
    with pytest.raises(kind, match=message):
        ReSoRA(model, **{"weight": 1.0, **settings})
    assert not model.blocks[0].qkv._taps._records  # and nothing is left behind


def test_options_of_a_function_of_the_user_are_checked(model):
    def mine(z, b, sharpness=1.0):
        return z.sum((1, 2))

    with pytest.raises(
        TypeError, match="'mine' has no option 'sharpnes'; did you mean 'sharpness'"
    ):
        ReSoRA(model, mine, weight=1.0, sharpnes=2.0)
    ReSoRA(model, mine, weight=1.0, sharpness=2.0)
    ReSoRA(model, lambda z, b, **options: z.sum((1, 2)), weight=1.0, anything=2.0)
    with pytest.raises(TypeError, match=r"no option 'beta' \(it has none\)"):
        ReSoRA(model, lambda z, b: z.sum((1, 2)), weight=1.0, beta=2.0)


class Odd(Adapted):
    given = None
    recorded = staticmethod(lambda z: z[None])

    def tap(self, record):
        return self.up.register_forward_pre_hook(lambda _, z: record(self.recorded(z[0])))

    def factors(self):
        return self.given(super().factors()) if self.given else super().factors()


def odd(**members):
    return nn.Sequential(type("Odd", (Odd,), members)(nn.Linear(12, 12), 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda f: f._replace(b=f.b[0]), r"factors\(\) of '0': b is \(matrices, r, d_out\)"),
        (lambda f: f._replace(a=f.a.mT), r"a is \(matrices, r, d_in\).* got \(1, 12, 3\)"),
        (lambda f: f._replace(names=("q", "k")), "2 names for 1 matrices"),
    ],
)
def test_factors_of_the_wrong_shape(given, message):
    with pytest.raises(ValueError, match=message):
        ReSoRA(odd(given=staticmethod(given)), weight=1.0)


@pytest.mark.parametrize("wrong", [lambda z: z, lambda z: z[None].mT])
def test_activations_of_the_wrong_shape(wrong):
    model = odd(recorded=staticmethod(wrong))
    message = r"'0' recorded activations of the shape .* \(1, \.\.\., 3\); .*record\(z\[None\]\)"
    with pytest.raises(ValueError, match=message):
        value_of(model)


def test_the_arguments_are_documented():
    for function in (ReSoRA, ReSoRA.__call__):
        text = inspect.getdoc(function)
        for name in inspect.signature(function).parameters.keys() - {"self"}:
            assert f"{name}: " in text
