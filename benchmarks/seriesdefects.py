"""Defects of series: in steps, in channels, in how windows and subjects are cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from commondefects import patients
from defect import Planted, changed, defect, some
from twins import Sample

Series = np.ndarray


def in_rows(s: Sample, rng: np.random.Generator, how_many: float, change: Callable[[Series], Series]) -> Planted:
    rows = some(s, rng, how_many)
    return Planted(changed(s, rows, change), rows)


def recordings(s: Sample, rng: np.random.Generator) -> Sample:
    """Five utterances of one speaker, one after the other, in each series: long enough for a sensor to show its faults."""

    def joined(series: list[Series], labels: np.ndarray) -> tuple[list[Series], np.ndarray]:
        by_speaker = [np.flatnonzero(labels == name) for name in np.unique(labels.astype(str))]
        chosen = [rows[i : i + 5] for rows in by_speaker for i in range(0, len(rows) - 4, 5)]
        return [np.concatenate([series[r] for r in rows]) for rows in chosen], np.array([rows[0] for rows in chosen])

    inputs, first = joined(s.inputs, s.labels)
    reference, there = joined(s.reference, s.reference_labels)
    held = replace(s.take(first), inputs=inputs, reference=reference, reference_labels=s.reference_labels[there], model=None)
    return held.take(rng.permutation(held.n))


def stretch(one: Series, rng: np.random.Generator, share: float) -> slice:
    """A run of this share of the steps, somewhere inside."""
    size = max(2, round(share * len(one)))
    start = int(rng.integers(max(1, len(one) - size)))
    return slice(start, start + size)


@defect("missing values", "series", "{:.0f} series with one step lost", (1, 10), 1)
def lost_steps(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    def lose(one: Series) -> Series:
        one = one.copy()
        one[rng.integers(len(one)), rng.integers(12)] = np.nan
        return one

    return in_rows(s, rng, strength, lose)


@defect("gaps", "series", "3 series with a gap of {:.0%} of their steps in all channels", (0.1, 0.3, 0.5), 0.3, recordings)
def gaps(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    def lose(one: Series) -> Series:
        one = one.copy()
        one[stretch(one, rng, strength)] = np.nan
        return one

    return in_rows(s, rng, 3, lose)


@defect("flat series", "series", "{:.0f} series whose channels, or one of them, never move", (1, 10), 1)
def flat(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    def hold(one: Series) -> Series:
        one, channels = one.copy(), slice(None) if rng.random() < 0.5 else int(rng.integers(12))
        one[:, channels] = one[0, channels]
        return one

    return in_rows(s, rng, strength, hold)


@defect("flat stretches", "series", "3 series in which a channel holds its value for {:.0%} of the steps", (0.2, 0.5, 0.8), 0.5, recordings)
def held(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    def hold(one: Series) -> Series:
        one, part, place = one.copy(), stretch(one, rng, strength), int(rng.integers(12))
        one[part, place] = one[part.start, place]
        return one

    return in_rows(s, rng, 3, hold)


@defect("saturation", "series", "a channel of all series cut off at its {:.0%} quantile", (0.99, 0.9, 0.7), 0.9, recordings)
def clipped(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    place = int(rng.integers(12))
    limit = np.quantile(np.concatenate([one[:, place] for one in s.inputs]), strength)
    rows = np.flatnonzero([(one[:, place] > limit).any() for one in s.inputs])

    def cut(one: Series) -> Series:
        one = one.copy()
        one[:, place] = np.minimum(one[:, place], limit)
        return one

    return Planted(changed(s, rows, cut), rows, (f"channel {place}",))


@defect("constant channels", "series", "{:.0f} channel of one value in all series", (1, 3), 1)
def dead_channel(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    places = np.sort(rng.choice(12, int(strength), replace=False))

    def hold(one: Series) -> Series:
        one = one.copy()
        one[:, places] = 0.25
        return one

    return Planted(replace(s, inputs=[hold(one) for one in s.inputs]), None, tuple(f"channel {c}" for c in places))


@defect("series shapes", "series", "{:.0f} series without one channel", (1, 10), 1)
def channel_lost(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return in_rows(s, rng, strength, lambda one: np.delete(one, rng.integers(12), axis=1))


@defect("series lengths", "series", "{:.0f} series repeated to five times their length, or cut to two steps", (1, 3, 20), 1)
def other_length(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return in_rows(s, rng, strength, lambda one: np.tile(one, (5, 1)) if rng.random() < 0.5 else one[:2])


def stamped(s: Sample, rng: np.random.Generator) -> Sample:
    """A last channel that says when each step was taken, every ten milliseconds."""
    inputs, reference = (
        [np.column_stack([one, 0.01 * np.arange(len(one))]).astype(np.float32) for one in held] for held in (s.inputs, s.reference)
    )
    return replace(s, inputs=inputs, reference=reference, model=None)


@defect("sampling rate", "series", "{:.0%} of series at every second step only, by their time stamps", (0.01, 0.1, 0.3), 0.1, stamped)
def half_the_rate(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return in_rows(s, rng, strength, lambda one: one[::2])


@defect("spikes", "series", "3 series with one step of {:.0f} of the channel's standard deviations", (4, 10, 30), 10, recordings)
def spikes(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    spread = np.concatenate(s.inputs).std(axis=0)

    def hit(one: Series) -> Series:
        one, place = one.copy(), int(rng.integers(12))
        one[rng.integers(1, len(one) - 1), place] += strength * spread[place] * rng.choice([-1, 1])
        return one

    return in_rows(s, rng, 3, hit)


def levelled(s: Sample, rng: np.random.Generator) -> Sample:
    """Channels as of different sensors, each around a level of its own. Those of vowels all lie about zero: no exchange would show."""
    apart = 10 * np.concatenate(s.inputs).std(axis=0).max() * np.arange(12)
    inputs, reference = ([(one + apart).astype(np.float32) for one in held] for held in (s.inputs, s.reference))
    return replace(s, inputs=inputs, reference=reference, model=None)


@defect(
    "swapped channels", "series", "{:.0f} series with two channels exchanged, each around a level of its own, 10 standard deviations apart",
    (1, 3), 3, levelled,
)  # fmt: skip
def swapped(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    def swap(one: Series) -> Series:
        one, pair = one.copy(), rng.choice(12, 2, replace=False)
        one[:, pair] = one[:, pair[::-1]]
        return one

    return in_rows(s, rng, strength, swap)


@defect("scaled channels", "series", "3 series with a channel {:.0f} times too large", (2, 10, 100), 10, recordings)
def scaled(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    def scale(one: Series) -> Series:
        one, place = one.copy(), int(rng.integers(12))
        one[:, place] *= strength
        return one

    return in_rows(s, rng, 3, scale)


@defect(
    "overlapping windows",
    "series",
    "{:.0f} series cut into two windows that share a third, one in each split",
    (1, 5, 20),
    5,
    recordings,
)
def windows(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength, np.array([len(one) >= 15 for one in s.inputs]))
    first = changed(s, rows, lambda one: one[: 2 * len(one) // 3])
    second = replace(s.take(rows), inputs=[s.inputs[r][len(s.inputs[r]) // 3 :] for r in rows])
    whole = first.append(second)
    whole.splits[rows], whole.splits[s.n :] = "train", "test"
    return Planted(whole, np.concatenate([rows, np.arange(s.n, whole.n)]))


@defect("subjects in both", "series", "{:.0f} of 60 patients with series in the training and in the test split", (1, 10), 1, patients)
def on_both_sides(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    names = s.groups["patient"].copy()
    shared = rng.choice(np.unique(names[s.splits == "train"]), int(strength), replace=False)
    names[some(s, rng, 2 * len(shared), s.splits == "test")] = np.repeat(shared, 2)
    return Planted(replace(s, groups={"patient": names}), np.flatnonzero(np.isin(names, shared)))


@defect("outlying values", "series", "one step of one series {:.0f} times too large", (5, 30, 1000), 30)
def burst(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    def hit(one: Series) -> Series:
        one = one.copy()
        one[rng.integers(len(one))] *= strength
        return one

    return in_rows(s, rng, 1, hit)


@defect("outlying items", "series", "{:.0f} series of noise as large as the others", (1, 5), 1)
def noise(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    level, spread = np.concatenate(s.inputs).mean(axis=0), np.concatenate(s.inputs).std(axis=0)
    return in_rows(s, rng, strength, lambda one: (level + spread * rng.normal(size=one.shape)).astype(np.float32))


@defect("label given away", "series", "{:.0f} standard deviations added to a channel of one class", (1, 5, 20), 20)
def lifted(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    place, name = int(rng.integers(12)), rng.choice(np.unique(s.labels.astype(str)))
    spread = np.concatenate(s.inputs)[:, place].std()
    rows = np.flatnonzero(s.labels == name)
    moved = np.zeros(12, dtype=np.float32)
    moved[place] = strength * spread
    return Planted(changed(s, rows, lambda one: one + moved), None, (f"mean of channel {place}",))


@defect("schema", "series", "{:.0f} channels fewer than in the reference set", (1, 6), 1)
def fewer_channels(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return Planted(replace(s, inputs=[one[:, int(strength) :] for one in s.inputs], model=None))
