"""The picture of a plan: predicted facts packed against N for each rank."""

import math
from dataclasses import replace

from kp.advice.prediction import Predictor
from kp.advice.recommending import Advice
from kp.report.figure_data import ARM_COLOURS, MARKERS, QUIET_COLOUR, THICK, THIN, Line, LineKey, LinePanel, LinePanels

PANELS = 6
OCTAVES = (-3, -2, -1, 0, 1)  # N shown, in doublings of the asked one
ALL_FACTS = "all N facts"


def packed_by_rank(reliability: Predictor, advice: Advice) -> LinePanels:
    """A panel for each rank near what was measured, up to PANELS: reliability times N, at the other knobs of the best setting."""
    best = advice.best.setting
    ranks = sorted({one.setting.rank for one in advice.near})[:PANELS]
    sizes = sorted({max(1, round(best.facts * 2.0**octave)) for octave in OCTAVES})
    styles = {rank: (ARM_COLOURS[place % len(ARM_COLOURS)], MARKERS[place % len(MARKERS)]) for place, rank in enumerate(ranks)}
    xs = tuple(math.log2(size) for size in sizes)
    panels = []
    for rank in ranks:
        found = reliability.predict([replace(best, rank=rank, facts=size) for size in sizes])
        low, value, high = (
            tuple(share * size for share, size in zip(shares, sizes, strict=True))
            for shares in zip(*((one.lower, one.value, one.upper) for one in found), strict=True)
        )
        colour, marker = styles[rank]
        whole = Line(ALL_FACTS, ALL_FACTS, QUIET_COLOUR, "dash", "circle", THIN, xs, tuple(map(float, sizes)), (), (), cut_short=False)
        line = Line(f"rank {rank}", f"rank {rank}", colour, "solid", marker, THICK, xs, value, low, high, cut_short=False)
        panels.append(LinePanel(f"rank {rank}", (whole, line)))
    keys = (LineKey(ALL_FACTS, ALL_FACTS, QUIET_COLOUR, "dash"),)
    room = 0.2 if len(xs) > 1 else 0.5
    top = 1.05 * max(sizes)
    return LinePanels(
        "N (each step doubles it)",
        "facts packed",
        (xs[0] - room, xs[-1] + room),
        xs,  # type: ignore[arg-type]
        (-0.03 * top, top),
        tuple(panels),
        keys,
        tuple(f"{size:,}" for size in sizes),
    )
