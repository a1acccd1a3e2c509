# SPDX-License-Identifier: Apache-2.0
"""The pages that latency's ``--html`` writes: one file, plots as SVG, nothing loaded from anywhere."""

from __future__ import annotations

import html
from typing import Any

STAGES = ("look", "depth", "warp", "pack", "total", "depth_age")
_MEANING = {
    "look": "small grey picture, motion, carrying depth", "depth": "the network", "warp": "disparity, warp, fill",
    "pack": "layout", "total": "submit to ready", "depth_age": "of the depth that a frame used",
}  # fmt: skip
_UNITS = {"gflop": "GFLOP", "mbytes": "MB"}
_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#23211d, #e8e6e1); --quiet: light-dark(#6b675f, #9a978f);
  --line: light-dark(#ddd9d0, #37352f); --bar: light-dark(#b06a00, #e0a43a); --first: light-dark(#2c6e8f, #6fb3d2);
  --last: light-dark(#6d7a2c, #b3c063); --page: light-dark(#fbfaf7, #181714); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2.5rem auto; max-width: 50rem; padding: 0 1rem; color: var(--ink);
  background: var(--page); }
h1 { font-size: 1.5rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .3rem; }
p { margin: .3rem 0; } .quiet { color: var(--quiet); }
.figures { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: .8rem 0; padding: 0; list-style: none; }
.figures b { display: block; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .8rem 0; }
td, th { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; } th { font-weight: 600; }
figure { margin: 1.4rem 0; } figcaption { color: var(--quiet); margin-bottom: .3rem; }
svg { width: 100%; display: block; } rect { fill: var(--bar); } line { stroke: var(--line); }
.encode { fill: var(--first); } .decode { fill: var(--last); }
.key svg { display: inline; width: .8em; height: .8em; }
.wide, .scroll { overflow-x: auto; } .wide :is(td, th):is(:nth-child(2), :nth-child(4)) { text-align: left; }
.wide td, .wide th { white-space: nowrap; padding: .25rem .4rem; }
text { font: 12px system-ui, sans-serif; fill: var(--quiet); }
"""


def _bars(values: list[float], labels: list[str], title: str, unit: str, below: str) -> str:
    """A bar chart with a scale of four lines."""
    width, height, left = 700, 170, 44
    most = max([*values, 1e-9])
    step, every = (width - left) / max(1, len(values)), max(1, (len(values) + 11) // 12)
    parts = [
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {width} {height + 40}" role="img" aria-label="{html.escape(title)}">'
    ]
    for share in (0.0, 0.5, 1.0):
        y = 10 + height * (1 - share)
        parts.append(f'<line x1="{left}" x2="{width}" y1="{y:g}" y2="{y:g}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:g}" text-anchor="end">{most * share:.3g}</text>')
    for k, value in enumerate(values):
        tall = height * value / most
        parts.append(
            f'<rect x="{left + k * step:.1f}" y="{10 + height - tall:.1f}" width="{max(0.6, step * 0.86):.1f}" '
            f'height="{tall:.1f}"><title>{html.escape(labels[k])}: {value:g} {html.escape(unit)}</title></rect>'
        )
        end = k == len(values) - 1  # a histogram's last bin may be open: its label says so
        if end or (k % every == 0 and k + every < len(values)):
            at = 'text-anchor="end" ' if end and k else ""
            x = left + (k + bool(at)) * step
            parts.append(f'<text {at}x="{x:.1f}" y="{height + 25}">{html.escape(labels[k])}</text>')
    parts.append(f'<text x="{width}" y="{height + 38}" text-anchor="end">{html.escape(below)}</text></svg></figure>')
    return "".join(parts)


def _trimmed(spread: dict[str, Any]) -> tuple[list[float], list[str]]:
    """A histogram without the empty bins at its ends."""
    counts, edges = spread["counts"], spread["edges"]
    used = [k for k, n in enumerate(counts) if n] or [0]
    first, last = max(0, used[0] - 1), min(len(counts), used[-1] + 2)
    labels = [f"{e:g}" for e in edges]
    labels[-1] += "+"
    return counts[first:last], labels[first:last]


def _power(power: dict[str, Any]) -> str:
    parts = [
        f"{name.replace('_', ' ')}: {v['mean']:g} ({v['min']:g} to {v['max']:g})"
        for name, v in power.items()
        if name != "not_read"
    ]
    absent = power.get("not_read", [])
    return "; ".join(parts) + (f". Not read: {', '.join(absent)}." if absent else ".")


def _row(row: dict[str, Any]) -> list[str]:
    every = row["depth_every"] or "so often as it can be had, on the side"
    asked = f"{row['fps_in']:g} frames/s in" if row["fps_in"] else "as many frames as go"
    extras = [name for name in ("stall", "changes", "remember") if row.get(name)]
    told = {"stall": "the consumer stalls at random", "changes": "parameters change every frame",
            "remember": "the background is remembered"}  # fmt: skip
    parts = [
        f"<h2>{row['size']}, depth {'every ' + str(every) if row['depth_every'] else every}</h2>",
        f'<p class="quiet">{html.escape(str(row["depth"]))}, {asked}, {row["seconds"]:g} s'
        + "".join(f"; {told[name]}" for name in extras),
        '<ul class="figures">'
        + "".join(
            f"<li><b>{value}</b>{label}"
            for value, label in (
                (f"{row['fps_out']:g}", "frames/s out"), (f"{row['p50_ms']:g} ms", "median, submit to ready"),
                (f"{row['p99_ms']:g} ms", "p99"), (f"{row['dropped']}", "dropped"),
                (f"{row['memory_grew_mib']:+g} MiB", "memory, after 2 s to the end"),
            )
        ) + "</ul>",
        f'<p class="quiet">Opened in {row["open_ms"]:g} ms, first frame after {row["first_frame_ms"]:g} ms; '
        f"{row['cores_used']:g} cores; the session's buffers {row['session_mib']:g} MiB. "
        + _power(row.get("power", {})),
        "<div class=scroll><table>"
        "<tr><th>stage, ms<th>p50<th>p90<th>p99<th>max<th>counted<th>share of this machine's limit</tr>",
    ]  # fmt: skip
    for name in STAGES:
        s, counted = row["stages"][name], row.get("counted", {}).get(name, {})
        work = ", ".join(f"{v:g} {_UNITS[k]}" for k, v in counted.items() if k != "share")
        share = f"{100 * counted['share']:.0f} %" if "share" in counted else ""
        parts.append(
            f'<tr><td title="{_MEANING[name]}">{name.replace("_", " ")}<td>{s["p50"]:g}<td>{s["p90"]:g}'
            f"<td>{s['p99']:g}<td>{s['max']:g}<td>{work}<td>{share}</tr>"
        )
    parts.append(
        "</table></div><p class=quiet>Shares: of a float32 matrix product's speed, and of a copy's between buffers "
        "that fit no cache; what works in the cache can exceed it."
    )
    parts.append(_bars(*_trimmed(row["histogram_ms"]), "How long frames take, submit to ready", "frames", "ms"))
    if "jitter_ms" in row:
        title = "Jitter: time between one picture and the next"
        parts.append(_bars(*_trimmed(row["jitter_ms"]), title, "frames", "ms"))
    if len(row["series"]) > 1:
        seconds = [str(k + 1) for k in range(len(row["series"]))]
        for key, title in (("p99_ms", "p99 of every second, ms"), ("fps", "Frames in every second")):
            parts.append(_bars([s[key] for s in row["series"]], seconds, title, "", "second of the run"))
    return parts


def _head(title: str, heading: str, about: str, result: dict[str, Any]) -> list[str]:
    facts = {**result["machine"], **result["peaks"]}
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>SecondEye: {title}</title><style>{_STYLE}</style><h1>{heading}</h1>",
        f"<p>{about}",
        '<p class="quiet">' + html.escape(", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in facts.items())) + ".",
    ]
    if result["machine"].get("load", 0) > 0.5:
        parts.append(
            f"<p><b>The machine was at work on other things too</b> (load {result['machine']['load']} per core)."
        )
    return parts


def page(result: dict[str, Any]) -> str:
    """The results as one page."""
    about = "From the call that hands a frame in to the moment when its stereo picture is ready, on this machine:"
    parts = _head("latency", "How long a frame takes", about, result)
    for row in result["results"]:
        parts += _row(row)
    return "\n".join(parts) + "</html>\n"


_PARTS = (("to latents", "encode", "encode"), ("denoise", "denoise", "denoise"), ("to pixels", "decode", "decode"))


def _stacked(rows: list[dict[str, Any]]) -> str:
    """Each row's median as a bar of its stages; what lies between them is left empty."""
    width, left, right, tall = 700, 130, 80, 26
    most = max(row["stages"]["all"]["p50_ms"] for row in rows) or 1e-9
    parts = [f'<svg viewBox="0 0 {width} {tall * len(rows)}" role="img" aria-label="Milliseconds of every stage">']
    for k, row in enumerate(rows):
        x, y, whole = float(left), k * tall, row["stages"]["all"]["p50_ms"]
        name = f"{row['steps']} step{'s' if row['steps'] > 1 else ''}, {row['tiles']}"
        parts.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{html.escape(name)}</text>')
        for stage, label, style in _PARTS:
            value = row["stages"][stage]["p50_ms"]
            long = (width - left - right) * value / most
            parts.append(
                f'<rect class="{style}" x="{x:.1f}" y="{y + 3}" width="{max(0.0, long - 1):.1f}" height="{tall - 8}">'
                f"<title>{label}: {value:g} ms</title></rect>"
            )
            x += long
        end = left + (width - left - right) * whole / most
        parts.append(f'<text x="{end + 6:.1f}" y="{y + 16}">{whole / 1000:.3g} s</text>')
    return "".join(parts) + "</svg>"


def _quality_rows(rows: list[dict[str, Any]]) -> list[str]:
    parts = [
        "<div class=wide><table><tr><th>steps<th>tiles<th>runs<th>stage<th>p50, ms<th>p99, ms<th>GFLOP<th>GB"
        "<th>of matmul<th>of copy<th>faster</tr>"
    ]
    for row in rows:
        for stage, label in (*((s, name) for s, name, _ in _PARTS), ("all", "all")):
            one, first = row["stages"][stage], stage == _PARTS[0][0]
            shares = [f"{100 * one[k]:.0f} %" if k in one else "" for k in ("share_of_matmul", "share_of_copy")]
            faster = f"{row['speedup']:.2f} x" if stage == "all" and "speedup" in row else ""
            cells = (
                f"{row['steps']} ({row['scheduler']})" if first else "", row["tiles"] if first else "",
                str(row["runs"]) if first else "", label,
                f"{one['p50_ms']:g}", f"{one['p99_ms']:g}", f"{one['gflop']:g}", f"{one['gb']:g}", *shares, faster,
            )  # fmt: skip
            parts.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}" for cell in cells) + "</tr>")
    return [*parts, "</table></div>"]


def _quality_notes(rows: list[dict[str, Any]]) -> list[str]:
    parts = []
    for row in rows:
        steps = f"{row['steps']} step{'s' if row['steps'] > 1 else ''}"
        if "from_another_seed" in row:
            apart = row["from_another_seed"]["mean"]
            parts.append(f"{steps}: another seed of the noise is {apart:g} levels of 255 away, in what is painted.")
        if "from_dense" in row:
            parts.append(
                f"{steps}: sparse, the model saw {100 * row['tiles_of_picture']:.0f} % of the picture; what is painted "
                f"is {row['from_dense']['mean']:g} levels from the dense one's."
                + (f" {row['note']}" if row["note"] else "")
            )
    return ['<p class="quiet">' + "<br>".join(map(html.escape, parts))] if parts else []


def quality_page(result: dict[str, Any]) -> str:
    """The results of quality mode as one page."""
    about = (
        f"A right view of {result['size']}, painted by {html.escape(result['bundle'])} at {result['model_size']} "
        f"({result['precision']}, {result['device']}, {result['bundle_gb']:g} GB): the whole picture (dense), and "
        "tiles round what the eye newly sees (sparse)."
    )
    parts = _head("latency of quality mode", "How long a painted view takes", about, result)
    if result["random_weights"]:
        parts.append(
            "<p><b>The weights are random</b>: time and work are those of networks of this size, pictures are nobody's."
        )
    key = ", ".join(
        f'<svg viewBox="0 0 8 8"><rect class="{c}" width="8" height="8"/></svg> {name}' for _, name, c in _PARTS
    )
    for picture in dict.fromkeys(row["picture"] for row in result["results"]):
        rows = [row for row in result["results"] if row["picture"] == picture]
        parts.append(
            f"<h2>{html.escape(picture)}, {100 * rows[0]['share_to_paint']:.1f} % to paint</h2>"
            f'<figure><figcaption class="key">Median of the runs: {key}; to the number: all of it'
            f"</figcaption>{_stacked(rows)}</figure>"
        )
        parts += _quality_rows(rows) + _quality_notes(rows)
    parts.append(
        "<p class=quiet>GFLOP and GB: multiplications and additions of convolutions and matrix products, and their "
        "weights, inputs and outputs once each. Shares: of a float32 matrix product's and a copy's speed, measured "
        "beside; both are told for the CPU alone. p99 of fewer than a hundred runs is little less than the greatest."
    )
    return "\n".join(parts) + "</html>\n"
