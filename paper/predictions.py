"""Predictions for 240 settings that nobody has looked at, written on 2026-12-01 from the 720 trials
of docs/results/small-study.csv (seed 0), and committed before the new trials were trained.

    optim-study run --arch all --preset small --trials 20 --seed 1 --jobs 1 --out runs/held-out
    optim-study export --out runs/held-out > docs/results/small-study-seed-1.csv

The analysis is that of `paper.settings_that_train`, without a change: a trial trains if its lowest
training loss is below 9.5 nats per frame; measures are medians over the first 32 frames of the
first training chorale; intervals are 2.5 and 97.5 percentiles of 2000 resamples within networks,
seed 0. ABOVE is right if the interval of the AUC lies above 0.5; HALF is right if the interval
contains 0.5. All 240 trials count. With 240 trials the intervals are about 1.7 times as wide as
with 720, so HALF is the weaker prediction.

In short: within a network the learning rate says nearly all, and the spectrum at the start says
nothing. Between networks with a rate of at least 0.1, the spectrum says which networks train, but
hardly more than the name of the architecture.
"""

ABOVE, HALF = "above 0.5", "contains 0.5"
WITHIN, BETWEEN = "within", "between"
WITHIN_FAST, BETWEEN_FAST = "within, rate >= 0.1", "between, rate >= 0.1"

PREDICTED: dict[tuple[str, str], str] = {
    (WITHIN, "learning rate"): ABOVE,
    (WITHIN, "spectral radius"): HALF,
    (WITHIN, "row discs"): HALF,
    (WITHIN, "column discs"): HALF,
    (WITHIN, "2-norm"): HALF,
    (WITHIN, "growth of the product"): HALF,
    (WITHIN, "input gain"): HALF,
    (WITHIN, "deviation"): HALF,
    (WITHIN, "transform bias"): HALF,
    (BETWEEN, "learning rate"): ABOVE,
    (BETWEEN, "spectral radius"): ABOVE,
    (BETWEEN, "row discs"): ABOVE,
    (BETWEEN, "column discs"): ABOVE,
    (BETWEEN, "2-norm"): ABOVE,
    (BETWEEN, "growth of the product"): ABOVE,
    (BETWEEN, "input gain"): ABOVE,
    (BETWEEN, "deviation"): HALF,
    (BETWEEN, "is an RHN"): ABOVE,
    (WITHIN_FAST, "learning rate"): HALF,
    (WITHIN_FAST, "spectral radius"): HALF,
    (WITHIN_FAST, "growth of the product"): HALF,
    (WITHIN_FAST, "input gain"): HALF,
    (BETWEEN_FAST, "learning rate"): HALF,
    (BETWEEN_FAST, "spectral radius"): ABOVE,
    (BETWEEN_FAST, "row discs"): ABOVE,
    (BETWEEN_FAST, "column discs"): ABOVE,
    (BETWEEN_FAST, "2-norm"): ABOVE,
    (BETWEEN_FAST, "growth of the product"): ABOVE,
    (BETWEEN_FAST, "input gain"): ABOVE,
    (BETWEEN_FAST, "deviation"): HALF,
    (BETWEEN_FAST, "is an RHN"): ABOVE,
}
"""By pairs and measure. `within`: both trials of one network; `between`: of two networks."""

MOST_BEYOND_THE_NAME = 0.1
"""Between networks with a rate of at least 0.1, the AUC of the spectral radius differs from that of
"is an RHN" by at most this much.
"""
