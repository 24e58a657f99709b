"""Trainings that end by the clock, with a clock of the tests' own that only steps, files and decodes move."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from training_cases import NOISE  # noqa: E402

from doh import EncodeError, container  # noqa: E402
from doh.config import Config  # noqa: E402
from doh.container import pack  # noqa: E402
from doh.train import fit as fit_module  # noqa: E402
from doh.train import pace as pace_module  # noqa: E402
from doh.train import result as result_module  # noqa: E402
from doh.train import run as run_module  # noqa: E402
from doh.train.ademamix import HALF_RATE  # noqa: E402
from doh.train.fit import fit  # noqa: E402
from doh.train.run import Run, learning_rate  # noqa: E402

CONFIG = Config(latents=90, batch=32, threads=1, checkpoint_seconds=1e6, lr_latents=0.08).replace(seconds=20.0)


class World:
    """A machine on which a step takes `step` seconds (a number, or a function of the time), a decode `decode`, making a file `file`."""

    def __init__(self, monkeypatch, step=0.1, decode=0.0, file=0.0) -> None:
        self.now, self.step, self.trace = 1000.0, step, []
        train = Run.train

        def training(run, workers):
            train(run, workers)
            group = run.optimiser.param_groups[0]
            rate = group["lr"] * (1 + group["alpha"] / HALF_RATE)
            self.trace.append(SimpleNamespace(step=run.step, share=run.share, rate=rate, alpha=group["alpha"], rounded=bool(run.quantisation)))
            self.now += self.step(self.now) if callable(self.step) else self.step

        def slow(do, seconds, *modules):
            def slowly(*arguments):
                self.now += seconds
                return do(*arguments)

            for module in modules:
                monkeypatch.setattr(module, do.__name__, slowly)

        monkeypatch.setattr(Run, "train", training)
        slow(container.decode_unsealed, decode, pace_module, result_module)
        slow(container.pack_unsealed, file, pace_module, result_module, run_module)

    def clock(self) -> float:
        return self.now

    def fit(self, config: Config = CONFIG, **options):
        """Seconds that a training took, and its model."""
        options = {"started": self.now, "clock": self.clock} | options
        model = fit(NOISE, config, **options)
        return self.now - options["started"], model


def shares(world: World) -> list[float]:
    return [t.share for t in world.trace]


@pytest.mark.parametrize("step", [0.02, 0.1, 0.9, lambda now: 0.05 if now < 1010 else 0.4, lambda now: 0.4 if now < 1004 else 0.03], ids=range(5))
def test_the_time_is_used_and_kept(step, monkeypatch):
    world = World(monkeypatch, step)
    used, _ = world.fit()
    assert 0.9 * 20 <= used <= 20
    assert shares(world) == sorted(shares(world)) and shares(world)[0] == 0 and shares(world)[-1] > (0.98 if step in (0.02, 0.1) else 0.8)


def test_the_schedule_fills_the_time(monkeypatch):
    world = World(monkeypatch, 0.02)
    world.fit(CONFIG.replace(warmup=0.05))
    rates = [t.rate / CONFIG.lr_latents for t in world.trace]
    top = rates.index(max(rates))
    assert 0.04 < world.trace[top].share < 0.06 and max(rates) > 0.98 and rates[-1] < 1e-3
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert max(abs(a - b) for a, b in zip(rates[top:], rates[top + 1 :])) < 0.002  # without a jump
    for t in world.trace[100:]:
        assert t.rate / CONFIG.lr_latents == pytest.approx(learning_rate(t.step - 1, (t.step - 1) / t.share, 1, CONFIG.replace(warmup=0.05)))
    assert world.trace[0].alpha == 0 and world.trace[-1].alpha == pytest.approx(len(world.trace) / 40 / 12, rel=0.02)  # the slow mean's, of so few steps
    rounded = [t.share for t in world.trace if t.rounded]
    assert 0.75 <= rounded[0] < 0.76 and len(rounded) == pytest.approx(0.25 * len(world.trace), rel=0.02)


def test_the_schedule_follows_a_change_of_speed_without_a_jump(monkeypatch):
    world = World(monkeypatch, lambda now: 0.02 if now < 1010 else 0.1)
    world.fit()
    assert 500 + 80 < len(world.trace) < 500 + 110
    assert max(b - a for a, b in zip(shares(world), shares(world)[1:])) < 0.006


@pytest.mark.parametrize("rounding", ["nearest", "trellis"])
@pytest.mark.parametrize("decode", [0.01, 0.3, 1.5])
def test_time_is_kept_for_the_end(decode, rounding, monkeypatch):
    """What is measured: files decoded at the end, as many as a tenth of the time has room for; and one decode after fit(), for the checksum."""
    decoded = []
    world = World(monkeypatch, 0.05, decode)
    monkeypatch.setattr(pace_module.Pace, "another", lambda self, do=pace_module.Pace.another: (decoded.append(do(self)), decoded[-1])[1])
    used, _ = world.fit(CONFIG.replace(rounding=rounding))
    assert 0.9 * 20 <= used + decode <= 20
    assert sum(decoded) == ({0.01: 5, 0.3: 5, 1.5: 0}[decode] if rounding == "nearest" else 0)  # what has settled is of one step


SIZED = {"latents": 0, "bytes": 300}


@pytest.mark.parametrize("rounding", ["nearest", "trellis"])
@pytest.mark.parametrize("file", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("step", [0.05, 0.4])
def test_what_setting_the_quantisation_step_takes_is_not_taken_from_the_finish(step, file, rounding, monkeypatch):
    """A search makes about 16 files. Its time is no forecast of a step's, and the end, which does not need one, does not wait for it."""
    world = World(monkeypatch, step, 0.02, file)
    used, model = world.fit(CONFIG.replace(**SIZED, rounding=rounding))
    assert 0.92 * 20 <= used + 0.02 + file <= 20 and 0.97 * 300 <= len(pack(model)) <= 300
    rounded = sum(t.rounded for t in world.trace)
    assert rounded == pytest.approx(0.25 * len(world.trace), rel=0.35) and world.trace[-1].share > 0.93


def test_without_time_for_that_nothing_is_rounded_before_the_end(monkeypatch):
    world = World(monkeypatch, 0.05, 0.02, 0.4)
    used, model = world.fit(CONFIG.replace(**SIZED))
    assert used <= 20 and not any(t.rounded for t in world.trace) and world.trace[-1].share > 0.98 and len(pack(model)) <= 300


@pytest.mark.parametrize("until", [15.0, 18.0, 100.0], ids=["from the finish on", "late", "at the end"])
def test_an_end_that_misses_the_budget_has_time_to_search_or_something_that_fits(until, monkeypatch):
    """From some moment on the file is too large, or when all steps are done. A search takes 2 s."""
    world, size, finished, ending = World(monkeypatch, 0.05, 0.02, 0.1), Run.size, Run.finished, []

    def sizing(run, step):
        large = run.quantisation and step == run.quantisation.latent and (world.now - 1000 > until or ending)
        return size(run, step) * (2 if large else 1)

    def finishing(run, *rest):
        ending.append(world.now - 1000)
        model = finished(run, *rest)
        kept = run.fitting and torch.equal(run.latents, run.fitting[0])
        assert bool(kept) == (until > 15)
        return model

    monkeypatch.setattr(Run, "size", sizing)
    monkeypatch.setattr(Run, "finished", finishing)
    used, model = world.fit(CONFIG.replace(**SIZED))
    assert used + 0.12 <= 20 and 0.97 * 300 <= len(pack(model)) <= 300
    assert 16.5 < ending[0] < 17.5 and used > ending[0] + 1 if until == 15 else ending[0] > 18.9


def test_one_slow_step_is_no_forecast(monkeypatch):
    world = World(monkeypatch, lambda now: 1.5 if 1017 < now < 1017.2 else 0.1)
    used, _ = world.fit()
    assert 19 < used <= 20


def test_a_slow_bisection_is_provided_for(monkeypatch):
    world = World(monkeypatch, 0.05, 0.1, 0.05)
    used, model = world.fit(CONFIG.replace(bytes=300))
    assert 0.9 * 20 <= used + 0.2 <= 20 and 0.97 * 300 <= len(pack(model)) <= 300


@pytest.mark.parametrize(
    "changes, finish, times, until",
    [({}, 0.25, 1, 0.0), ({**SIZED, "rounding": "nearest"}, 0.15, 10, 0.7), (SIZED, 0.3, 3, 0.06)],
    ids=str,
)
def test_the_finish_sets_its_steps_as_often_as_one_of_a_fixed_length(changes, finish, times, until, monkeypatch):
    world, at = World(monkeypatch, 0.02), []

    def setting(run, step, do=Run.quantise_at):
        at.append(run.share)
        do(run, step)

    monkeypatch.setattr(Run, "quantise_at", setting)
    world.fit(CONFIG.replace(**changes, finish=finish, lr_latents=0.01))
    assert at[:times] == pytest.approx([1 - finish + finish * until * i / times for i in range(times)], abs=0.005)
    assert len(at) <= times + (times > 1)  # whole steps between them: one more may find room


@pytest.mark.parametrize("step", [0.02, lambda now: 0.02 if now < 1016 else 0.06, lambda now: 0.06 if now < 1016 else 0.02], ids=range(3))
def test_all_latents_have_settled_when_the_time_is_over(step, monkeypatch):
    """Even if steps become slower, or faster, than they were when the length of the finish was set."""
    world, counts = World(monkeypatch, step), []

    def finishing(run, *rest, do=Run.finished):
        counts.append((run.settling.count, run.step, run.steps))
        return do(run, *rest)

    monkeypatch.setattr(Run, "finished", finishing)
    world.fit()
    ((count, taken, expected),) = counts
    assert count == 90 and (callable(step) or taken == pytest.approx(expected, rel=0.05))


def test_steps_are_a_limit_only_where_they_are_given(monkeypatch):
    world = World(monkeypatch, 0.05)
    used, _ = world.fit(CONFIG.replace(steps=40))
    assert world.trace[-1].step == 40 and used < 5 and 0 < world.trace[-1].rate / CONFIG.lr_latents < 0.01
    assert shares(world) == pytest.approx([i / 40 for i in range(40)])
    assert Config(steps=70, epochs=3).replace(seconds=5).steps == 0 == Config(steps=70, epochs=3).replace(seconds=5).epochs
    assert Config().set(["steps=70", "seconds=5"]).steps == 70 == Config().replace(seconds=5).set(["steps=70"]).steps


def test_too_little_time(monkeypatch):
    world = World(monkeypatch, 0.05)
    started = world.now - 19.9
    with pytest.raises(EncodeError, match=r"20 s are too few for this signal: 19.9 s went before the first step"):
        world.fit(started=started)
    assert world.trace == []
    one = World(monkeypatch, 100.0)
    one.fit()
    assert len(one.trace) == 1  # nobody could know


@pytest.mark.parametrize("at", [1, 60, 175])
@pytest.mark.parametrize("changes", [{}, {"latents": 0, "bytes": 300}], ids=str)
def test_resumed_for_what_was_left(at, changes, tmp_path, monkeypatch):
    config, path = CONFIG.replace(**changes), tmp_path / "state"
    undisturbed = World(monkeypatch)
    wanted = undisturbed.fit(config)
    monkeypatch.undo()
    world = World(monkeypatch)
    reports = []

    def stop(report):
        reports.append(report)
        if world.trace[-1].step >= at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit_module, "REPORT_SECONDS", 0)
        world.fit(config, checkpoint=path, progress=stop)
    assert world.now - 1000 == pytest.approx(0.1 * at) and world.trace[-1].step == at
    first = world.now - 1000
    world.now += 500
    used, model = world.fit(config, checkpoint=path, resume=True)
    assert first + used == pytest.approx(wanted[0], abs=0.21)
    assert len(world.trace) == pytest.approx(len(undisturbed.trace), abs=2)
    assert all(abs(a - b) < 0.011 for a, b in zip(shares(world), shares(undisturbed))) and shares(world) == sorted(shares(world))
    assert [t.rounded for t in world.trace].index(True) == pytest.approx([t.rounded for t in undisturbed.trace].index(True), abs=2)
    if "bytes" in changes:
        assert 0.97 * 300 <= len(pack(model)) <= 300


def test_reports_tell_the_time_that_is_left(monkeypatch):
    monkeypatch.setattr(fit_module, "REPORT_SECONDS", 0)
    world, reports = World(monkeypatch, 0.05), []
    world.fit(progress=lambda r: reports.append((r, world.now - 1000)))
    for report, now in reports:
        assert report.step <= report.steps and report.remaining_s == pytest.approx(20 - now)
    middle = reports[len(reports) // 2][0]
    assert middle.steps == pytest.approx(len(world.trace), rel=0.02) and reports[-1][0].phase == "quantise"
