# SPDX-License-Identifier: Apache-2.0
"""SecondEye gives a flat picture its second eye.

The names below are the public ones; each is imported when it is first used, so ``import secondeye`` is cheap.

>>> import secondeye
>>> frame = secondeye.StereoConverter().convert("photo.jpg")  # doctest: +SKIP
>>> frame.right.shape  # doctest: +SKIP
(1080, 1920, 3)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "StereoConfig": "secondeye.runtime.config",
    "StereoConverter": "secondeye.runtime.converter",
    "StereoFrame": "secondeye.runtime.converter",
    "convert": "secondeye.runtime.converter",
    "FilmConfig": "secondeye.runtime.video.config",
    "Screen": "secondeye.runtime.comfort",
    "comfort_limit": "secondeye.runtime.comfort",
    "FilmReport": "secondeye.runtime.video.film",
    "convert_video": "secondeye.runtime.video.film",
    "Segmentation": "secondeye.runtime.segment",
    "Segmenter": "secondeye.runtime.segment",
    "SecondEyeError": "secondeye.runtime.errors",
    "InvalidInputError": "secondeye.runtime.errors",
    "ModelFormatError": "secondeye.runtime.errors",
    "EngineError": "secondeye.runtime.errors",
    "BackendUnavailableError": "secondeye.runtime.errors",
    "ResourceLimitError": "secondeye.runtime.errors",
    "MediaError": "secondeye.runtime.errors",
    "ExportError": "secondeye.runtime.errors",
    "InternalError": "secondeye.runtime.errors",
    "SessionError": "secondeye.runtime.errors",
    "FramePath": "secondeye.runtime.frame",
    "LiveConfig": "secondeye.runtime.live_config",
    "LiveFrame": "secondeye.runtime.live_config",
    "LiveSession": "secondeye.runtime.live",
    "ops": "secondeye.runtime.ops",
}

__all__ = ["__version__", *sorted(_HOMES)]

if TYPE_CHECKING:
    from secondeye.runtime import ops as ops
    from secondeye.runtime.comfort import Screen as Screen, comfort_limit as comfort_limit
    from secondeye.runtime.config import StereoConfig as StereoConfig
    from secondeye.runtime.converter import (
        StereoConverter as StereoConverter,
        StereoFrame as StereoFrame,
        convert as convert,
    )
    from secondeye.runtime.errors import (
        BackendUnavailableError as BackendUnavailableError,
        EngineError as EngineError,
        ExportError as ExportError,
        InternalError as InternalError,
        InvalidInputError as InvalidInputError,
        MediaError as MediaError,
        ModelFormatError as ModelFormatError,
        ResourceLimitError as ResourceLimitError,
        SecondEyeError as SecondEyeError,
        SessionError as SessionError,
    )
    from secondeye.runtime.frame import FramePath as FramePath
    from secondeye.runtime.live import LiveSession as LiveSession
    from secondeye.runtime.live_config import LiveConfig as LiveConfig, LiveFrame as LiveFrame
    from secondeye.runtime.segment import Segmentation as Segmentation, Segmenter as Segmenter
    from secondeye.runtime.video.film import (
        FilmConfig as FilmConfig,
        FilmReport as FilmReport,
        convert_video as convert_video,
    )


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'secondeye' has no attribute {name!r}")
    module = import_module(home)
    value = module if home.endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
