"""A recurrence as one kernel on a GPU: programs that stay for all steps, share the units and meet after every stage.

`highway.py` and `transition.py` are two more pairs for `rhn.kernels.routes`; the kernels themselves are in the four files named after
their pass, `shapes.py` spreads them over a device, `device.py` says whether they may be used there.
"""
