"""The standard gated recurrences over time: LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000) and GRU (Cho et al. 2014)."""

from rhn.kernels.gated.manual import gru, lstm
from rhn.kernels.gated.reference import gru_reference, lstm_reference

__all__ = ["gru", "gru_reference", "lstm", "lstm_reference"]
