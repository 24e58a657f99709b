"""Settings: presets, files, key=value strings, and clear errors for everything that is not one."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import doh.config
from doh import EncodeError
from doh.config import PRESETS, Config


@pytest.mark.parametrize("name", PRESETS)
def test_presets_load(name):
    assert isinstance(Config.from_preset(name), Config)


def test_paper_preset_is_the_papers_model():
    c = Config.from_preset("paper")
    assert (c.generator, c.width, c.depth, c.frequencies, c.ladder) == ("dense", 40, 9, 10, "octaves")
    assert (c.lr_latents, c.lr_biases, c.beta1, c.beta2, c.batch, c.epochs, c.decay) == (1e-6, 1e-6, 0.99, 0.999, 1024, 2000, 0.999)
    assert (c.latent_scale, c.schedule, c.step_rule, c.bits, c.finish, c.gains) == ("paper", "exponential", "range", 8, 0, "paper")


def test_every_setting_has_its_sentence():
    source = Path(doh.config.__file__).read_text()
    for field in dataclasses.fields(Config):
        assert re.search(rf"^    {field.name}: \w+ = .*  # .*\.$", source, re.M), field.name


def test_unknown_preset_names_the_nearest():
    with pytest.raises(EncodeError, match="balanced"):
        Config.from_preset("balanceed")


def test_set_reads_values_as_their_types():
    c = Config().set(["steps=70", "lr_latents = 1e-2", "generator=dense", "checkpoint-seconds=5", "seed=0xff"])
    assert (c.steps, c.lr_latents, c.generator, c.checkpoint_seconds, c.seed) == (70, 0.01, "dense", 5.0, 255)


@pytest.mark.parametrize(
    "text, message",
    [
        ("stepz=3", "'stepz'.*'steps'"),
        ("steps=many", "steps must be a whole number, not 'many'"),
        ("steps=1.5", "steps must be a whole number"),
        ("omega=fast", "omega must be a number"),
        ("omega=nan", "omega must be a number"),
        ("steps", "key=value"),
        ("steps=-1", "steps must be between 0 and"),
        ("generator=sparse", "generator must be one of tied, dense"),
        ("frequencies=17", "frequencies must be between"),
    ],
)
def test_bad_assignments_name_the_key(text, message):
    with pytest.raises(EncodeError, match=message):
        Config().set([text])


@pytest.mark.parametrize("value", [True, "3", None, 2.0])
def test_wrong_types_are_refused(value):
    with pytest.raises(EncodeError, match="steps must be a whole number"):
        Config(steps=value)


def test_numbers_of_numpy_are_taken_as_pythons():
    c = Config(bytes=np.int64(200), seed=np.uint64((1 << 64) - 1), omega=np.float32(0.5), warmup=np.float64(0.25), batch=np.uint8(200))
    assert c == Config(bytes=200, seed=(1 << 64) - 1, omega=0.5, warmup=0.25, batch=200)
    assert [type(value) for value in (c.bytes, c.seed, c.omega, c.warmup)] == [int, int, float, float]
    for bad in (np.True_, np.float64(2), np.str_("2"), np.array([2, 3])):
        with pytest.raises(EncodeError, match="steps must be a whole number"):
            Config(steps=bad)


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000], ids=["400", "-400", "5000"])
@pytest.mark.parametrize("key", ["bpp", "latents", "seed"])
def test_numbers_beyond_all_floats_are_refused(key, value):
    with pytest.raises(EncodeError, match=f"{key} must be a .* of at most 300 digits"):
        Config(**{key: value})
    with pytest.raises(EncodeError, match=f"{key} must be between"):
        Config(**{key: 10**300})


def test_rates_exclude_each_other_and_replace_each_other():
    with pytest.raises(EncodeError, match="latents and bpp"):
        Config(latents=3, bpp=0.5)
    with pytest.raises(EncodeError, match="exclude each other"):
        Config().replace(latents=3, bytes=99)
    c = Config(latents=3).replace(bpp=0.5)
    assert (c.latents, c.bytes, c.bpp) == (0, 0, 0.5)
    assert Config(latents=3).replace(steps=5).latents == 3


def test_toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("steps = 5\nomega = 20\n")
    c = Config.from_toml(path, Config.from_preset("fast"))
    assert c == Config.from_preset("fast").replace(steps=5, omega=20.0)
    for text, message in [("stepz = 5", "stepz"), ("steps = '5'", "steps"), ("steps = = 5", "mine.toml"), ("[a]\nsteps = 5", "'a'")]:
        path.write_text(text)
        with pytest.raises(EncodeError, match=message):
            Config.from_toml(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("9" * 5000, "mine.toml: a number has more digits than Python reads"),
        ("[" * 100000, "mine.toml: brackets are nested too deeply"),
        ("{a=" * 100000, "mine.toml: brackets are nested too deeply"),
        ("[" * 300 + "]" * 300, "steps must be a whole number, not [[[[[[[...]]]]]]]"),
    ],
    ids=["digits", "arrays", "tables", "array"],
)
def test_toml_that_is_too_much(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(f"steps={text}")
    with pytest.raises(EncodeError) as caught:
        Config.from_toml(path)
    assert str(caught.value).endswith(message)
    path.write_text(f"steps{'.a' * 5000}=1")
    with pytest.raises(EncodeError, match=r"steps must be a whole number, not \{'a': \{'a'"):
        Config.from_toml(path)


def test_no_torch():
    import subprocess
    import sys

    code = "import sys, doh.config, doh.codec; doh.config.Config.from_preset('best'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
