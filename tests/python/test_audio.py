"""Sound files to samples and back: bit for bit where 16 bits hold them, rounded and said so where not; the whole way through a .doh file."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
import wave
from types import SimpleNamespace

import numpy as np
import pytest
from commands import error_of, random_file, run, without_modules

import doh
from doh import metrics, reference, signals
from doh.errors import EncodeError

soundfile = pytest.importorskip("soundfile")


def tones(frames: int = 1000, channels: int = 2) -> np.ndarray:
    """int16 (frames, channels): two sines, a different pair in each channel, and both ends of the range."""
    t = np.arange(frames)[:, None] / frames
    k = np.arange(channels) + 1
    samples = np.rint(16000 * np.sin(2 * np.pi * 5 * k * t) + 8000 * np.sin(2 * np.pi * 23 * k * t)).astype(np.int16)
    samples[3], samples[4] = -32768, 32767
    return samples


def sound(channels: int, sample_type: str = "s16", shape: tuple[int, ...] = (1000,)) -> SimpleNamespace:
    return SimpleNamespace(signal="audio", sample_type=sample_type, shape=shape, channels=channels)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff", ".aif", ".WAV"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_lossless_round_trip(tmp_path, extension, channels):
    samples, path = tones(channels=channels), tmp_path / f"a{extension}"
    signals.write_signal(path, samples, sound(channels), rate=22_050)
    signal, notes = signals.read_signal(path)
    assert (signal.kind, signal.sample_type, signal.samples.dtype) == ("audio", "s16", np.int16)
    assert np.array_equal(signal.samples, samples)
    assert notes == [f"{path}: its rate of 22,050 Hz is not kept: decode with --rate 22050"]
    assert os.listdir(tmp_path) == [path.name] and soundfile.info(path).subtype == "PCM_16"


def test_wav_by_the_standard_library(tmp_path):
    """Both ways against another implementation."""
    samples = tones()
    signals.write_signal(tmp_path / "a.wav", samples, sound(2), rate=8000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        assert file.readframes(9999) == samples.astype("<i2").tobytes()
    with wave.open(str(tmp_path / "b.wav"), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    assert np.array_equal(signals.read_signal(tmp_path / "b.wav")[0].samples, samples)


@pytest.mark.parametrize(("subtype", "dtype"), [("PCM_24", np.int32), ("PCM_32", np.int32), ("FLOAT", np.float32), ("DOUBLE", np.float64)])
def test_finer_samples_are_rounded_to_the_nearest(tmp_path, subtype, dtype):
    rng = np.random.default_rng(1)
    exact = rng.uniform(-32768, 32767, (500, 2))
    wanted = np.rint(exact)
    wanted[abs(exact - np.floor(exact) - 0.5) < 0.01] = np.nan  # so near the middle that 24 bits may say either
    data = np.rint(exact * 65536).astype(np.int32) if dtype == np.int32 else (exact / 32768).astype(dtype)
    soundfile.write(tmp_path / "a.wav", data, 44100, subtype=subtype)
    signal, notes = signals.read_signal(tmp_path / "a.wav")
    clear = ~np.isnan(wanted)
    assert clear.mean() > 0.9 and np.array_equal(signal.samples[clear], wanted[clear])
    assert notes[1:] == [f"{tmp_path}/a.wav: {subtype} samples rounded to 16 bit"]


def test_what_is_too_loud_is_clipped_and_counted(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.25, 7.0]), 8000, subtype="FLOAT")
    signal, notes = signals.read_signal(tmp_path / "a.wav")
    assert signal.samples[:, 0].tolist() == [0, 16384, -16384, 32767, -32768, 32767, -32768, 32767]
    assert notes[1].endswith("FLOAT samples rounded to 16 bit; 3 of them were clipped")
    soundfile.write(tmp_path / "n.wav", np.array([0.0, np.nan, 0.5]), 8000, subtype="FLOAT")
    with pytest.raises(EncodeError, match="not finite numbers"):
        signals.read_signal(tmp_path / "n.wav")


@pytest.mark.parametrize("subtype", ["PCM_U8", "ULAW", "ALAW"])
def test_coarser_samples_are_kept(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", tones(), 8000, subtype=subtype)
    signal, notes = signals.read_signal(tmp_path / "a.wav")
    assert len(notes) == 1 and len(np.unique(signal.samples)) <= 256
    soundfile.write(tmp_path / "b.wav", signal.samples, 8000, subtype=subtype)
    assert np.array_equal(signals.read_signal(tmp_path / "b.wav")[0].samples, signal.samples)


def test_many_blocks(tmp_path, monkeypatch):
    from doh.signals import audio

    monkeypatch.setattr(audio, "_BLOCK", 7)
    signals.write_signal(tmp_path / "a.flac", tones(100), sound(2))
    assert np.array_equal(signals.read_signal(tmp_path / "a.flac")[0].samples, tones(100))


def test_what_is_no_sound(tmp_path):
    (tmp_path / "letter.wav").write_text("a letter, not a sound\n" * 20)
    (tmp_path / "empty.flac").touch()
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1), np.int16), 8000)
    for name, message in [("letter.wav", "not a sound file that can be read"), ("empty.flac", "the file is empty$"), ("none.wav", "no samples")]:
        with pytest.raises(EncodeError, match=f"{name}: .*{message}") as caught:
            signals.read_signal(tmp_path / name)
        assert "\n" not in str(caught.value) and "object at" not in str(caught.value)


def test_a_rate_that_cannot_be_written_again_is_said_as_it_is(tmp_path):
    for rate, hint in [(655_350, ": decode with --rate 655350"), (1_000_000, ", nor can a sound be written with it: 655,350 Hz are the most")]:
        soundfile.write(tmp_path / "a.wav", tones(), rate)
        assert signals.read_signal(tmp_path / "a.wav")[1] == [f"{tmp_path}/a.wav: its rate of {rate:,} Hz is not kept{hint}"]


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff"])
def test_damaged_files(tmp_path, extension):
    """Cut short or changed at random: one clear error, or sound."""
    path = tmp_path / f"a{extension}"
    signals.write_signal(path, tones(), sound(2))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    files = [data[:length] for length in range(0, len(data), len(data) // 40)]
    for _ in range(80):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 200), 3):
            damaged[at] ^= int(rng.integers(1, 256))
        files.append(bytes(damaged))
    refused = 0
    for file in files:
        path.write_bytes(file)
        try:
            assert signals.read_signal(path)[0].kind == "audio"
        except EncodeError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused >= 5


def test_a_header_that_claims_too_much(tmp_path):
    """2^36 - 1 frames, said by a FLAC file of some hundred bytes: nothing is made ready for them."""
    signals.write_signal(tmp_path / "a.flac", tones(50), sound(2))
    data = bytearray((tmp_path / "a.flac").read_bytes())
    at = 8 + 13  # STREAMINFO's number of samples: the low 4 bits here, and 32 more
    data[at] |= 15
    data[at + 1 : at + 5] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(EncodeError, match=r"a.flac: (the file is cut short: .* of 68,719,476,735 frames|not a sound file)"):
        signals.read_signal(tmp_path / "a.flac")
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0xFFFFFF00, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 0xFFFFFF00)
    (tmp_path / "b.wav").write_bytes(header + bytes(20))
    try:
        assert len(signals.read_signal(tmp_path / "b.wav")[0].samples) == 10
    except EncodeError as error:
        assert "truncated" in str(error)


def test_flac_that_does_not_say_how_long_it_is(tmp_path):
    signals.write_signal(tmp_path / "a.flac", tones(50), sound(2))
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(EncodeError, match=r"a.flac: its length is not in its header, .*: write it again, to a file"):
        signals.read_signal(tmp_path / "a.flac")


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    """Silence: 1.2 MB of 16-bit samples from 2 kB, refused as soon as it is too much; and what just fits is read."""
    from doh.signals import audio

    signals.write_signal(tmp_path / "a.flac", np.zeros((300_000, 2), np.int16), sound(2))
    assert (tmp_path / "a.flac").stat().st_size < 5000
    monkeypatch.setattr(audio, "MAX_BYTES", 1_200_000)
    assert len(signals.read_signal(tmp_path / "a.flac")[0].samples) == 300_000
    monkeypatch.setattr(audio, "MAX_BYTES", 500_000)
    monkeypatch.setattr(audio, "_BLOCK", 10_000)
    tracemalloc.start()
    try:
        with pytest.raises(EncodeError, match=r"a.flac: it unpacks to more than 500,000 bytes; such files are refused"):
            signals.read_signal(tmp_path / "a.flac")
        assert tracemalloc.get_traced_memory()[1] < 700_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("extension", "order"), [(".wav", "<"), (".aiff", ">")])
def test_truncated_files_are_refused(tmp_path, extension, order):
    """libsndfile reads the rest of them without a word. Sizes that are written before the length is known say nothing."""
    path = tmp_path / f"a{extension}"
    signals.write_signal(path, tones(), sound(2))
    data = path.read_bytes()
    for length in (len(data) - 2, len(data) // 2, 100):
        path.write_bytes(data[:length])
        with pytest.raises(EncodeError, match=rf"a{extension}: the file is truncated: {length:,} of {len(data):,} bytes are there"):
            signals.read_signal(path)
    place = data.index(b"data" if extension == ".wav" else b"SSND") + 4
    half = len(data) // 2
    for unknown in (0, 0xFFFFFFFF, 0x7FFFF000):
        size = struct.pack(order + "I", unknown)
        path.write_bytes(data[:place] + size + data[place + 4 : half])
        with pytest.raises(EncodeError, match=f"truncated: {half:,} of {len(data):,}"):  # the size of the whole file says so
            signals.read_signal(path)
        path.write_bytes(data[:4] + size + data[8:half])
        with pytest.raises(EncodeError, match=f"truncated: {half:,} of {len(data):,}"):  # that of the samples does
            signals.read_signal(path)
        path.write_bytes(data[:4] + size + data[8:])
        assert np.array_equal(signals.read_signal(path)[0].samples, tones())
    for streamed in (0x7FFFF000, 0xFFFFFFFF):
        whole, part = struct.pack(order + "I", streamed | 0x24), struct.pack(order + "I", streamed)
        path.write_bytes(data[:4] + whole + data[8:place] + part + data[place + 4 :])
        assert np.array_equal(signals.read_signal(path)[0].samples, tones())
    path.write_bytes(data + b"LIST")  # more than is said does no harm
    assert np.array_equal(signals.read_signal(path)[0].samples, tones())


@pytest.mark.parametrize(("extension", "name"), [(".wav", "WAV"), (".wav", "WAVEX"), (".wav", "RF64"), (".aiff", "AIFF")])
def test_a_missing_last_byte_of_the_samples_is_seen(tmp_path, extension, name):
    path = tmp_path / f"a{extension}"
    soundfile.write(path, tones(), 8000, format=name)
    data = path.read_bytes()
    end = data.index(tones().astype("<i2" if extension == ".wav" else ">i2").tobytes()) + 4000
    assert np.array_equal(signals.read_signal(path)[0].samples, tones())
    path.write_bytes(data[: end - 1])
    with pytest.raises(EncodeError, match=rf"a{extension}: the file is truncated: {end - 1:,} of {end:,} bytes are there"):
        signals.read_signal(path)


def test_rf64_says_its_length_in_64_bits(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tones(), 8000, format="RF64")
    data = path.read_bytes()
    place = data.index(b"data") + 4
    assert data[place : place + 4] == b"\xff" * 4
    for length in (len(data) // 2, place + 4, 100):
        path.write_bytes(data[:length])
        with pytest.raises(EncodeError, match=rf"a.wav: the file is truncated: {length:,} of {len(data):,} bytes"):
            signals.read_signal(path)
    (sizes,) = [at for at in range(len(data)) if data.startswith(b"ds64", at)]
    for unknown in (bytes(8), b"\xff" * 8):
        path.write_bytes(data[: sizes + 16] + unknown + data[sizes + 24 : len(data) // 2])
        with pytest.raises(EncodeError, match="truncated"):  # the size of the whole file says so
            signals.read_signal(path)


@pytest.mark.parametrize("name", ["W64", "AU", "CAF", "OGG", "MP3"])
def test_other_formats_are_refused_by_name(tmp_path, name):
    """Their truncation is not looked for, so that they are not read under another name."""
    if name not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {name}")
    soundfile.write(tmp_path / "a", tones() / 32768, 8000, format=name)
    (tmp_path / "a").rename(tmp_path / "a.wav")
    with pytest.raises(EncodeError, match=f"a.wav: its format is {name}, .*; doh reads WAV, FLAC and AIFF: convert it"):
        signals.read_signal(tmp_path / "a.wav")


def test_a_last_byte_that_only_makes_the_length_even_may_be_missing(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(bytes(range(1, 12)))
    data = bytearray((tmp_path / "a.wav").read_bytes())
    assert len(data) % 2 == 1
    struct.pack_into("<I", data, 4, len(data) - 8 + 1)
    (tmp_path / "a.wav").write_bytes(data)
    assert len(signals.read_signal(tmp_path / "a.wav")[0].samples) == 11


def test_what_a_sound_file_cannot_hold(tmp_path):
    for name, info, message in [
        ("a.flac", sound(9), "FLAC cannot hold 9 channels; use .wav or .npy"),
        ("a.wav", sound(33), "WAV cannot hold 33 channels; use .npy"),
        ("a.wav", sound(1, "u8"), "WAV holds s16 samples of one dimension, not u8 of 1; use .npy"),
        ("a.aiff", sound(1, shape=(4, 5)), "AIFF holds s16 samples of one dimension, not s16 of 2"),
    ]:
        with pytest.raises(EncodeError, match=message.replace(".", r"\.")):
            signals.check_signal(tmp_path / name, info.channels, info)
    for rate in (0, -1, 655_351):
        with pytest.raises(EncodeError, match="cannot be written"):
            signals.write_signal(tmp_path / "a.wav", tones(), sound(2), rate=rate)
        with pytest.raises(EncodeError, match="cannot be written"):
            signals.check_signal(tmp_path / "a.wav", 2, sound(2), rate=rate)
    for name, frames in [("a.wav", (1 << 30) - (1 << 14)), ("a.aiff", (1 << 30) - (1 << 14)), ("a.flac", 1 << 31)]:
        signals.check_signal(tmp_path / name, 2, sound(2), (frames,))
    with pytest.raises(EncodeError, match=r"a.wav: 1,073,741,824 frames are more than the 4 GiB of WAV; use .flac or .npy"):
        signals.check_signal(tmp_path / "a.wav", 2, sound(2), (1 << 30,))
    assert os.listdir(tmp_path) == []


def test_decode_to_sound_files(tmp_path):
    source = random_file(tmp_path / "a.doh", shape=(50,), channels=2, sample_type="s16", kind="audio")
    result = run("decode", source, "-o", tmp_path / "a.wav")
    assert result.stdout == f"{tmp_path}/a.wav: 50, 2 channels, s16\n"
    assert result.stderr == "doh: the file does not hold the sampling rate: 44,100 Hz is taken for it; say another with --rate\n"
    assert soundfile.info(tmp_path / "a.wav").samplerate == 44100
    assert np.array_equal(soundfile.read(tmp_path / "a.wav", dtype="int16")[0], doh.decode(source))
    result = run("decode", source, "-o", tmp_path / "a.flac", "--rate", "16000", "--scale", "3/2")
    assert result.returncode == 0 and result.stderr == "" and soundfile.info(tmp_path / "a.flac").samplerate == 24000  # as long as the original
    assert np.array_equal(soundfile.read(tmp_path / "a.flac", dtype="int16")[0], doh.decode(source, scale="3/2"))
    with pytest.MonkeyPatch.context() as patch:  # said before the decode, not after it
        patch.setattr(doh.container, "decode", None)
        message = error_of(run("decode", source, "-o", tmp_path / "b.wav", "--rate", "44100", "--scale", "100"))
    assert message.endswith("b.wav: a rate of 4,410,000 Hz cannot be written: 1 to 655,350 can")
    picture = random_file(tmp_path / "p.doh")
    assert "'rate' has no meaning for .png files" in error_of(run("decode", picture, "-o", tmp_path / "p.png", "--rate", "8000"))
    assert "holds s16 samples of one dimension" in error_of(run("decode", picture, "-o", tmp_path / "p.wav"))
    assert "--grid is for occupancy and volumes; this signal has 1 dimension:" in error_of(run("decode", source, "-o", tmp_path / "b.wav", "--grid", "99"))


def test_encode_decode_and_eval(tmp_path):
    """Tones through a real encode, by the numpy decoder and the C++ one alike, and what eval says of them."""
    pytest.importorskip("torch")
    samples = tones(600)
    signals.write_signal(tmp_path / "a.flac", samples, sound(2), rate=8000)
    settings = ["--latents", "120", "--preset", "fast", "--set", "steps=300", "--device", "cpu", "--threads", "1"]
    result = run("encode", tmp_path / "a.flac", "-o", tmp_path / "a.doh", *settings)
    assert result.returncode == 0 and "its rate of 8,000 Hz is not kept: decode with --rate 8000\n" in result.stderr
    data = (tmp_path / "a.doh").read_bytes()
    info = doh.read_info(data)
    assert (info.signal, info.sample_type, info.shape, info.channels) == ("audio", "s16", (600,), 2)
    decoded = doh.decode(data)
    assert decoded.dtype == np.int16 and np.array_equal(reference.decode(data), decoded)
    assert np.array_equal(reference.decode(data, grid=(901,), offset=(7,), extent=(333,)), doh.decode(data, grid=(901,), offset=(7,), extent=(333,)))
    figures = json.loads(run("eval", tmp_path / "a.doh", tmp_path / "a.flac", "--json").stdout)
    assert f" dB, SNR {figures['snr']:.2f} dB decoded, " in result.stdout
    assert figures["snr"] == metrics.snr(decoded, samples) and 3 < figures["snr"] < 60
    assert figures["lsd"] == metrics.log_spectral_distance(decoded, samples, 65535) and figures["ssim"] is figures["iou"] is None
    text = run("eval", tmp_path / "a.doh", tmp_path / "a.flac").stdout
    assert f"SNR {figures['snr']:.2f} dB, log-spectral distance {figures['lsd']:.2f} dB\n" in text
    assert run("decode", tmp_path / "a.doh", "-o", tmp_path / "b.wav", "--rate", "8000").returncode == 0
    assert np.array_equal(signals.read_signal(tmp_path / "b.wav")[0].samples, decoded)


def test_without_soundfile(tmp_path):
    signals.write_signal(tmp_path / "a.wav", tones(50), sound(2))
    source = random_file(tmp_path / "a.doh", shape=(50,), channels=2, sample_type="s16", kind="audio")
    hint = "sound files need soundfile, which is not installed: pip install 'doh[audio]'"
    for words in (["eval", source, tmp_path / "a.wav"], ["decode", source, "-o", tmp_path / "b.flac"]):
        assert error_of(without_modules("soundfile", *words)).endswith(hint)
    assert without_modules("soundfile", "decode", source, "-o", tmp_path / "b.npy").returncode == 0
