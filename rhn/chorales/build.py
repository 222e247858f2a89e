"""From a configuration to its model, before training."""

from rhn.chorales.config import ChoraleConfig
from rhn.engine.memory import build_if_it_fits
from rhn.engine.seeds import weights_generator
from rhn.models import PolyphonicModel


def build_model(config: ChoraleConfig) -> PolyphonicModel:
    """The model of a configuration with its first weights.

    Raises InvalidInputError where the cell does not have what is asked for, or the memory free does not hold it.
    """
    init = None if config.init_std is None else f"gaussian:{config.init_std!r}"
    options = {"hidden_size": config.hidden_size, "depth": config.depth, "init": init}
    options |= {"generator": weights_generator(config.seed, config.cell, config.depth)} | config.cell_options
    model = build_if_it_fits(lambda where: PolyphonicModel(config.cell, device=where, **options), config.cell)
    model.use_precision(config.precision)
    return model
