"""What `gersgorin-plot` can be asked."""

from dataclasses import dataclass
from typing import Literal

from rhn.options import Device, File, Writing


@dataclass(frozen=True, kw_only=True)
class Options(Writing):
    """Spectrum and Geršgorin discs of a recurrent cell running on a real chorale, a text or numbers of your own, with what their
    products do.

    examples:
      gersgorin-plot --cell rhn --depth 5
      gersgorin-plot --cell rnn --compare irnn,rhn --chorale bwv66.6
      gersgorin-plot --cell rhn --compare depth=1,2,5,10
      gersgorin-plot --compare runs/depth2,runs/depth6
      gersgorin-plot --cell rhn --compare bias=-1,-2,-4 --sequences 20 --seeds 5
      gersgorin-plot --checkpoint runs/depth6/best.safetensors --compare-init --output trained.pdf
      gersgorin-plot --checkpoint runs/ptb/best.safetensors --text novel.txt --steps 50
      gersgorin-plot --cell lstm --input weather.csv --steps 200
      gersgorin-plot --module my_package.models:make --submodule encoder.rnn --checkpoint weights.pt --input x.npy
      gersgorin-plot --cell my_package.cells:MyCell --hidden-size 32 --json
      gersgorin-plot --cell my_package.cells:MyCell --checkpoint runs/mine/best.safetensors
      gersgorin-plot --cell rhn --compare lstm --lyapunov 20 --fixed-points 50
      gersgorin-plot --cell gru --init uniform:0.3 --norm-bounds
      gersgorin-plot --cell rhn --compare rnn --pseudospectra
      gersgorin-plot --cell lstm --hidden-size 830 --leading 32 --steps 20
      gersgorin-plot --record runs/depth6 --animate
    """

    cell: str | None = None
    """{cells}, torch.nn:LSTM and the like, or your own as package.module:factory (default rhn).
    With --checkpoint: the cell of your own that it holds."""
    depth: int | None = None
    """Recurrence depth, layers within a step (default 1)."""
    hidden_size: int | None = None
    """Hidden units (default 64)."""
    checkpoint: File = None
    """Trained weights instead of a new cell. With --module: its weights, .safetensors or a state_dict that torch.save wrote."""
    module: str | None = None
    """A torch module of your own instead of a cell, package.module:factory; the factory is called without arguments, or with those of
    input_size and hidden_size that it takes. torch.nn:LSTM and the like are as large as the weights of --checkpoint. Looked at is its
    first recurrent cell: one of torch.nn's (of several layers the joint state), one of ours, or a part with step(x, s) and
    state_size."""
    submodule: str | None = None
    """With --module: the part of it in which to look, by name, such as encoder.rnn."""
    layer: int | None = None
    """With --checkpoint or --module: which of several recurrent cells or layers, counted from 1 (default: the first cell, of a
    module's with all its layers)."""
    init: str | None = None
    """How new weights start: gaussian:STD, uniform:A, identity[:STD], scaled[:GAIN] or orthogonal[:GAIN] (default: as each cell starts
    by itself: uniform:0.04; irnn: identity; torch.nn's cells as in torch, uniform within 1/sqrt(units))."""
    transform_bias: float | None = None
    """Start of an RHN's transform-gate bias (default -2)."""
    chorale: str = "bwv269"
    """A chorale by name (bwv66.6) or by its place in the split (test-0)."""
    record: File = None
    """What `rhn train --record` (its folder will do) or a gersgorin.Recorder wrote: everything over the steps of the training. Only
    --animate, --output and --json go with it."""
    text: File = None
    """With --checkpoint of a language model: a text file, from whose beginning it reads."""
    input: File = None
    """Numbers of your own to read instead of a chorale: .npy, .npz (array x, and as text unit, names, name) or .csv (a row a step, a
    column an input), (T,), (T, m) or several sequences (S, T, m). A new cell has as many inputs as they."""
    unit: str | None = None
    """With --input: what one step is, for the axes, such as "0.1 s" (default: what the file says)."""
    steps: int | None = None
    """Only the first N frames or steps (default: all) or tokens of a text (default: 100)."""
    data: File = None
    """The original chorales (.json or .pickle) instead of those rebuilt from music21's scores."""
    discs: Literal["row", "column", "both"] = "row"
    """Which discs to draw and to speak of; both: the spectrum lies where the two unions overlap. The paper's row discs are the
    column discs here: it prints the transpose."""
    show_discs: bool = False
    """Draw every single disc too, as a thin circle."""
    compare: str | None = None
    """More networks, comma-separated, in panels at one scale: cells (rnn,lstm,package.module:factory); or what varies of the one
    cell, as depth=1,2,5 or hidden-size=, init=, seed=, bias= (of an RHN's transform gate, an LSTM's forget gate); or files of
    trained weights (a.safetensors,b.safetensors or folders of runs)."""
    sequences: int | None = None
    """Instead of one chorale the first N of the test split, or the first N sequences of --input FILE or parts of --text FILE: over
    time the median of all runs, and the band that four of five of them keep to."""
    seeds: int | None = None
    """Likewise over K draws of the initial weights, from --seed on."""
    compare_init: bool = False
    """With --checkpoint: the network before its training beside it."""
    lyapunov: int | None = None
    """Also the K leading Lyapunov exponents of a longer run, in a figure of its own (NAME-lyapunov). Their errors come from the scatter
    between blocks of the run and its memory; of fewer than 20 steps none are told."""
    repeat: int = 10
    """With --lyapunov: how often the sequence is read, over and over. Where more than once, the first reading is not counted."""
    fixed_points: int | None = None
    """Also the fixed points under constant input, the mean of the sequence, searched from N states of the run, in a figure of its own
    (NAME-fixed-points)."""
    norm_bounds: bool = False
    """Also bound the gradient's norm along the run, from above and below, by products of 1, 2, 4, ... layers and steps of the Jacobians
    as computed: a bound on the half-life beside the measured one, in a figure of its own (NAME-bounds)."""
    verified: bool = False
    """Also enclose every eigenvalue in a disc that holds it whatever rounding did, say what is certain of the unit circle, and round
    Gersgorin's radii up. Where float64 leaves it open, python-flint is asked if it is installed."""
    pseudospectra: bool = False
    """Also where the eigenvalues of a few steps could be after small changes of the step, in a figure of its own
    (NAME-pseudospectra)."""
    leading: int | None = None
    """Only the K eigenvalues of largest modulus, by products with vectors: for large states, in seconds a step instead of minutes.
    Discs and products are of the whole step. Where whole spectra do not fit the memory, 32 of themselves."""
    memory_limit: float | None = None
    """GiB, about, that weights, Jacobians and the work space of the measurement may take (default: what is free); Python, torch and the
    figure come on top, some 0.4 GiB."""
    animate: bool = False
    """Also write the (first) cell's spectrum moving along the chorale, or through the training, as MP4 where ffmpeg is, else GIF."""
    output: File = None
    """Figure to write, .png, .svg or .pdf (default: a telling name in the current folder)."""
    save_data: File = None
    """Also write the numbers, .npz or .json; those of compared cells get -2, -3, ... at the end of the name."""
    json: bool = False
    """Print one JSON object instead of the table."""
    seed: int = 0
    """Seed of the initial weights."""
    device: Device = "auto"
    """Where Jacobians are computed (eigenvalues always on the CPU)."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of everything measured."""
