"""From a configuration to its model, before training."""

from rhn.chorales.config import ChoraleConfig
from rhn.engine.seeds import weights_generator
from rhn.models import PolyphonicModel


def build_model(config: ChoraleConfig) -> PolyphonicModel:
    """The model of a configuration with its first weights; raises InvalidInputError where the cell does not have what is asked for."""
    return PolyphonicModel(
        config.cell,
        hidden_size=config.hidden_size,
        depth=config.depth,
        init=f"gaussian:{config.init_std!r}",
        generator=weights_generator(config.seed, config.cell, config.depth),
        **config.cell_options,
    )
