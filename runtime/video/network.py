# SPDX-License-Identifier: Apache-2.0
"""A film from the network, copied to a file first: only where its owner said so."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from secondeye.runtime.errors import MediaError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.video.media import reason

_PROTOCOLS = "http,https,tcp,tls,hls,crypto,data"


def fetch_film(url: str, target: Path) -> Path:
    """Copy the streams of an http(s) address, playlists too, into a Matroska file beside the target.

    It is named by the address's hash, so that a conversion that was stopped finds it again.

    Raises:
        MediaError: it cannot be read, or the file not written.
    """
    import av

    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    target = target.with_name(f"{target.name}.{digest}.source.mkv")
    if target.exists():
        return target
    try:
        with (
            av.open(url, options={"protocol_whitelist": _PROTOCOLS}, timeout=(10.0, 30.0)) as source,
            atomic_write(target) as file,
            av.open(file, "w", format="matroska") as output,
        ):
            streams: dict[int, Any] = {
                s.index: output.add_stream_from_template(s)
                for s in source.streams
                if s.type in ("video", "audio", "subtitle")
            }
            for packet in source.demux([source.streams[i] for i in streams]):
                if packet.dts is not None:
                    packet.stream = streams[packet.stream_index]
                    output.mux(packet)
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{url}: cannot be fetched ({reason(error)}).") from error
    return target
