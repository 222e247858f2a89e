"""Exact 95 % confidence interval of a binomial proportion (Clopper and Pearson 1934)."""


def exact_interval(count: int, trials: int) -> tuple[float, float]:
    """The exact binomial interval of 95 % for a share (Clopper and Pearson 1934).

    >>> low, high = exact_interval(0, 60)
    >>> low, round(high, 4)
    (0.0, 0.0596)
    """
    from scipy.special import betaincinv  # not scipy.stats, which takes a second to load

    low = 0.0 if count == 0 else float(betaincinv(count, trials - count + 1, 0.025))
    high = 1.0 if count == trials else float(betaincinv(count + 1, trials - count, 0.975))
    return low, high
