"""How does an object sound, and what does the brain answer? Renderers of audio and EEG."""

import numpy as np

from codebind_hf.nine_senses.world import EEG_CHANNELS, FACTORS, NUM_PARTIALS, SceneObject


AUDIO_RATE = 16_000
NUM_SAMPLES = 16_000
EEG_RATE = 128
EEG_SAMPLES = 128
_TIME = (np.arange(NUM_SAMPLES) / AUDIO_RATE).astype(np.float32)
_EEG_TIME = (np.arange(EEG_SAMPLES) / EEG_RATE).astype(np.float32)
_ORDER = np.arange(NUM_PARTIALS)
_PEAK = 0.85
_CLICK = 96


def _partials(thing: SceneObject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies in Hz, amplitudes and dampings in 1/s of a struck body."""
    size, aspect, taper, _, pose = (float(value) for value in thing.factors)
    register, damping, decay = (float(value) for value in thing.body.timbre)
    lowest = 620.0 * 2 ** (register - 0.4 * size)
    ratios = thing.body.ratios ** (1 + 0.15 * taper)
    amplitudes = np.exp(-max(decay, 0.0) * _ORDER * 0.5)
    # A blow on one side leaves every second mode silent.
    amplitudes = amplitudes * np.where(_ORDER % 2 == 1, 1 + 0.85 * pose, 1 - 0.85 * pose)
    return np.minimum(lowest * ratios, 7600.0), amplitudes, damping * 1.8**-aspect * (1 + 0.25 * _ORDER)


def _struck(thing: SceneObject) -> np.ndarray:
    """One blow, `(samples,)`."""
    frequencies, amplitudes, dampings = _partials(thing)
    turns = np.outer(frequencies, _TIME).astype(np.float32)
    turns -= np.floor(turns)
    waves = np.sin(np.float32(2 * np.pi) * turns) * np.exp(np.outer(-dampings, _TIME).astype(np.float32))
    return amplitudes.astype(np.float32) @ waves


def _bounces(thing: SceneObject) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds and gains of the blows: a high body falls back harder."""
    times = thing.body.strikes
    return times, (0.68 + 0.27 * thing.factors[3]) ** np.arange(len(times))


def render_audio(thing: SceneObject, private: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One second of an object that is dropped and bounces, float32 `(16000,)` in 16-bit steps at 16 kHz.

    Private: length of the reverberation, pitch of a background hum.
    """
    levels = thing.difficulty
    blow = _struck(thing)
    decay_time = 0.015 * 20.0 ** private[0]
    noise = rng.standard_normal(NUM_SAMPLES, dtype=np.float32)
    tail = noise * np.exp(-_TIME / np.float32(decay_time)) * np.float32(0.3 * levels.private)
    # The impact itself is a short broad-band click.
    tail[:_CLICK] += np.float32(0.35) * noise[-_CLICK:]
    sound = np.zeros(NUM_SAMPLES, dtype=np.float32)
    blow += tail
    for time, gain in zip(*_bounces(thing), strict=True):
        start = int(np.clip(time, 0.0, 0.9) * AUDIO_RATE)
        sound[start:] += np.float32(gain) * blow[: NUM_SAMPLES - start]
    hum = 90.0 * 4.0 ** private[1]
    turns = _TIME * np.float32(hum) + np.float32(rng.random())
    sound += np.float32(0.22 * levels.private) * np.sin(np.float32(2 * np.pi) * (turns - np.floor(turns)))
    sound += np.float32(0.05 * levels.noise) * rng.standard_normal(NUM_SAMPLES, dtype=np.float32)
    sound *= np.float32(_PEAK * 32767) / np.abs(sound).max()
    return np.round(sound).astype(np.float32) / np.float32(32768)


def _evoked(thing: SceneObject) -> np.ndarray:
    """Evoked response, `(channels, time)`: one bump per component at its own place and time."""
    sensors = thing.sensors
    amplitudes = thing.body.response.copy()
    amplitudes[-len(FACTORS) :] = 0.9 * thing.factors
    offsets = _EEG_TIME - sensors.latencies[:, None]
    bumps = np.exp(-0.5 * (offsets / sensors.widths[:, None]) ** 2)
    return (sensors.scalp_maps * amplitudes[:, None].astype(np.float32)).T @ bumps


def render_eeg(thing: SceneObject, private: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One second after the object is shown, float32 `(16, 128)` at 128 Hz.

    Private: subject (how the head weighs the channels), frequency of the ongoing alpha oscillation.
    """
    levels = thing.difficulty
    sensors = thing.sensors
    turn = 2 * np.pi * private[0]
    head = np.cos(turn) * sensors.head_map[0] + np.sin(turn) * sensors.head_map[1]
    signal = _evoked(thing) * (1 + 0.5 * levels.private * head[:, None])
    # A slow drift of the electrodes has the subject's own map.
    signal = signal + 0.5 * levels.private * head[:, None] * np.cos(2 * np.pi * 1.5 * _EEG_TIME + 0.6)
    # The stimulus resets the rhythm, up to a quarter of a cycle.
    rhythm = np.cos(2 * np.pi * ((7.0 + 9.0 * private[1]) * _EEG_TIME + 0.25 * rng.random()))
    signal = signal + 0.6 * levels.private * sensors.alpha_map[:, None] * rhythm
    noise = rng.standard_normal((EEG_CHANNELS, EEG_SAMPLES), dtype=np.float32)
    # Neighbouring samples move together, as in real recordings.
    noise = noise + np.roll(noise, 1, -1) + np.roll(noise, 2, -1)
    return (signal + 0.13 * levels.noise * noise).astype(np.float32)
