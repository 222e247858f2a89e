"""The small tables that `rhn-analyze` prints."""

import math

from analysis.activity import GateActivity
from analysis.damage import LesionRow, LesionTable, reading
from rhn.utils.wording import counted

SHOWN_UNITS = 10


def gates_table(record: GateActivity) -> str:
    """A row a layer: mean gate in each sequence and over all of them, and how its gates are distributed; then the busiest units."""
    shown = record.sequences[:6]
    width = max(10, *(len(s.name) + 2 for s in shown))
    lines = [
        f"mean {record.gate_name} (0 closed, 1 open)",
        f"{'layer':<8}" + "".join(f"{s.name:>{width}}" for s in shown),
    ]
    lines[-1] += f"{'all':>8}   {'below 0.1':>9} {'between':>9} {'above 0.9':>9}"
    for l in reversed(range(record.layers)):
        means = "".join(f"{s.mean_by_layer[l]:>{width}.3f}" for s in shown)
        shares = " ".join(f"{share:>9.1%}" for share in record.saturation[l])
        lines.append(f"{record.labels[l]:<8}{means}{record.mean_by_layer[l]:>8.3f}   {shares}")
    depths = "".join(f"{s.effective_depth.mean():>{width}.2f}" for s in shown)
    lines.append(f"{'sum':<8}{depths}{record.mean_by_layer.sum():>8.2f}   (effective depth, mean over time)")
    if math.isfinite(record.most_switching(1)[0][2]):
        units = (f"layer {label} unit {unit} ({change:.2f})" for label, unit, change in record.most_switching(4))
        lines.append(f"switching most (mean change a {record.step}): {', '.join(units)}")
    return "\n".join(lines)


def lesion_table(table: LesionTable) -> str:
    """Rows sorted by damage, layers first, then the controls, pairs and single units; in nats a predicted step."""
    where = f" on {table.split}" if table.split else ""
    measured = f"{counted(table.sequences, 'sequence')}, {counted(table.frames, f'predicted {table.step}')}"
    lines = [f"lesions ({table.mode}){where}: {measured}, nats a {table.step}"]
    sure = any(math.isfinite(row.low) for row in table.layers)
    lines.append(f"{'lesioned':<20}{'loss':>10}{'damage':>10}" + "   95 % interval" * sure)
    lines.append(f"{'nothing':<20}{table.baseline:>10.4f}")
    lines += [_line(f"layer {row.label}", row) for row in table.by_damage()]
    lines += [_line(f"layer {row.label}: blind", row) for row in table.controls]
    lines += [_line(f"layer {row.label} > blind", row) for row in table.beyond_blind]
    lines += [_line(f"layers {row.label}", row) for row in (*table.together, *table.by_damage("pairs"))]
    lines += [_line(f"layer {row.label}", row) for row in table.by_damage("units")[:SHOWN_UNITS]]
    if len(table.units) > SHOWN_UNITS:
        lines.append(f"... and {len(table.units) - SHOWN_UNITS} more units (--save-data FILE.csv has all)")
    if sure:
        over = f"Intervals are over the {table.sequences} sequences, of this one network"
        lines.append(f"{over}: they do not say how another training would differ.")
    else:
        lines.append("There are no intervals: they are over sequences, and one says nothing about others.")
    return "\n".join([*lines, reading(table)])


def _line(name: str, row: LesionRow) -> str:
    interval = f"   {row.low:+.4f} to {row.high:+.4f}" if math.isfinite(row.low) else ""
    return f"{name:<20}{row.loss:>10.4f}{row.delta:>+10.4f}{interval}"
