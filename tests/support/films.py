# SPDX-License-Identifier: Apache-2.0
"""Films put together of others' streams."""

import av

ASS_HEAD = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def with_text(path, film, text, language="eng"):
    """The film with a stream of text beside it."""
    with av.open(str(film)) as source, av.open(str(text)) as words, av.open(str(path), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        track = out.add_stream_from_template(words.streams.subtitles[0])
        track.metadata["language"] = language
        packets = [(p, video) for p in source.demux(video=0)] + [(p, track) for p in words.demux(subtitles=0)]
        packets = [one for one in packets if one[0].size]
        for packet, stream in sorted(
            packets, key=lambda one: -1 if one[0].dts is None else one[0].dts * one[0].time_base
        ):
            packet.stream = stream
            out.mux(packet)
    return path
