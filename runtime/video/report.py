# SPDX-License-Identifier: Apache-2.0
"""What a film's conversion was like, shot by shot, and a page that shows it."""

from __future__ import annotations

import base64
import html
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from secondeye.runtime.files import atomic_write

if TYPE_CHECKING:
    from secondeye.runtime.converter import StereoFrame
    from secondeye.runtime.video.film import FilmReport

COMFORT_PERCENT = 3.0  # of the width: the whole range of disparity
_TYPICAL = 12  # a shot's frame that its pictures are of: what fades in has come by then
_THUMB_PX = 200


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A shot, or the part of one that lies in a segment.

    Attributes:
        first: its first frame's number in the film; seconds: when that is shown.
        frames: how many.
        begins: it begins with a cut (or with the film); otherwise it goes on from the segment before.
        low, high: its least and greatest disparity (1st and 99th percentile of a frame), percent of the width; over 0
            stands out of the screen.
        reach: from the one to the other in one frame, the widest.
        convergence: mean depth of the screen, 0 far to 1 near.
        window: the widest bar of a floating window, percent of the width.
        pictures: JPEG files in base64: the left view, depth in colour, an anaglyph.
    """

    first: int
    seconds: float
    frames: int
    begins: bool
    low: float
    high: float
    convergence: float
    window: float = 0.0
    pictures: tuple[str, ...] = ()
    reach: float = 0.0

    def joined(self, other: Shot) -> Shot:
        """This part and the next one of the same shot."""
        frames = self.frames + other.frames
        mean = (self.convergence * self.frames + other.convergence * other.frames) / frames
        longer = self if self.frames > _TYPICAL or other.frames <= self.frames else other
        return replace(
            self, frames=frames, low=min(self.low, other.low), high=max(self.high, other.high), convergence=mean,
            window=max(self.window, other.window), pictures=longer.pictures, reach=max(self.reach, other.reach),
        )  # fmt: skip


class ShotLog:
    """Takes a segment's frames in, one after another, as they are drawn."""

    def __init__(self) -> None:
        self._shots: list[Shot] = []

    def add(
        self, index: int, seconds: float, cut: bool, frame: StereoFrame, convergence: float, window: float = 0.0
    ) -> None:
        """A frame."""
        part = np.sort(frame.disparity[::8, ::8], axis=None) * np.float32(100.0 / frame.disparity.shape[1])
        low, high = (float(part[round(share * (part.size - 1))]) for share in (0.01, 0.99))
        last = self._shots[-1] if self._shots else None
        fresh = last is None or cut
        pictures = _pictures(frame) if last is None or cut or last.frames == _TYPICAL else ()
        one = Shot(
            first=index, seconds=seconds, frames=1, begins=cut, low=low, high=high, convergence=convergence,
            window=window, pictures=pictures, reach=high - low,
        )  # fmt: skip
        if fresh or last is None:
            self._shots.append(one)
        else:
            joined = last.joined(one)
            self._shots[-1] = replace(joined, pictures=pictures) if pictures else joined

    def shots(self) -> list[dict[str, Any]]:
        """For a segment's record."""
        return [asdict(one) for one in self._shots]


def joined_shots(records: list[list[dict[str, Any]]]) -> tuple[Shot, ...]:
    """A film's shots, from the records of its segments in order."""
    shots: list[Shot] = []
    for record in records:
        for values in record:
            one = Shot(**{**values, "pictures": tuple(values["pictures"])})
            if shots and not one.begins:
                shots[-1] = shots[-1].joined(one)
            else:
                shots.append(one)
    return tuple(shots)


def _pictures(frame: StereoFrame) -> tuple[str, ...]:
    from secondeye.runtime import ops
    from secondeye.runtime.preview import colour_map
    from secondeye.runtime.writers import encode_bytes

    height, width = frame.disparity.shape
    size = max(1, round(_THUMB_PX * height / width)), _THUMB_PX
    views = [v if v.dtype == np.uint8 else (v >> 8).astype(np.uint8) for v in (frame.left, frame.right)]
    left, right = (ops.resize(np.ascontiguousarray(v[:, :, :3]), *size) for v in views)
    depth = colour_map(frame.disparity[:: max(1, height // size[0]), :: max(1, width // size[1])])
    shown = (left, ops.resize(depth, *size), ops.anaglyph(left, right, "dubois-red-cyan"))
    return tuple(base64.b64encode(encode_bytes(one, ".jpg", quality=80)).decode() for one in shown)


def warnings_of(report: FilmReport) -> list[str]:
    """Sentences about what a viewer may find hard to look at."""
    told = []
    wide = [k for k, one in enumerate(report.shot_list, 1) if one.reach > COMFORT_PERCENT]
    if wide:
        told.append(f"Over the comfort limit of {COMFORT_PERCENT:g} % of the width: {_listed('shot', wide)}.")
    near = [k for k, one in enumerate(report.shot_list, 1) if one.high > COMFORT_PERCENT / 2]
    if near:
        told.append(
            f"Stands out of the screen by over {COMFORT_PERCENT / 2:g} % of the width: {_listed('shot', near)}."
        )
    cut = [k for k, one in enumerate(report.shot_list, 1) if one.window]
    if cut:
        told.append(f"A floating window stands before {_listed('shot', cut)}.")
    short = [k for k, one in enumerate(report.shot_list, 1) if one.frames < 12]
    if short:
        told.append(f"Too short to settle on its depth (under 12 frames): {_listed('shot', short)}.")
    return told


def _listed(what: str, numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:12])) + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")
    return f"{what}{'s' if len(numbers) > 1 else ''} {shown}"


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#1a1c20;background:#fff}
h1{font-size:1.5em;margin:0 0 .2em}h2{font-size:1.1em;margin:2em 0 .5em}p.sub{color:#5a606b;margin:0}
table{border-collapse:collapse;width:100%}td,th{padding:.35em .6em;text-align:left;vertical-align:middle}
tr+tr td,tr+tr th{border-top:1px solid #e3e5e9}th{color:#5a606b;font-weight:500;font-size:.85em}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}img{display:block;border-radius:3px;width:150px}
ul.w{background:#fff4e0;border-left:4px solid #d98e04;padding:.6em 1em .6em 2em;border-radius:3px}
.bar{background:#3d6fd9;height:.8em;border-radius:2px;min-width:1px}svg text{font:10px system-ui;fill:#5a606b}
@media(prefers-color-scheme:dark){body{background:#16181c;color:#e6e8ec}tr+tr td,tr+tr th{border-color:#2c3037}
p.sub,th{color:#9aa1ad}ul.w{background:#33270f}svg text{fill:#9aa1ad}}
"""


def write_report(path: str | os.PathLike[str], report: FilmReport, about: dict[str, str]) -> None:
    """Write a page, whole in one file.

    Args:
        path: of the page.
        report: of the film.
        about: facts for its head, by name.

    Raises:
        MediaError: it cannot be written.
    """
    total = sum(report.timings.values()) or 1.0
    stages = "".join(
        f"<tr><td>{html.escape(name)}</td><td class=n>{ms:.1f} ms</td>"
        f"<td style='width:60%'><div class=bar style='width:{100 * ms / total:.1f}%'></div></td></tr>"
        for name, ms in report.timings.items()
    )
    warned = warnings_of(report) + list(report.notes)
    facts = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in about.items())
    reach = max([COMFORT_PERCENT, *(max(abs(s.low), abs(s.high)) for s in report.shot_list)]) * 1.1
    shots = "".join(_row(k, one, reach) for k, one in enumerate(report.shot_list, 1))
    made = report.frames - report.reused
    speed = f", {made / report.seconds:.1f} frames/s" if made and report.seconds else ""
    page = f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{html.escape(report.output.name)}: how it was converted</title><style>{_STYLE}</style>
<h1>{html.escape(report.output.name)}</h1>
<p class=sub>{report.frames} frames, shots: {report.shots}, made in {report.seconds:.1f} s{speed}</p>
{f"<h2>To look at</h2><ul class=w>{''.join(f'<li>{html.escape(w)}</li>' for w in warned)}</ul>" if warned else ""}
<h2>Settings</h2><table>{facts}</table>
<h2>Shots</h2><table><tr><th>shot<th>from<th>length<th>disparity, % of the width (behind | out of the screen)
<th>left view<th>depth<th>anaglyph</tr>{shots}</table>
<h2>Time, a frame</h2>{f"<table>{stages}</table>" if stages else "<p>Every frame was there from a run before.</p>"}
<p class=sub>Stages of different threads overlap; the sum is more than a frame takes.</p></html>"""
    with atomic_write(path) as file:
        file.write(page.encode())


def _row(number: int, shot: Shot, reach: float) -> str:
    def x(percent: float) -> float:
        return 130 + 120 * percent / reach

    half = COMFORT_PERCENT / 2
    colour = "#d98e04" if shot.reach > COMFORT_PERCENT or shot.high > half else "#3d6fd9"
    wide = max(1.0, x(shot.high) - x(shot.low))
    chart = (
        f"<svg width=260 height=34><line x1=130 x2=130 y1=2 y2=22 stroke=#888 />"
        f"<rect x={x(-half):.1f} y=9 width={x(half) - x(-half):.1f} height=6 fill=#8884 />"
        f"<rect x={x(shot.low):.1f} y=7 width={wide:.1f} height=10 rx=2 fill={colour} />"
        f"<text x={x(shot.low):.1f} y=32 text-anchor=middle>{shot.low:+.1f}</text>"
        f"<text x={x(shot.high):.1f} y=32 text-anchor=middle>{shot.high:+.1f}</text></svg>"
    )
    images = "".join(f"<td><img alt='' src='data:image/jpeg;base64,{one}'></td>" for one in shot.pictures)
    return (
        f"<tr><td class=n>{number}<td class=n>{int(shot.seconds // 60)}:{shot.seconds % 60:05.2f}"
        f"<td class=n>{shot.frames} fr.<td>{chart}{images}</tr>"
    )
