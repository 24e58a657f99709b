"""What tools/rd_kodak rests on: curves and their deltas, records that survive, the whole program on tiny pictures."""

from __future__ import annotations

import json
import re
import signal
from importlib.util import find_spec
from pathlib import Path

import _bd
import _env
import _image_codecs
import _rd_report
import numpy as np
import pytest
from _bd import Curve, delta
from _records import Records
from conftest import ctrl_c_after
from PIL import Image

MISSING = [package for package in ("bjontegaard", "matplotlib") if not find_spec(package)]
bench = pytest.mark.skipif(bool(MISSING), reason=f'{" and ".join(MISSING)} not installed: pip install "doh[bench]"')

A = Curve("a", (0.1, 0.2, 0.4, 0.8), (25.0, 28.0, 30.5, 33.0))


# Deltas


@bench
def test_a_curve_against_itself():
    found = delta(A, A)
    assert (found.rate, found.psnr) == pytest.approx((0, 0), abs=1e-9) and found.shared_psnr == (25, 33)


@bench
def test_half_the_rate_and_more_decibels():
    """By the definition: a curve moved in log rate saves that rate everywhere; one moved in PSNR gains that PSNR at every shared rate."""
    half = delta(A, Curve("half", tuple(r / 2 for r in A.bpp), A.psnr))
    assert half.rate == pytest.approx(-50, abs=1e-9)
    assert delta(A, Curve("more", A.bpp, tuple(q + 1.5 for q in A.psnr))).psnr == pytest.approx(1.5, abs=1e-9)


@bench
def test_lines_by_hand():
    """Of two straight lines of PSNR over log10 rate: 10 dB and 5 dB for each decade, meeting at 0.1 bpp, 20 dB.

    Over the shared 20 to 25 dB the second needs log10 rates larger by 0.1 (q - 20), 0.25 on average; over the shared decade it is 2.5 dB behind.
    """
    steep, flat = Curve("steep", (0.1, 1.0), (20.0, 30.0)), Curve("flat", (0.1, 1.0), (20.0, 25.0))
    found = delta(steep, flat)
    assert found.rate == pytest.approx(100 * (10**0.25 - 1)) and found.psnr == pytest.approx(-2.5) and found.shared_psnr == (20, 25)


@bench
def test_nothing_in_common():
    far = Curve("far", (0.1, 0.2), (40.0, 42.0))
    assert delta(A, far).rate is None and delta(A, far).shared_psnr is None and delta(A, far).psnr is not None
    assert delta(A, Curve("elsewhere", (2.0, 3.0), (26.0, 27.0))).psnr is None


@pytest.mark.parametrize(
    ("bpp", "psnr", "word"),
    [
        ((0.1,), (20.0,), "two points or more"),
        ((0.1, 0.2), (20.0, 19.0), "PSNR does not rise"),
        ((0.2, 0.2), (20.0, 21.0), "rate does not rise"),
        ((0.1, 0.2), (20.0, float("inf")), "positive numbers"),
    ],
)
def test_what_is_no_curve(bpp, psnr, word):
    with pytest.raises(ValueError, match=word):
        Curve("c", bpp, psnr)


#: Percent against COIN and against VTM, as tabulated with the collection of curves before this program was written, by another implementation of PCHIP.
PUBLISHED = {
    "COIN": (0, 463),
    "JPEG": (-5, 209),
    "INRIC basic 8 bit": (-52, 178),
    "NIF 2023": (-55, 158),
    "INRIC meta 7 bit": (-58, 140),
    "JPEG 2000": (-61, 98),
    "WebP": (-62, 79),
    "NIF25": (-68, 87),
    "RECOMBINER": (-73, 61),
    "BPG 4:4:4": (-76, 22),
    "AV1": (-77, 16),
}


@bench
def test_published_curves_give_the_known_table():
    curves = {curve.name: curve for curve in _bd.published()}
    assert set(PUBLISHED) | {"VTM", "COIN++", "C3 adaptive", "Cool-Chic 5.0", "LotteryCodec"} == set(curves)
    assert {curve.kind for curve in curves.values()} == set(_rd_report.STYLES) and all(curve.source for curve in curves.values())
    for name, against in PUBLISHED.items():
        found = [delta(curves[anchor], curves[name]).rate for anchor in ("COIN", "VTM")]
        assert found == pytest.approx(against, abs=1), name


@bench
@pytest.mark.parametrize(("images", "pixels", "all_24"), [(24, 393216, True), (23, 393216, False), (24, 1536, False)])
def test_published_curves_are_no_result_unless_all_images_ran(images, pixels, all_24):
    """And a report says where curves share nothing: here 60 dB and more, and JPEG run at rates far above."""
    names = sorted(_rd_report.KODAK)[:images]
    record = {"device": "d", "encoder": "e", "from_step": 0, "steps": 1, "seconds": 1, "processor_seconds": 1, "latents": 1, "width": 1, "depth": 1}
    own = {(name, rate): record | {"bytes": rate * pixels / 8, "bpp": rate, "psnr": 60 + rate, "file": "f"} for name in names for rate in (0.1, 0.2)}
    curves = {"jpeg": {(name, rate): {"bytes": rate * pixels / 8, "bpp": rate, "psnr": 20 + rate, "choice": "4:2:0 1"} for name in names for rate in (5, 6)}}
    results = _rd_report.Results("t", names, [0.1, 0.2], [_rd_report.Rival("jpeg", "JPEG", "")], own, {}, curves)
    summary = _rd_report.summarise(results)
    text = _rd_report.markdown(summary, results)
    assert summary["all_24"] == all_24 and ("these lines are no result" not in text) == all_24
    assert {d["same_pictures"] for d in summary["bd"] if d["curve"] == "published"} == {all_24}
    assert "| JPEG | classical | no PSNR in common | no rate in common | - |" in text and "nan" not in text
    results.own, results.rates = {}, []  # the other codecs alone
    assert _rd_report.summarise(results)["all_24"] == all_24


def test_what_was_not_measured_is_not_said_not_to_fit():
    """Codecs that were never run on some images, codecs whose smallest file is too large, and both."""
    record = {"device": "d", "encoder": "e", "from_step": 0, "steps": 1, "seconds": 1, "processor_seconds": 1, "latents": 1, "width": 1, "depth": 1}
    own = {(name, 0.1): record | {"bytes": 100, "bpp": 0.1, "psnr": 30} for name in "ab"}
    fits, not_fits = {"bytes": 90, "psnr": 25.0, "choice": "x 1"}, {"bytes": None, "smallest": 200}
    matched = {("a", 0.1): {"r1": fits, "r2": not_fits, "r3": not_fits}, ("b", 0.1): {"r1": fits, "r2": fits}}
    rivals = [_rd_report.Rival(key, key.upper(), "") for key in ("r1", "r2", "r3", "r4")]
    results = _rd_report.Results("t", ["a", "b"], [0.1], rivals, own, matched, {})
    text = _rd_report.markdown(_rd_report.summarise(results), results)
    assert "| 25.00 (90) | 1 of 2 do not fit | 1 of 2 not measured, 1 of 2 do not fit | 2 of 2 not measured |" in text
    assert "| 25.00 (90) | 25.00 (90) | not measured | not measured |" in text and "| none below 200 |" in text


def test_mean_curve_takes_rates_that_all_images_have():
    points = {(image, rate): {"bytes": 9, "bpp": rate + extra, "psnr": 20 + 10 * rate} for image, extra in (("a", 0), ("b", 0.02)) for rate in (0.1, 0.2, 0.4)}
    points["b", 0.1] = {"bytes": None, "smallest": 99}
    assert _rd_report.mean_curve("m", points, ["a", "b"]).bpp == pytest.approx((0.21, 0.41))
    assert _rd_report.mean_curve("m", points, ["a"]).psnr == pytest.approx((21, 22, 24))
    assert _rd_report.mean_curve("m", points, ["a", "c"]) is None


def test_the_page_names_every_published_curve():
    """Also those that are far ahead of doh."""
    page = (_env.ROOT / "docs" / "rate-distortion.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in page.splitlines() if "published |" in line}
    assert {curve.name for curve in _bd.published()} <= rows


# Records


def test_records_survive_a_cut_line(tmp_path):
    path = tmp_path / "r.jsonl"
    records = Records(path)
    for i in range(3):
        records.add(f"key {i}", {"n": i})
    records.add("key 1", {"n": 10})
    whole = path.read_bytes()
    assert Records(path).get("key 1") == {"key": "key 1", "n": 10} and Records(path).dropped == 0
    for cut in range(len(whole) + 1):  # at every byte
        path.write_bytes(whole[:cut])
        lines = whole[:cut].count(b"\n")
        again = Records(path)
        assert again.dropped == (not whole[:cut].endswith(b"\n") and cut > 0)
        assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:lines]) and (again.get("key 0") is None) == (lines == 0)
        again.add("new", {"n": 5})
        assert Records(path).get("new")["n"] == 5 and Records(path).dropped == 0


# The program


@pytest.fixture(scope="module")
def program():
    return _env.program("rd_kodak")


def test_time_left(program):
    """Of encodes that take the times that were measured, in any order, the first one tells the rest to 15 %; what failed, or was resumed, tells nothing."""
    seconds = {0.05: 68.0, 0.1: 98.0, 0.2: 148.0, 0.35: 243.0, 0.6: 297.0}
    for first in seconds:
        clock = program.Clock([(name, rate) for name in "abc" for rate in seconds])
        assert clock.text() == "0 of 15 done"
        clock.start("a", first)
        clock.from_step = 0
        clock.finish(seconds[first])
        minutes, rest = map(int, re.fullmatch(r"1 of 15 done, (\d+):(\d+) left", clock.text()).groups())
        assert 60 * minutes + rest == pytest.approx(3 * sum(seconds.values()) - seconds[first], rel=0.15)
        clock.start("b", first)
        clock.from_step = 7000
        clock.finish(1.0)
        assert len(clock.pace) == 1


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "kodak").mkdir()
    y, x = np.mgrid[0:32, 0:48]
    for number in (1, 2):
        samples = np.stack([127 + 80 * np.sin(x / (5 + number)), 4 * y + x, 4 * (47 - x)], -1) + np.random.default_rng(number).uniform(0, 40, (32, 48, 3))
        Image.fromarray(samples.astype(np.uint8)).save(tmp_path / "kodak" / f"kodim0{number}.png")
    return tmp_path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


#: 480 and 960 bytes of 32 x 48 pixels.
RATES = ("--bpp", "5", "2.5")


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--data", str(folder), "--out", str(folder / "out"), *RATES, "--steps", "12", "--device", "cpu", "--rivals", "jpeg", "jpeg2000", *more]


@bench
def test_tiny_run_and_its_report(program, folder, monkeypatch, capsys):
    pytest.importorskip("torch")
    import doh
    import doh.codec

    monkeypatch.setattr(program, "RIVAL_BPP", (2.5, 5.0))
    assert program.main(arguments(folder)) == 0
    printed = capsys.readouterr()
    assert "4 of 4 done" in printed.err and "## Bjøntegaard deltas" in printed.out
    out = folder / "out"
    summary = json.loads((out / "report.json").read_text())
    assert summary["images"] == ["kodim01", "kodim02"] and not summary["all_24"] and "these lines are no result" in printed.out
    assert {d["curve"]: d["same_pictures"] for d in summary["bd"]} == {"here": True, "published": False}
    files = {(f["image"], f["rate"]): f for f in summary["files"]}
    for (name, rate), record in files.items():
        path = out / record["file"]
        budget = 480 if rate == 2.5 else 960
        assert path.stat().st_size == record["bytes"] and 0.97 * budget <= record["bytes"] <= budget
        original = pixels(folder / "kodak" / f"{name}.png")
        error = np.mean((doh.decode(path).astype(float) - original) ** 2)
        assert record["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)
        assert record["steps"] == 12 and record["from_step"] == 0 and record["seconds"] > 0 and record["width"] > 0
        for key, suffix in (("jpeg", ".jpg"), ("jpeg2000", ".j2k")):
            rival = record["rivals"][key]
            if rival["bytes"]:
                assert path.with_suffix(suffix).stat().st_size == rival["bytes"] <= record["bytes"]
            else:
                assert rival["smallest"] > record["bytes"]
    assert [len(c["bpp"]) for c in summary["curves"]] == [2, 2] and summary["curves"][1]["name"] == "JPEG 2000"  # no JPEG has 480 bytes
    assert files["kodim01", 2.5]["rivals"]["jpeg"]["bytes"] is None and "none below" in (out / "report.md").read_text(encoding="utf-8")
    deltas = {(d["against"], d["curve"]): d for d in summary["bd"]}
    assert ("COIN", "published") in deltas and deltas["JPEG 2000", "here"]["psnr"] < 0
    with Image.open(out / "report.png") as image:
        assert image.size[0] > 1000
    assert len(files) == 4 and not list(out.glob("*.ckpt"))

    # nothing is done twice, and a report needs no encoder
    def encode(*_, **__):
        raise AssertionError("encoded again")

    report = (out / "report.md").read_text(encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(doh.codec, "encode", encode)
        patch.setattr(_image_codecs.Search, "best", encode)
        for more in ([], ["--report-only"], ["--curves-only"]):
            assert program.main(arguments(folder, *more)) == 0
            assert (out / "report.md").read_text(encoding="utf-8") == report
        with pytest.raises(AssertionError, match="encoded again"):  # other settings are other files
            program.main(arguments(folder, "--set", "omega=9"))


@bench
@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_interrupted_inside_an_encode(program, folder, monkeypatch, capsys, number):
    """Ctrl-C in the first file, or another request to end; the same command then goes on from its checkpoint, to the bytes of a run in one piece."""
    pytest.importorskip("torch")
    import doh

    monkeypatch.setattr(program, "RIVAL_BPP", (2.5, 5.0))
    words = arguments(folder, "--images", "1", "--rivals")
    with ctrl_c_after(5, number):
        assert program.main(words) == 130
    assert "the same command goes on" in capsys.readouterr().err and len(list((folder / "out").glob("*.ckpt"))) == 1
    assert program.main([*words, "--report-only"]) == 0 and "doh has no file here" in capsys.readouterr().out
    assert program.main(words) == 0
    out = folder / "out"
    first, second = json.loads((out / "report.json").read_text())["files"]
    assert (first["from_step"], second["from_step"]) == (5 if number is None else 6, 0) and not list(out.glob("*.ckpt"))
    samples = pixels(folder / "kodak" / "kodim01.png")
    assert (out / first["file"]).read_bytes() == doh.encode(samples, bytes=480, steps=12, device="cpu")


@bench
def test_a_checkpoint_of_another_picture_is_dropped(program, folder, monkeypatch, capsys):
    """Another picture of the same name, after an interrupted encode in the same folder."""
    pytest.importorskip("torch")
    import doh

    monkeypatch.setattr(program, "RIVAL_BPP", (2.5, 5.0))
    words, out = arguments(folder, "--images", "1", "--rivals"), folder / "out"
    out.mkdir()
    other = pixels(folder / "kodak" / "kodim02.png")
    session = program.Session(program.parse(words), program.Config(steps=12, device="cpu"), program.find_images(folder, ["1"]), out)
    checkpoint = Path(f"{session.path('kodim01', 2.5, '.doh')}.ckpt")
    doh.encode(other, bytes=480, steps=12, device="cpu", checkpoint=checkpoint, checkpoint_seconds=0)
    assert checkpoint.exists()
    assert program.main(words) == 0 and "begun anew: " in (printed := capsys.readouterr()).err and "another signal" in printed.err
    assert not list(out.glob("*.ckpt")) and [f["from_step"] for f in json.loads((out / "report.json").read_text())["files"]] == [0, 0]


@bench
def test_files_of_others_are_made_once(program, folder, monkeypatch):
    """A second call encodes and writes none of them, but for one that is gone."""
    pytest.importorskip("torch")
    monkeypatch.setattr(program, "RIVAL_BPP", (2.5, 5.0))
    words, out = arguments(folder, "--images", "1", "--rivals", "jpeg2000"), folder / "out"
    assert program.main(words) == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.j2k")}
    gone = min(before)
    data = gone.read_bytes()
    assert len(before) == 2
    with monkeypatch.context() as patch:
        patch.setattr(_image_codecs.Search, "file", lambda *_: pytest.fail("encoded again"))
        assert program.main(words) == 0 and before == {path: path.stat().st_mtime_ns for path in out.glob("*.j2k")}
    gone.unlink()
    assert program.main(words) == 0 and gone.read_bytes() == data


@bench
def test_steps_count_where_the_settings_have_epochs(program, folder):
    pytest.importorskip("torch")
    assert program.main(arguments(folder, "--images", "1", "--rivals", "--bpp", "2.5", "--set", "epochs=7", "--device", "cpu:0")) == 0
    (record,) = json.loads((folder / "out" / "report.json").read_text())["files"]
    assert record["steps"] == 12 and record["settings"]["epochs"] == 0 and record["device"]


def test_a_budget_is_never_none(program):
    assert [program.budget_of(rate, np.zeros((10, 16, 3), np.uint8)) for rate in (1, 0.1, 1e-6)] == [20, 2, 1]


@bench
def test_what_cannot_be_encoded_is_named(program, folder, capsys):
    pytest.importorskip("torch")
    assert program.main(arguments(folder, "--images", "1", "--rivals", "--bpp", "0.05", "2.5")) == 1
    printed = capsys.readouterr()
    assert "failed: kodim01 at 0.05 bpp" in printed.err and "Not finished" in printed.out


@bench
def test_mistakes_are_named(program, folder, capsys, monkeypatch):
    run = program.main
    assert run(["--data", str(folder / "none")]) == 1 and "--data is to name the folder" in capsys.readouterr().err
    assert run(arguments(folder, "--images", "1-3")) == 1 and "kodim03" in capsys.readouterr().err
    assert run(arguments(folder, "--set", "bytes=9")) == 1 and "bytes is what --bpp sets" in capsys.readouterr().err
    assert run(arguments(folder, "--set", "omeg=9")) == 1 and "omega" in capsys.readouterr().err
    monkeypatch.setattr(program, "load", lambda path: pytest.fail("an image was read"))
    assert run(arguments(folder, "--preset", "inric")) == 1 and "--set rounding=nearest" in capsys.readouterr().err
    with program.alone(folder):
        assert run([*arguments(folder), "--out", str(folder)]) == 1 and "another rd_kodak" in capsys.readouterr().err
